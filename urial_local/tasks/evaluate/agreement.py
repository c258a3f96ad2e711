"""How far two judges agree on the same answers, so that one's worth is known before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.modes import ASPECTS
from urial_local.tasks.evaluate.summary import Reading, judged

FloatArray = npt.NDArray[np.float64]
HIGHEST = 5
WITHOUT_NA = Reading(na="drop")


@dataclass(frozen=True, slots=True)
class AspectAgreement:
    """How two judges scored the same n answers in one aspect.

    exact: share with the same score; within_one: with scores at most 1 apart; spearman: rank
    correlation, ties at their mean rank; kappa: Cohen's, quadratic weights, on scores rounded to
    1 … 5. The last two are None where they are not defined.
    """

    n: int
    mean_a: float
    mean_b: float
    exact: float
    within_one: float
    spearman: float | None
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """shared: answers that both judged; aspects: those that both scored in some of them."""

    shared: int
    aspects: Mapping[str, AspectAgreement]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def agreement(
    a: Sequence[Judgement], b: Sequence[Judgement], reading: Reading = WITHOUT_NA
) -> Agreement:
    """Over the rows that both judged and whose answers are the same text.

    N/A counts as no score. Raises UsageError where the two share no answer.
    """
    first, second = _by_row(a), _by_row(b)
    if not (first and second):
        raise UsageError("Agreement is measured on general and safety judgements; one has none.")
    shared = [k for k in first if k in second and first[k].answer == second[k].answer]
    if not shared:
        met = len(set(first) & set(second))
        raise UsageError(
            "The two have no judged answer in common."
            + (f" {met} ids are in both, with other answers." if met else "")
        )
    found: dict[str, AspectAgreement] = {}
    for aspect in ASPECTS:
        pairs = [
            (x, y)
            for k in shared
            if (x := reading.score(first[k], aspect)) is not None
            and (y := reading.score(second[k], aspect)) is not None
        ]
        if pairs:
            found[aspect] = _measures(np.array(pairs, np.float64))
    return Agreement(len(shared), found)


def _by_row(judgements: Sequence[Judgement]) -> dict[tuple[str, int, str], Judgement]:
    return {(j.id, j.repeat, j.mode): j for j in judged(judgements, "general", "safety")}


def _measures(pairs: FloatArray) -> AspectAgreement:
    x, y = pairs[:, 0], pairs[:, 1]
    return AspectAgreement(
        n=len(pairs),
        mean_a=float(x.mean()),
        mean_b=float(y.mean()),
        exact=float(np.mean(x == y)),
        within_one=float(np.mean(np.abs(x - y) <= 1)),
        spearman=spearman(x, y),
        kappa=weighted_kappa(x, y),
    )


def spearman(x: FloatArray, y: FloatArray) -> float | None:
    """Spearman's ρ: Pearson's correlation of the ranks, ties at their mean rank. None where one
    side gives the same score throughout."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / scale) if scale > 0 else None


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, equal values at their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: FloatArray = (last - (counts - 1) / 2)[inverse]
    return ranks


def weighted_kappa(x: FloatArray, y: FloatArray) -> float | None:
    """Cohen's weighted κ = 1 − Σ w·observed / Σ w·expected, with w_ij = (i − j)² (Cohen 1968).

    Scores are rounded to whole numbers first. None where both judges give one and the same score
    throughout, so that there is nothing to agree upon by chance or otherwise.
    """
    i, j = np.rint(x).astype(int) - 1, np.rint(y).astype(int) - 1
    observed = np.zeros((HIGHEST, HIGHEST))
    np.add.at(observed, (i, j), 1)
    observed /= observed.sum()
    expected = np.outer(observed.sum(1), observed.sum(0))
    steps = np.arange(HIGHEST, dtype=np.float64)
    weights = (steps[:, None] - steps[None, :]) ** 2
    chance = float((weights * expected).sum())
    return 1.0 - float((weights * observed).sum()) / chance if chance > 0 else None
