"""Several models side by side: their aspects with intervals, and which differences are more than
chance. Tables of different judges are refused unless asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.modes import ASPECTS, GENERAL
from urial_local.tasks.evaluate.summary import (
    USUAL,
    Reading,
    judged,
    judges,
    matrix,
    means,
    summarise,
)
from urial_local.tasks.intervals import RESAMPLES, percentile_interval

COLUMNS = (*ASPECTS, "average", "words", "ended")


@dataclass(frozen=True, slots=True)
class Entry:
    """One model's line: its judgements, of one file or of several."""

    name: str
    judgements: Sequence[Judgement]
    words: float | None = None  # of general rows, from a file of answers, where none was judged
    ended: float | None = None


def leaderboard(
    entries: Sequence[Entry],
    reading: Reading = USUAL,
    sort: str = "average",
    mix_judges: bool = False,
) -> dict[str, Any]:
    """The table, as JSON can hold it: `rows` in order, `judges`, and `differences` of each model
    from the one above it.

    Raises UsageError where rows of one mode were judged by different judges, unless `mix_judges`:
    two judges' scales differ by more than models do. Then every row names its judges.
    """
    if sort not in (*COLUMNS, "name"):
        raise UsageError(f"There is no column {sort!r}.", f"Known: name, {', '.join(COLUMNS)}.")
    scored = [j for e in entries for j in e.judgements if j.mode in ("general", "safety")]
    by_mode = judges(scored)
    several = {mode: names for mode, names in by_mode.items() if len(names) > 1}
    if several and not mix_judges:
        said = "; ".join(f"{mode}: {', '.join(names)}" for mode, names in several.items())
        raise UsageError(
            f"The models were judged by different judges ({said}), whose scales differ.",
            "Compare the judges with `urial-local agreement`, or add --mix-judges.",
        )
    rows = [_row(entry, reading) for entry in entries]
    order = sorted(range(len(rows)), key=lambda i: _place(rows[i], sort))
    ordered = [rows[i] for i in order]
    return {
        "judges": by_mode,
        "mixed": bool(several),
        "na": reading.na,
        "expected": reading.expected,
        "sort": sort,
        "rows": ordered,
        "differences": _differences([entries[i] for i in order], reading),
    }


def _differences(entries: Sequence[Entry], reading: Reading) -> list[dict[str, Any]]:
    """Each model against the nearest one above it that has rows in common with it; a model that
    shares none has no line. Only the same judge's scores are subtracted."""
    found = []
    for i, below in enumerate(entries):
        for above in reversed(entries[:i]):
            aspects = difference(above.judgements, below.judgements, reading)["aspects"]
            if aspects:
                found.append({"above": above.name, "below": below.name, "aspects": aspects})
                break
    return found


def _row(entry: Entry, reading: Reading) -> dict[str, Any]:
    found = summarise(entry.judgements, reading)
    return {
        "name": entry.name,
        "judges": found["judges"],
        "judged": found["judged"],
        "failed": found["failed"],
        "aspects": found["aspects"],
        "average": found["average"],
        "words": entry.words if found["words"] is None else found["words"],
        "ended": entry.ended if found["ended"] is None else found["ended"],
        "empty": found["empty"],
        "runaway": found["runaway"],
    }


def _place(row: Mapping[str, Any], sort: str) -> tuple[Any, ...]:
    """Names upwards, numbers downwards, what is missing last."""
    if sort == "name":
        return (row["name"],)
    value = row["aspects"].get(sort) if sort in ASPECTS else row[sort]
    number = value.get("mean") if isinstance(value, Mapping) else value
    return (number is None, -(number or 0.0), row["name"])


def difference(
    a: Sequence[Judgement], b: Sequence[Judgement], reading: Reading = USUAL
) -> dict[str, Any]:
    """Mean differences a − b over the rows that both have from the same judge, by aspect, with
    `average` where all six are there: mean, low, high (95 %), n, and p, from one paired bootstrap
    over questions.

    p = min(1, 2 · (1 + min(#resamples ≤ 0, #resamples ≥ 0)) / (1 + 1,000)), two-sided.
    """
    found: dict[str, Any] = {}
    drawn: list[Any] = []
    met = 0  # rows that both have
    for mode, aspects in (("general", GENERAL), ("safety", ("safety",))):
        if judges(judged(a, mode)) != judges(judged(b, mode)):
            continue
        keys_a, scores_a = matrix(a, mode, aspects, reading)
        keys_b, scores_b = matrix(b, mode, aspects, reading)
        shared = sorted(set(keys_a) & set(keys_b))
        if not shared:
            continue
        met += len(shared)
        at_a, at_b = ({k: i for i, k in enumerate(keys)} for keys in (keys_a, keys_b))
        rows = scores_a[[at_a[k] for k in shared]] - scores_b[[at_b[k] for k in shared]]
        resampled = means(rows, [row for row, _ in shared], seed=len(drawn))
        for column, aspect in enumerate(aspects):
            here = rows[np.isfinite(rows[:, column]), column]
            if len(here):
                found[aspect] = _tested(float(here.mean()), resampled[:, column], len(here))
                drawn.append(resampled[:, column])
    if len(drawn) == len(ASPECTS):
        mean = float(np.mean([found[a]["mean"] for a in ASPECTS]))
        found["average"] = _tested(mean, np.mean(drawn, 0), met)
    return {"aspects": found}


def _tested(mean: float, drawn: Any, n: int) -> dict[str, float | int | None]:
    valid = drawn[np.isfinite(drawn)]
    if n < 2 or not len(valid):
        return {"mean": mean, "low": None, "high": None, "n": n, "p": None}
    low, high = percentile_interval(valid)
    tail = min(int((valid <= 0).sum()), int((valid >= 0).sum()))
    return {
        "mean": mean,
        "low": low,
        "high": high,
        "n": n,
        "p": min(1.0, 2 * (1 + tail) / (1 + RESAMPLES)),
    }
