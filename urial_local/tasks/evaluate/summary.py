"""What judgements amount to: means with intervals by aspect, by tag, and what they do not show.

Definitions, as in JUST-EVAL (see docs/evaluation.md):

mean        over the judged rows of an aspect; N/A counts as 5 by default, as in the reference
interval    95 %, by leaving out one question at a time (see tasks.intervals); the repeats of a
            question go together. None from fewer than five questions, or where all are alike
average     unweighted mean of the six aspects' means; only where all six were judged. Its error is
            that of general and safety questions, which are independent, together
words       mean number of words, split at blanks, of the answers to general rows
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.modes import ASPECTS, GENERAL
from urial_local.tasks.evaluate.scores import (
    FLAGS,
    AspectScores,
    Average,
    Mean,
    NotApplicable,
    Scores,
    TagScores,
)
from urial_local.tasks.intervals import Estimate, Scale, estimate, total

FloatArray = npt.NDArray[np.float64]
FIVE_POINTS, TEN_POINTS = Scale(1.0, 5.0), Scale(1.0, 10.0)
TAGS = ("task", "topic", "difficulty", "dataset", "source")
_NA_SCORES = {"five": 5.0, "three": 3.0, "drop": None}
Key = tuple[str, int]  # id, repeat


@dataclass(frozen=True, slots=True)
class Reading:
    """How judgements are read. `last_tag`: only the last of a row's tags counts, as in the
    reference's tables. `expected`: the judge's expected score where there is one."""

    na: NotApplicable = "five"
    expected: bool = False
    last_tag: bool = False

    def score(self, judgement: Judgement, aspect: str) -> float | None:
        """The score of an aspect, or None where it does not count."""
        if judgement.not_applicable(aspect):
            return _NA_SCORES[self.na]
        if self.expected and aspect in judgement.expected:
            return float(judgement.expected[aspect])
        return judgement.score(aspect)

    def tags(self, judgement: Judgement, name: str) -> tuple[str, ...]:
        values = judgement.tags.get(name, ())
        return values[-1:] if self.last_tag else values


USUAL = Reading()  # as the reference reads


def judged(judgements: Iterable[Judgement], *modes: str) -> list[Judgement]:
    """Those of some modes that have a record."""
    return [j for j in judgements if j.mode in modes and not j.error]


def by_row(
    judgements: Iterable[Judgement], aspect: str, reading: Reading = USUAL
) -> dict[Key, float]:
    """An aspect's score by row."""
    found = {}
    for j in judged(judgements, "general", "safety"):
        value = reading.score(j, aspect)
        if value is not None:
            found[j.id, j.repeat] = value
    return found


def summarise(judgements: Sequence[Judgement], reading: Reading = USUAL) -> Scores:
    """The scores of general and safety rows, of one model.

    Raises UsageError as `refuse_mixtures` does, and where expected scores are wanted that not all
    rows have.
    """
    rows = judged(judgements, "general", "safety")
    refuse_mixtures(rows)
    if reading.expected and rows and not all(j.expected for j in rows):
        some = "some have" if any(j.expected for j in rows) else "none has"
        raise UsageError(
            f"Of these judgements, {some} an expected score.",
            "Leave --expected out, or judge all of them with `evaluate --expected`.",
        )
    general = [j for j in rows if j.mode == "general"]
    ended = [j.ended for j in rows if j.ended is not None]
    return Scores(
        generators=sorted({j.generator for j in judgements}),
        judges=judges(judgements),
        judged=len(rows),
        failed=sum(bool(j.error) for j in judgements if j.mode in ("general", "safety")),
        na=reading.na,
        expected=reading.expected,
        aspects={a: one for a in ASPECTS if (one := _aspect(rows, a, reading))},
        average=average(rows, reading),
        words=float(np.mean([j.words for j in general])) if general else None,
        ended=float(np.mean(ended)) if ended else None,
        **{flag: _flagged(rows, flag) for flag in FLAGS},
        by={name: tags for name in TAGS if (tags := by_tag(rows, name, reading))},
        distribution={a: counts for a in ASPECTS if (counts := distribution(rows, a))},
    )


def refuse_mixtures(rows: Iterable[Judgement]) -> None:
    """Means are of one judge and one model. Raises UsageError where a mode has several judges,
    whose scales differ, or where a row comes twice, of two models or of one."""
    rows = list(rows)
    for mode, names in judges(rows).items():
        if len(names) > 1:
            raise UsageError(
                f"These are of different judges for {mode}: {', '.join(names)}. Their scales"
                " differ.",
                "Take one judge at a time; `urial-local agreement` compares two.",
            )
    met: dict[tuple[str | int, ...], str] = {}
    for j in rows:
        other = met.setdefault((j.mode, j.id, j.repeat, j.turn, j.order), j.generator)
        if other != j.generator:
            raise UsageError(
                f"These are of several models, such as {other} and {j.generator}.",
                "Take one model at a time; `urial-local leaderboard` shows several.",
            )
    if len(met) < len(rows):
        raise UsageError(
            f"{len(rows) - len(met):,} rows were judged twice.", "Name each run or file once."
        )


def judges(judgements: Iterable[Judgement]) -> dict[str, list[str]]:
    """Who judged what, by mode."""
    found: dict[str, set[str]] = defaultdict(set)
    for j in judgements:
        found[j.mode].add(j.judge)
    return {mode: sorted(names) for mode, names in sorted(found.items())}


