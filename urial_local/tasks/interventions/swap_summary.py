"""What a run of swaps says, for each context and arm: how much was swapped, what became of the
answers, and how far they came towards the other model's own ones.

Over the answers of an arm: `swapped` is the share of positions (an answer's end among them) that
were swapped, `changed` the share at which that put another token than the writer's most probable
one, `value` the mean of the criterion where it was swapped. Compared is with the other model's own
answer: tokens that are the same before the first difference, and word F1 (see
tasks.interventions.agreement).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urial_local.records.runlog import write_json
from urial_local.records.runs import FailedRow, RunRows, read_run
from urial_local.tasks.intervals import SHARE
from urial_local.tasks.interventions.agreement import same_tokens, word_f1
from urial_local.tasks.interventions.pair import other
from urial_local.tasks.interventions.points import NONE, Mean, Point, Told, mean, point
from urial_local.tasks.interventions.swap_record import (
    CONTROL,
    KEY,
    OTHER,
    WRITER,
    SwapConfig,
    Swapped,
)

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Arm:
    """Answers of one context that were made in one way."""

    context: str
    name: str
    point: Point
    swapped: Mean = NONE  # share of positions
    changed: Mean = NONE  # share of positions
    value: float | None = None


@dataclass(frozen=True, slots=True)
class SwapSummary:
    arms: tuple[Arm, ...]
    answers: int
    errors: tuple[FailedRow, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "arms": [
                {
                    "context": arm.context,
                    "arm": arm.name,
                    "swapped": arm.swapped.as_json(),
                    "changed": arm.changed.as_json(),
                    "value": arm.value,
                    **arm.point.as_json(),
                }
                for arm in self.arms
            ],
            "errors": [{"id": e.id, "error": e.error} for e in self.errors],
            "config": dict(self.config),
        }


class SwapRun:
    """A run folder as it stands at one moment."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for another kind of run, RunError for damaged rows."""
        self.folder = folder
        self.info = read_run(folder)
        self.config = SwapConfig.of(self.info)
        self._rows = RunRows(folder, KEY, Swapped.read)

    def errors(self) -> list[FailedRow]:
        return self._rows.errors()

    def rows(self) -> dict[Key, Swapped]:
        return {(r.context, r.arm, r.id): r for r in self._rows}

    def arms(self) -> Iterator[str]:
        """In the order of a table."""
        yield WRITER
        for name in self.config.criteria:
            yield name
            if name != "random":
                yield CONTROL + name
        yield OTHER

    def home(self, arm: str, context: str) -> str:
        """The context under which an arm's rows stand: a model's own answers may have none."""
        side = self.config.writer if arm == WRITER else other(self.config.writer)
        return "" if arm in (WRITER, OTHER) and side == "aligned" else context


def write_summary(run: SwapRun) -> SwapSummary:
    """Make `summary.json` from the rows; returns what it says."""
    rows = run.rows()
    arms = tuple(
        _arm(run, rows, context, name) for context in run.config.contexts for name in run.arms()
    )
    summary = SwapSummary(arms, len(rows), tuple(run.errors()), run.info.config)
    write_json(run.folder / "summary.json", summary.as_json())
    return summary


def _arm(run: SwapRun, rows: Mapping[Key, Swapped], context: str, name: str) -> Arm:
    home = run.home(name, context)
    there = [row for (c, arm, _), row in rows.items() if (c, arm) == (home, name)]
    goal = run.home(OTHER, context)
    found = point(_told(row, rows.get((goal, OTHER, row.id))) for row in there)
    if name in (WRITER, OTHER):
        return Arm(context, name, found)
    positions = [float(row.positions) for row in there]
    values = [value for row in there for value in row.values]
    return Arm(
        context,
        name,
        found,
        mean([row.rate for row in there], positions, SHARE),
        mean([row.changed / max(1, row.positions) for row in there], positions, SHARE),
        sum(values) / len(values) if values else None,
    )


def _told(row: Swapped, goal: Swapped | None) -> Told:
    plain = Told(row.id, row.ended, row.flags, len(row.answer_ids), len(row.answer_ids))
    if goal is None:
        return plain
    same, identical = same_tokens(row.answer_ids, row.ended, goal.answer_ids, goal.ended, 0)
    return Told(
        plain.id,
        plain.ended,
        plain.flags,
        plain.tokens,
        plain.written,
        same,
        identical,
        word_f1(row.answer, goal.answer),
    )
