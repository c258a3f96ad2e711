"""A row of `shift --swap`: an answer of one model with some tokens of the other's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from urial_local.base.errors import UsageError
from urial_local.records.columns import Column, column
from urial_local.records.generated import ModelFacts, PromptFacts
from urial_local.records.runs import RunInfo
from urial_local.records.typed import Count, Malformed, read_as
from urial_local.tasks.shift.record import IDS, AlignedFacts, SamplingFacts

TASK = "shift-swap"
KEY = ("context", "arm", "id")
WRITER, OTHER, CONTROL = "writer", "other", "random as "  # arms; the last with a criterion
_AT = Column(True, 0, 2**31 - 1)
_VALUE = Column(False, -1e30, 1e30)


@dataclass(frozen=True, slots=True)
class SwapConfig:
    """What summaries and pages say of a run."""

    base: ModelFacts
    aligned: AlignedFacts
    contexts: Mapping[str, PromptFacts]
    writer: Literal["base", "aligned"]
    criteria: tuple[str, ...]
    budget: str
    sampling: SamplingFacts
    max_tokens: Count

    @staticmethod
    def of(info: RunInfo) -> SwapConfig:
        """Raises UsageError for another kind of run, and for a run.json that is damaged."""
        if info.task != TASK:
            raise UsageError(f"{info.folder} is a run of {info.task!r}, not of swaps.")
        return info.config_as(SwapConfig)


@dataclass(frozen=True, slots=True)
class Swapped:
    """A row read back."""

    id: str
    number: Count
    context: str  # the base model's; empty for the aligned model's own answer
    arm: str
    query: str
    answer: str
    ended: bool
    finish_reason: str
    answer_ids: tuple[int, ...]
    positions: Count  # tokens that were chosen, an end among them
    at: tuple[int, ...] = ()  # positions that were swapped
    values: tuple[float, ...] = ()  # the criterion's there
    instead: tuple[int, ...] = ()  # the writer's most probable tokens there
    put: tuple[int, ...] = ()  # what was written there
    spans: tuple[tuple[int, ...], ...] = ()  # characters of the answer, from and to
    flags: tuple[str, ...] = ()

    @staticmethod
    def read(row: Mapping[str, Any]) -> Swapped:
        """Raises Malformed for a row that is none."""
        column(row.get("answer_ids"), "answer_ids", IDS)
        for name in ("at", "values", "instead", "put"):
            if row.get(name) is not None:
                column(row[name], name, _VALUE if name == "values" else _AT)
        found = read_as(Swapped, row)
        if not len(found.at) == len(found.values) == len(found.instead) == len(found.put):
            raise Malformed("at, values, instead and put must be as long as each other")
        if found.at and max(found.at) >= found.positions:
            raise Malformed(f"at must be below {found.positions:,}")
        if any(len(span) != 2 for span in found.spans):
            raise Malformed("spans must be pairs")
        return found

    @property
    def rate(self) -> float:
        """Share of the positions that were swapped."""
        return len(self.at) / self.positions if self.positions else 0.0

    @property
    def changed(self) -> int:
        """Swapped positions at which the token is not the writer's most probable one."""
        return sum(a != b for a, b in zip(self.put, self.instead, strict=True))
