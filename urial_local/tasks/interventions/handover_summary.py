"""What a run of handovers says: for each model that goes on, in each context, by how much it was
given.

Compared is with the other model's own answer, of which the given tokens are: how many further
tokens are the same before the first difference, the word F1 of what was written to the rest of that
answer, and the divergence of the two models over it (see tasks.interventions.agreement). Answers
that were handed over whole count for how they end, their flags and their length, and in nothing
that compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urial_local.records.runlog import write_json
from urial_local.records.runs import FailedRow, RunRows, read_run
from urial_local.tasks.interventions.agreement import same_tokens, word_f1
from urial_local.tasks.interventions.handover_record import (
    KEY,
    Divergences,
    HandedOver,
    HandoverConfig,
    other_context,
)
from urial_local.tasks.interventions.pair import SIDES, other
from urial_local.tasks.interventions.points import Point, Told, point

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Curve:
    """One model going on, in one context."""

    goes_on: str
    context: str
    points: dict[str, Point]  # by how much it was given
    whole: dict[str, int]  # answers that were handed over whole


@dataclass(frozen=True, slots=True)
class HandoverSummary:
    curves: tuple[Curve, ...]
    answers: int
    errors: tuple[FailedRow, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "curves": [
                {
                    "goes_on": c.goes_on,
                    "context": c.context,
                    "points": {a: p.as_json() for a, p in c.points.items()},
                    "whole": c.whole,
                }
                for c in self.curves
            ],
            "errors": [{"id": e.id, "error": e.error} for e in self.errors],
            "config": dict(self.config),
        }


class HandoverRun:
    """A run folder as it stands at one moment."""

    def __init__(self, folder: Path) -> None:
        """Raises UsageError for another kind of run, RunError for damaged rows."""
        self.folder = folder
        self.info = read_run(folder)
        self.config = HandoverConfig.of(self.info)
        self._rows = RunRows(folder, KEY, HandedOver.read)

    def errors(self) -> list[FailedRow]:
        return self._rows.errors()

    def rows(self) -> dict[Key, HandedOver]:
        return {(r.goes_on, r.context, r.after, r.id): r for r in self._rows}

    def places(self) -> Iterator[tuple[str, str]]:
        """(who goes on, the base's context)."""
        for side in SIDES:
            for context in self.config.contexts:
                yield side, context


def write_summary(run: HandoverRun) -> HandoverSummary:
    """Make `summary.json` from the rows; returns what it says."""
    rows = run.rows()
    curves = tuple(_curve(rows, side, context, run.config.after) for side, context in run.places())
    summary = HandoverSummary(curves, len(rows), tuple(run.errors()), run.info.config)
    write_json(run.folder / "summary.json", summary.as_json())
    return summary


def _curve(rows: Mapping[Key, HandedOver], side: str, context: str, after: Iterable[str]) -> Curve:
    points, whole = {}, {}
    for place in after:
        there = at(rows, side, context, place)
        points[place] = point(told(row, rows, context) for row in there)
        whole[place] = sum(row.whole for row in there)
    return Curve(side, context, points, whole)


def at(rows: Mapping[Key, HandedOver], side: str, context: str, after: str) -> list[HandedOver]:
    """The rows of one point, by number. A model's own answer may have been made without a
    context."""
    wanted = "" if side == "aligned" and after == "0" else context
    found = [r for (s, c, a, _), r in rows.items() if (s, c, a) == (side, wanted, after)]
    return sorted(found, key=lambda row: row.number)


def told(row: HandedOver, rows: Mapping[Key, HandedOver], context: str) -> Told:
    """`context`: the base's, in which the other answer was made or this one is."""
    plain = Told(
        row.id,
        row.ended,
        row.flags,
        len(row.answer_ids),
        len(row.answer_ids) - row.given,
    )
    side = "base" if row.goes_on == "base" else "aligned"
    source = rows.get((other(side), other_context(side, context), "0", row.id))  # type: ignore[arg-type]
    if source is None or row.whole:
        return plain
    same, identical = same_tokens(
        row.answer_ids, row.ended, source.answer_ids, source.ended, row.given
    )
    divergences = row.divergences.get(context, Divergences())
    return Told(
        plain.id,
        plain.ended,
        plain.flags,
        plain.tokens,
        plain.written,
        same,
        identical,
        word_f1(row.answer[row.given_characters :], source.answer[row.given_characters :]),
        divergences.kl_base_aligned,
        divergences.kl_aligned_base,
        divergences.tokens,
    )
