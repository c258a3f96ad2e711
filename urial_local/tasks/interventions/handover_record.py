"""A row of `shift --handover`: an answer that one model began and the other went on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from urial_local.base.errors import UsageError
from urial_local.records.columns import column
from urial_local.records.generated import ModelFacts, PromptFacts
from urial_local.records.runs import RunInfo
from urial_local.records.typed import Count, Malformed, read_as
from urial_local.tasks.interventions.pair import Side, Source
from urial_local.tasks.shift.record import IDS, AlignedFacts, SamplingFacts

TASK = "shift-handover"
KEY = ("goes_on", "context", "after", "id")


@dataclass(frozen=True, slots=True)
class HandoverConfig:
    """What summaries and pages say of a run."""

    base: ModelFacts
    aligned: AlignedFacts
    contexts: Mapping[str, PromptFacts]
    after: tuple[str, ...]
    sampling: SamplingFacts
    max_tokens: Count

    @staticmethod
    def of(info: RunInfo) -> HandoverConfig:
        """Raises UsageError for another kind of run, and for a run.json that is damaged."""
        if info.task != TASK:
            raise UsageError(f"{info.folder} is a run of {info.task!r}, not of handovers.")
        return info.config_as(HandoverConfig)


@dataclass(frozen=True, slots=True)
class Divergences:
    """Means over the tokens that were written after the handover, nats."""

    kl_base_aligned: float | None = None
    kl_aligned_base: float | None = None
    tokens: Count = 0


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A row read back."""

    id: str
    number: Count
    goes_on: Literal["base", "aligned"]
    context: str  # the base model's; empty for the aligned model's own answer
    after: str  # see tasks.interventions.prefix
    query: str
    given: Count  # tokens that the other had written
    given_characters: Count  # of the answer
    whole: bool  # the other's answer had no more, so nothing was left to go on with
    answer: str
    ended: bool
    finish_reason: str
    answer_ids: tuple[int, ...]
    flags: tuple[str, ...] = ()
    divergences: Mapping[str, Divergences] = field(default_factory=dict)  # by context

    @staticmethod
    def read(row: Mapping[str, Any]) -> HandedOver:
        """Raises Malformed for a row that is none."""
        column(row.get("answer_ids"), "answer_ids", IDS)
        found = read_as(HandedOver, row)
        if found.given > len(found.answer_ids) or found.given_characters > len(found.answer):
            raise Malformed("more is given than the answer has")
        return found

    @property
    def source(self) -> Source:
        return Source(self.answer_ids, self.ended)

    @property
    def own(self) -> bool:
        """Whether it is a model's own answer, which others are made of."""
        return self.after == "0"


def other_context(goes_on: Side, context: str) -> str:
    """The context of the other model's own answer."""
    return "" if goes_on == "base" else context
