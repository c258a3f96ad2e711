"""What judgements of general and safety rows amount to, as records.

`as_json` is the record as it stands in summary.json (docs/evaluation.md). A mean or a share of
nothing is None, and so is an interval that cannot be given (see tasks.intervals).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from urial_local.tasks.intervals import Interval, ends

NotApplicable = Literal["five", "drop", "three"]
JudgesByMode = Mapping[str, Sequence[str]]
FLAGS = ("empty", "runaway", "repetitive", "truncated")  # see tasks.generate.flags


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of n scores and its 95 % interval over questions."""

    mean: float | None
    interval: Interval | None
    n: int

    def as_json(self) -> dict[str, object]:
        return {"mean": self.mean, **ends(self.interval), "n": self.n}


@dataclass(frozen=True, slots=True)
class Average:
    """The unweighted mean of the six aspects' means, and its 95 % interval."""

    mean: float
    interval: Interval | None

    def as_json(self) -> dict[str, object]:
        return {"mean": self.mean, **ends(self.interval)}


@dataclass(frozen=True, slots=True)
class AspectScores:
    """An aspect's mean, the scores' standard deviation, and the share of N/A."""

    mean: float | None
    interval: Interval | None
    n: int
    sd: float | None
    na: float

    def as_json(self) -> dict[str, object]:
        of_mean = Mean(self.mean, self.interval, self.n).as_json()
        return {**of_mean, "sd": self.sd, "na": self.na}


@dataclass(frozen=True, slots=True)
class TagScores:
    """The rows that carry a tag, and their means by aspect."""

    n: int
    aspects: Mapping[str, float]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one model's answers by one judge of each mode.

    `scores.mean["clarity"]` and `scores.interval["clarity"]` are an aspect's figures;
    `scores.aspects["clarity"]` has all of them. Shares of rows: ended, empty, runaway, repetitive,
    truncated.
    """

    generators: Sequence[str]
    judges: JudgesByMode
    judged: int  # rows with a judgement
    failed: int  # rows that could not be judged, and count nowhere
    na: NotApplicable  # what N/A counts as
    expected: bool  # whether these are the judge's expected scores
    aspects: Mapping[str, AspectScores]  # those that were judged
    average: Average | None  # where all six were
    words: float | None  # mean length of the answers to general rows
    ended: float | None
    empty: float | None
    runaway: float | None
    repetitive: float | None
    truncated: float | None
    by: Mapping[str, Mapping[str, TagScores]] = field(default_factory=dict)  # kind → tag
    distribution: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # aspect → score

    @property
    def mean(self) -> dict[str, float | None]:
        """Of each aspect that was judged."""
        return {name: one.mean for name, one in self.aspects.items()}

    @property
    def interval(self) -> dict[str, Interval | None]:
        """Of each aspect's mean."""
        return {name: one.interval for name, one in self.aspects.items()}

    def as_json(self) -> dict[str, object]:
        return {
            "generators": self.generators,
            "judges": self.judges,
            "judged": self.judged,
            "failed": self.failed,
            "na": self.na,
            "expected": self.expected,
            "aspects": {name: one.as_json() for name, one in self.aspects.items()},
            "average": self.average and self.average.as_json(),
            "words": self.words,
            "ended": self.ended,
            "empty": self.empty,
            "runaway": self.runaway,
            "repetitive": self.repetitive,
            "truncated": self.truncated,
            "by": {
                kind: {tag: one.as_json() for tag, one in tags.items()}
                for kind, tags in self.by.items()
            },
            "distribution": self.distribution,
        }
