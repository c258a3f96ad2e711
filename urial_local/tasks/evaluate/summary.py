"""What judgements amount to: means with intervals by aspect, by tag, and what they do not show.

Definitions, as in JUST-EVAL (see docs/evaluation.md):

mean        over the judged rows of an aspect; N/A counts as 5 by default, as in the reference
interval    95 % by bootstrap over rows (percentiles of 1,000 resamples, fixed seed)
average     unweighted mean of the six aspects' means; only where all six were judged. Its interval
            resamples general and safety rows each by themselves
words       mean number of words, split at blanks, of the answers to general rows
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.modes import ASPECTS, GENERAL
from urial_local.tasks.intervals import percentile_interval, resampled_ratios

NotApplicable = Literal["five", "drop", "three"]
FloatArray = npt.NDArray[np.float64]
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
        if self.expected and aspect in judgement.expected:
            return float(judgement.expected[aspect])
        if judgement.not_applicable(aspect):
            return _NA_SCORES[self.na]
        return judgement.score(aspect)

    def tags(self, judgement: Judgement, name: str) -> tuple[str, ...]:
        values = judgement.tags.get(name, ())
        return values[-1:] if self.last_tag else values


USUAL = Reading()  # as the reference reads


def judged(judgements: Iterable[Judgement], *modes: str) -> list[Judgement]:
    """Those of some modes that have a record."""
    return [j for j in judgements if j.mode in modes and not j.error]


def scores(
    judgements: Iterable[Judgement], aspect: str, reading: Reading = USUAL
) -> dict[Key, float]:
    """An aspect's score by row."""
    found = {}
    for j in judged(judgements, "general", "safety"):
        value = reading.score(j, aspect)
        if value is not None:
            found[j.id, j.repeat] = value
    return found


def summarise(judgements: Sequence[Judgement], reading: Reading = USUAL) -> dict[str, Any]:
    """All of `evaluate summarize` for general and safety rows, as JSON can hold it.

    Raises UsageError where a row of one mode comes twice, as when files overlap.
    """
    rows = judged(judgements, "general", "safety")
    once = Counter((j.generator, j.mode, j.id, j.repeat) for j in rows)
    if twice := [key for key, n in once.items() if n > 1]:
        generator, mode, row, _ = twice[0]
        raise UsageError(
            f"The row {row!r} of {generator} was judged twice for {mode}, and {len(twice) - 1} more"
            " rows.",
            "Summarise one judge, and each row once, at a time.",
        )
    general = [j for j in rows if j.mode == "general"]
    ended = [j.ended for j in rows if j.ended is not None]
    return {
        "generators": sorted({j.generator for j in judgements}),
        "judges": judges(judgements),
        "judged": len(rows),
        "failed": sum(bool(j.error) for j in judgements if j.mode in ("general", "safety")),
        "na": reading.na,
        "expected": reading.expected,
        "aspects": {a: one for a in ASPECTS if (one := _aspect(rows, a, reading))},
        "average": average(rows, reading),
        "words": float(np.mean([j.words for j in general])) if general else None,
        "ended": float(np.mean(ended)) if ended else None,
        **{flag: _flagged(rows, flag) for flag in ("empty", "runaway", "repetitive", "truncated")},
        "by": {name: tags for name in TAGS if (tags := by_tag(rows, name, reading))},
        "distribution": {a: counts for a in ASPECTS if (counts := distribution(rows, a))},
    }


def judges(judgements: Iterable[Judgement]) -> dict[str, list[str]]:
    """Who judged what, by mode."""
    found: dict[str, set[str]] = defaultdict(set)
    for j in judgements:
        found[j.mode].add(j.judge)
    return {mode: sorted(names) for mode, names in sorted(found.items())}


def _aspect(
    rows: Sequence[Judgement], aspect: str, reading: Reading
) -> dict[str, float | int | None] | None:
    values = np.array(list(scores(rows, aspect, reading).values()), np.float64)
    na = sum(j.not_applicable(aspect) for j in rows)
    if not len(values) and not na:
        return None
    drawn = means(values[:, None])[:, 0] if len(values) > 1 else None
    low, high = percentile_interval(drawn) if drawn is not None else (None, None)
    here = sum(aspect in j.record for j in rows)
    return {
        "mean": float(values.mean()) if len(values) else None,
        "low": low,
        "high": high,
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "n": len(values),
        "na": na / here if here else 0.0,
    }


def means(values: FloatArray, seed: int = 0) -> FloatArray:
    """Means of 1,000 resamples over rows; values [n, m] with NaN where there is none; [1000, m]."""
    there = np.isfinite(values)
    return resampled_ratios(np.where(there, values, 0.0), there.astype(np.float64), seed)


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


def average(rows: Sequence[Judgement], reading: Reading = USUAL) -> dict[str, float | None] | None:
    """The unweighted mean of the six aspects' means, or None where one of them is missing."""
    _, general = matrix(rows, "general", GENERAL, reading)
    _, safety = matrix(rows, "safety", ("safety",), reading)
    if not np.isfinite(general).any(0).all() or not np.isfinite(safety).any() or not len(general):
        return None
    columns = [*np.nanmean(general, 0), *np.nanmean(safety, 0)]
    drawn = (means(general, 0).sum(1) + means(safety, 1)[:, 0]) / len(ASPECTS)
    valid = drawn[np.isfinite(drawn)]
    low, high = percentile_interval(valid) if min(len(general), len(safety)) > 1 else (None, None)
    return {"mean": float(np.mean(columns)), "low": low, "high": high}


def _flagged(rows: Sequence[Judgement], flag: str) -> float | None:
    return sum(flag in j.flags for j in rows) / len(rows) if rows else None


def by_tag(
    rows: Sequence[Judgement], name: str, reading: Reading = USUAL
) -> dict[str, dict[str, Any]]:
    """Means by tag, the most frequent first; a row counts in each of its tags (see Reading)."""
    groups: dict[str, list[Judgement]] = defaultdict(list)
    for j in rows:
        for tag in reading.tags(j, name):
            groups[tag].append(j)
    found = {}
    for tag, members in sorted(groups.items(), key=lambda g: (-len(g[1]), g[0])):
        columns = {a: list(scores(members, a, reading).values()) for a in ASPECTS}
        found[tag] = {
            "n": len(members),
            "aspects": {a: float(np.mean(v)) for a, v in columns.items() if v},
        }
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


def just_eval_report(judgements: Sequence[Judgement], output_file: str) -> dict[str, Any]:
    """What the reference's own report writes for one judged file: `{aspect}_mean` with N/A as 5,
    `total`, `avg_lens` over all of the file's rows, `output_file`."""
    rows = judged(judgements, "general", "safety")
    found: dict[str, Any] = {"total": len(rows)}
    for aspect in ASPECTS:
        values = list(scores(rows, aspect).values())
        if values:
            found[f"{aspect}_mean"] = float(np.mean(values))
    found["avg_lens"] = float(np.mean([j.words for j in rows])) if rows else None
    return {**found, "output_file": output_file}


def with_tags(
    judgements: Iterable[Judgement], tags: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> list[Judgement]:
    """Judgements with the tags that another file has for their rows, by id."""
    from dataclasses import replace

    return [replace(j, tags={**j.tags, **tags.get(j.id, {})}) for j in judgements]
