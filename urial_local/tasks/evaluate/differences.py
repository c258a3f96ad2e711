"""Which differences between two models' scores are more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.modes import ASPECTS, GENERAL
from urial_local.tasks.evaluate.summary import USUAL, Reading, judged, judges, matrix, summed
from urial_local.tasks.intervals import (
    Estimate,
    FloatArray,
    Interval,
    Scale,
    ends,
    estimate,
    total,
)
from urial_local.tasks.sign_flip import least_p, sign_flip_p

SURE = 0.05  # a p below is called more than chance
MORE_THAN_CHANCE, MAY_BE_CHANCE = "more than chance", "may be chance"
TOO_FEW, NONE_DIFFERS = "too few rows to tell", "no row differs"
DIFFERENCE = Scale(-4.0, 4.0)  # of two scores from 1 to 5


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of a − b over n rows that both have: its 95 % interval, p (two-sided, of the
    sign-flip test over questions, see tasks.sign_flip; None of a single row), and what they amount
    to, in words. Where so few questions differ that no p could be below SURE, the verdict is
    TOO_FEW and there is no interval: neither could be relied upon."""

    mean: float
    interval: Interval | None
    n: int
    p: float | None
    verdict: str

    def as_json(self) -> dict[str, object]:
        return {
            "mean": self.mean,
            **ends(self.interval),
            "n": self.n,
            "p": self.p,
            "verdict": self.verdict,
        }


def difference(
    a: Sequence[Judgement], b: Sequence[Judgement], reading: Reading = USUAL
) -> dict[str, Difference]:
    """a − b over the rows that both have from the same judge, by aspect, with `average` where all
    six are there."""
    found: dict[str, Difference] = {}
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
    return found


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


def _tested(found: Estimate, by_question: FloatArray, n: int) -> Difference:
    """`by_question`: what each question adds to the mean, up to a factor."""
    # Sums of fractions may miss zero by rounding.
    by_question = np.where(np.abs(by_question) > 1e-12, by_question, 0.0)
    few = least_p(by_question) > SURE
    interval = None if few else found.interval(DIFFERENCE)
    p = sign_flip_p(by_question) if n > 1 else None
    if not by_question.any():
        verdict = NONE_DIFFERS
    elif few or p is None:
        verdict = TOO_FEW
    else:
        verdict = MORE_THAN_CHANCE if p < SURE else MAY_BE_CHANCE
    return Difference(found.value, interval, n, p, verdict)
