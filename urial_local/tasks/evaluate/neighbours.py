"""How far a local judge's scores hang on the answers that were judged beside them.

Rows that are decoded in one batch share its shape, and sums in another order round otherwise: near
a tie the judge may take another word, and after it another score. So a few answers of a run are
judged again alone in the end, and the run says what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from urial_local.base.formats import counted
from urial_local.tasks.evaluate.judge import Judge, Question, Verdict
from urial_local.tasks.evaluate.modes import Mode

ONE_IN, AT_MOST = 32, 16  # answers that are judged again, of those judged
BELIEVED = 1e9  # no figure is larger, in a file that somebody may have changed
PREFIX = "alone_"  # of the figures among a start's in run.json


@dataclass(frozen=True, slots=True)
class Effect:
    """What changed for answers that were judged again alone."""

    answers: int = 0
    scores: int = 0  # places with options: scores, choices of pairs, tags
    differ: int = 0  # of them with another option
    total: float = 0.0  # Σ |difference| over scores that are numbers both times
    furthest: float = 0.0  # the largest of these differences
    expected: float = 0.0  # the same of expected scores

    def __add__(self, other: Effect) -> Effect:
        return Effect(
            self.answers + other.answers,
            self.scores + other.scores,
            self.differ + other.differ,
            self.total + other.total,
            max(self.furthest, other.furthest),
            max(self.expected, other.expected),
        )

    def figures(self) -> dict[str, float]:
        """As a start's figures in run.json."""
        return {PREFIX + name: round(value, 6) for name, value in asdict(self).items()}

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "said": self.said()}

    def said(self) -> str:
        """For a person, in a line."""
        text = f"Judged again alone, {counted(self.answers, 'answer')}:"
        text += f" {self.differ:,} of {self.scores:,} scores came out differently"
        if self.furthest:
            text += f", by {self.furthest:g} at most, {self.total / self.scores:.2g} on average"
        if self.expected:
            text += f"; expected scores by up to {self.expected:.2g}"
        if not self.differ and not self.expected:
            return text + "."
        return text + ". They depend on what is judged beside them; `exact` judges one by one."


def sample(questions: Sequence[Question]) -> list[Question]:
    """One in 32 of them, at least one and at most 16, spread evenly."""
    n = min(AT_MOST, -(-len(questions) // ONE_IN))
    return [questions[(2 * i + 1) * len(questions) // (2 * n)] for i in range(n)]


def judged_alone(
    judge: Judge, questions: Iterable[Question], before: Mapping[tuple[str, ...], Verdict]
) -> Iterator[Effect]:
    """The effect on each question that has a verdict without an error both times, one after
    another. Raises as the judge does."""
    for question in questions:
        first = before.get(question.key)
        if first is None or first.error:
            continue
        for alone in judge.judge([question]):
            if not alone.error:
                yield effect(question.mode, first, alone)


def effect(mode: Mode, first: Verdict, alone: Verdict) -> Effect:
    """The difference between two verdicts on one question."""
    pairs = [
        (_at(first.record, place.path), _at(alone.record, place.path))
        for place in mode.places
        if place.options
    ]
    apart = [
        abs(x - y)
        for a, b in pairs
        if mode.scored and (x := _number(a)) is not None and (y := _number(b)) is not None
    ]
    expected = [
        abs(value - alone.expected[name])
        for name, value in first.expected.items()
        if name in alone.expected
    ]
    return Effect(
        answers=1,
        scores=len(pairs),
        differ=sum(a != b for a, b in pairs),
        total=sum(apart),
        furthest=max(apart, default=0.0),
        expected=max(expected, default=0.0),
    )


def measured(sessions: Iterable[Mapping[str, Any]]) -> Effect | None:
    """What a run's starts measured, taken together; None where none did."""
    found = Effect()
    for session in sessions:
        figures = {field.name: session.get(PREFIX + field.name, 0) for field in fields(Effect)}
        if all(isinstance(v, int | float) and 0 <= v <= BELIEVED for v in figures.values()):
            found += Effect(**figures)
    return found if found.answers else None


def _at(record: Any, path: Sequence[str]) -> Any:
    for name in path:
        record = record[name]
    return record


def _number(text: str) -> float | None:
    return float(text) if text.isdigit() else None
