"""Rows and configuration of a run of `generate`, as they are read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from urial_local.records.typed import Count, Malformed, read_as


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of several answers to a question."""

    answer: str


@dataclass(frozen=True, slots=True)
class GuideFacts:
    """What a guide did to an answer; see runtime.guidance."""

    rate: float
    spans: tuple[tuple[Count, ...], ...] = ()  # characters of the answer, from and to
    at: tuple[Count, ...] = ()  # places of its tokens among the answer's


@dataclass(frozen=True, slots=True)
class AnsweredTurn:
    """A question with the answer that was taken."""

    query: str
    answer: str
    finish_reason: str  # see runtime.rows.Completion
    completion_tokens: Count
    prompt_tokens: Count = 0
    prefill_tokens: Count = 0  # of the completion's, those that the answer was begun with
    mean_logprob: float | None = None  # nats
    flags: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()  # where several were asked for
    guide: GuideFacts | None = None  # where there was one


@dataclass(frozen=True, slots=True)
class Generated:
    """One question, or dialogue, with its answers. An error row has no turns."""

    id: str
    number: Count  # of the row in its dataset
    query: str = ""
    repeat: Count = 0
    flags: tuple[str, ...] = ()  # of all turns
    error: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)  # what the dataset said
    turns: tuple[AnsweredTurn, ...] = ()

    @property
    def answer(self) -> str:
        """To the first question; empty in an error row."""
        return self.turns[0].answer if self.turns else ""

    @staticmethod
    def read(row: Mapping[str, Any]) -> Generated:
        """A row of rows.jsonl. Raises Malformed."""
        found = read_as(Generated, row)
        if found.error:
            return replace(found, turns=())
        if row.get("turns") is None:  # no dialogue: the row itself is its turn
            return replace(found, turns=(read_as(AnsweredTurn, row),))
        if not found.turns:
            raise Malformed("turns must not be empty")
        return found


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What a run says of an adapter of a model; see runtime.adapters."""

    kind: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a run says of a model; see tasks.model_file."""

    name: str
    file: str = ""
    title: str = ""
    quantisation: str = ""
    fingerprint: str = ""
    adapters: tuple[AdapterFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptFacts:
    """What a run says of a prompt."""

    name: str
    sha: str = ""


@dataclass(frozen=True, slots=True)
class GenerateConfig:
    """What pages and exports say of a run. `prompt` is a text where the context decided."""

    model: ModelFacts
    prompt: PromptFacts | str = "auto"
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt_name(self) -> str:
        return self.prompt.name if isinstance(self.prompt, PromptFacts) else self.prompt