def _aspect(rows: Sequence[Judgement], aspect: str, reading: Reading) -> AspectScores | None:
    """None where nobody judged it."""
    found = by_row(rows, aspect, reading)
    na = sum(j.not_applicable(aspect) for j in rows)
    if not found and not na:
        return None
    values = np.array(list(found.values()), np.float64)
    here = sum(aspect in j.record for j in rows)
    mean = mean_of(values, [row for row, _ in found])
    return AspectScores(
        mean=mean.mean,
        interval=mean.interval,
        n=mean.n,
        sd=float(values.std(ddof=1)) if len(values) > 1 else None,
        na=na / here if here else 0.0,
    )


def mean_of(values: FloatArray, ids: Sequence[str], scale: Scale = FIVE_POINTS) -> Mean:
    """Of values [n], which lie on `scale`; `ids` are those of their questions, the units."""
    interval = by_question(values[:, None], ids).interval(scale)
    return Mean(float(values.mean()) if len(values) else None, interval, len(values))


def by_question(values: FloatArray, ids: Sequence[str]) -> Estimate:
    """The sum of the means of columns, values [n, m] with NaN where there is none. The repeats and
    the turns of one question, by `ids` [n], are not independent, so they are one unit."""
    return estimate(*summed(values, ids))


def summed(values: FloatArray, ids: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Each question's sums and counts of values [n, m], NaN left out: [questions, m] both."""
    names, place = np.unique(np.asarray(ids, dtype=str), return_inverse=True)
    there = np.isfinite(values)
    sums, counts = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(sums, place, np.where(there, values, 0.0))
    np.add.at(counts, place, there.astype(np.float64))
    return sums, counts


def matrix(
    rows: Iterable[Judgement], mode: str, aspects: Sequence[str], reading: Reading
) -> tuple[list[Key], FloatArray]:
    """Rows of a mode, sorted, and their scores [n, aspects], NaN where one does not count."""
    found: dict[Key, list[float]] = {}
    for j in judged(rows, mode):
        values = [reading.score(j, a) for a in aspects]
        found[j.id, j.repeat] = [np.nan if v is None else v for v in values]
    keys = sorted(found)
    return keys, np.array([found[k] for k in keys], np.float64).reshape(len(keys), len(aspects))


def average(rows: Sequence[Judgement], reading: Reading = USUAL) -> Average | None:
    """The unweighted mean of the six aspects' means, or None where one of them is missing."""
    keys, general = matrix(rows, "general", GENERAL, reading)
    safety_keys, safety = matrix(rows, "safety", ("safety",), reading)
    if not np.isfinite(general).any(0).all() or not np.isfinite(safety).any() or not len(general):
        return None
    parts = [by_question(general, [row for row, _ in keys])]
    parts.append(by_question(safety, [row for row, _ in safety_keys]))
    # To the other end of the scale, which is further off than the middle.
    reaches = [_reach(parts[0].value / len(GENERAL)) * len(GENERAL), _reach(parts[1].value)]
    found = total(parts, reaches, 1 / len(ASPECTS))
    return Average(found.value, found.interval(FIVE_POINTS))


def _reach(mean: float) -> float:
    return max(mean - FIVE_POINTS.low, FIVE_POINTS.high - mean)


def _flagged(rows: Sequence[Judgement], flag: str) -> float | None:
    return sum(flag in j.flags for j in rows) / len(rows) if rows else None


def by_tag(rows: Sequence[Judgement], name: str, reading: Reading = USUAL) -> dict[str, TagScores]:
    """Means by tag, the most frequent first; a row counts in each of its tags (see Reading)."""
    groups: dict[str, list[Judgement]] = defaultdict(list)
    for j in rows:
        for tag in reading.tags(j, name):
            groups[tag].append(j)
    found = {}
    for tag, members in sorted(groups.items(), key=lambda g: (-len(g[1]), g[0])):
        columns = {a: list(by_row(members, a, reading).values()) for a in ASPECTS}
        means = {a: float(np.mean(v)) for a, v in columns.items() if v}
        found[tag] = TagScores(len(members), means)
    return found


def distribution(rows: Iterable[Judgement], aspect: str) -> dict[str, int]:
    """How often each score was given, N/A included."""
    found: Counter[str] = Counter()
    for j in rows:
        if j.not_applicable(aspect):
            found["N/A"] += 1
        elif (value := j.score(aspect)) is not None:
            found[f"{value:g}"] += 1
    return dict(sorted(found.items()))


def just_eval_report(judgements: Sequence[Judgement], output_file: str) -> dict[str, object]:
    """What the reference's own report writes for one judged file: `{aspect}_mean` with N/A as 5,
    `total`, `avg_lens` over all of the file's rows, `output_file`."""
    rows = judged(judgements, "general", "safety")
    found: dict[str, object] = {"total": len(rows)}
    for aspect in ASPECTS:
        values = list(by_row(rows, aspect).values())
        if values:
            found[f"{aspect}_mean"] = float(np.mean(values))
    found["avg_lens"] = float(np.mean([j.words for j in rows])) if rows else None
    return {**found, "output_file": output_file}


def with_tags(
    judgements: Iterable[Judgement], tags: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> list[Judgement]:
    """Judgements with the tags that another file has for their rows, by id."""
    return [replace(j, tags={**j.tags, **tags.get(j.id, {})}) for j in judgements]
