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
    ends,
    judged,
    judges,
    matrix,
    summarise,
    summed,
)
from urial_local.tasks.intervals import Estimate, FloatArray, Scale, estimate, total
from urial_local.tasks.sign_flip import least_p, sign_flip_p

COLUMNS = (*ASPECTS, "average", "words", "ended")
SURE = 0.05  # a p below is called more than chance
MORE_THAN_CHANCE, MAY_BE_CHANCE = "more than chance", "may be chance"
TOO_FEW, NONE_DIFFERS = "too few rows to tell", "no row differs"
DIFFERENCE = Scale(-4.0, 4.0)  # of two scores from 1 to 5


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
    `average` where all six are there: mean, n (rows), low and high (95 %, see tasks.intervals), p
    (two-sided, of the sign-flip test over questions, see tasks.sign_flip) and a verdict.

    Where so few questions differ that no p could be below SURE, the verdict is TOO_FEW and there is
    no interval: neither could be relied upon.
    """
    found: dict[str, Any] = {}
    parts: list[Estimate] = []
    shares: list[FloatArray] = []  # of each question in the sum of the aspects' means
    met = 0  # rows that both have
    for mode, aspects in (("general", GENERAL), ("safety", ("safety",))):
        ids, rows = _paired(a, b, mode, aspects, reading)
        if not ids:
            continue
        met += len(ids)
        sums, counts = summed(rows, ids)
        for column, aspect in enumerate(aspects):
            one = slice(column, column + 1)
            if n := int(counts[:, column].sum()):
                unit = estimate(sums[:, one], counts[:, one])
                found[aspect] = _tested(unit, sums[:, column], n)
        parts.append(estimate(sums, counts))
        shares.append((sums / np.maximum(counts.sum(0), 1)).sum(1))
    if len(found) == len(ASPECTS):
        reaches = [DIFFERENCE.high * len(GENERAL), DIFFERENCE.high]
        mean = total(parts, reaches, 1 / len(ASPECTS))
        found["average"] = _tested(mean, np.concatenate(shares), met)
    return {"aspects": found}


def _paired(
    a: Sequence[Judgement],
    b: Sequence[Judgement],
    mode: str,
    aspects: Sequence[str],
    reading: Reading,
) -> tuple[list[str], FloatArray]:
    """The rows of a mode that both have from the same judge: their questions' ids, and a − b by
    aspect [n, aspects], NaN where one does not count."""
    keys_a, scores_a = matrix(a, mode, aspects, reading)
    keys_b, scores_b = matrix(b, mode, aspects, reading)
    shared = sorted(set(keys_a) & set(keys_b))
    if not shared or judges(judged(a, mode)) != judges(judged(b, mode)):
        return [], np.zeros((0, len(aspects)))
    at_a, at_b = ({k: i for i, k in enumerate(keys)} for keys in (keys_a, keys_b))
    rows = scores_a[[at_a[k] for k in shared]] - scores_b[[at_b[k] for k in shared]]
    return [row for row, _ in shared], rows


def _tested(found: Estimate, by_question: FloatArray, n: int) -> dict[str, Any]:
    """`by_question`: what each question adds to the mean, up to a factor."""
    # Sums of fractions may miss zero by rounding.
    by_question = np.where(np.abs(by_question) > 1e-12, by_question, 0.0)
    few = least_p(by_question) > SURE
    low, high = (None, None) if few else ends(found, DIFFERENCE)
    p = sign_flip_p(by_question) if n > 1 else None
    if not by_question.any():
        verdict = NONE_DIFFERS
    elif few or p is None:
        verdict = TOO_FEW
    else:
        verdict = MORE_THAN_CHANCE if p < SURE else MAY_BE_CHANCE
    return {"mean": found.value, "low": low, "high": high, "n": n, "p": p, "verdict": verdict}
