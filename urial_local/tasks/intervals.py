"""Intervals by the bootstrap over answers, and summaries of distributions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
RESAMPLES = 1000
LEVEL = 95  # percent
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_BLOCK = 2_000_000  # weights held at a time


def ratio_intervals(
    numerators: FloatArray, denominators: FloatArray, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """95 % percentile-bootstrap intervals of Σ_i num[i, j] / Σ_i den[i, j], over answers i.

    Answers are drawn with replacement and keep their positions together, since positions of one
    answer are not independent (Efron & Tibshirani 1993, §13). Both arrays [n, m]; returns low and
    high, each [m]; NaN where fewer than two answers have a denominator, since one answer says
    nothing of how answers vary. The same seed gives the same interval.
    """
    drawn = resampled_ratios(numerators, denominators, seed)
    m = numerators.shape[1]
    low, high = np.full(m, np.nan), np.full(m, np.nan)
    for j in np.flatnonzero((denominators > 0).sum(0) >= 2):
        valid = drawn[np.isfinite(drawn[:, j]), j]
        if len(valid):
            low[j], high[j] = percentile_interval(valid)
    return low, high


def resampled_ratios(numerators: FloatArray, denominators: FloatArray, seed: int = 0) -> FloatArray:
    """Σ_i w_i num[i, j] / Σ_i w_i den[i, j] for 1,000 draws of n rows with replacement, [1000, m].

    w_i counts how often row i was drawn: the same for all columns, so columns stay paired. NaN
    where no row with a denominator was drawn.
    """
    n, m = numerators.shape
    if n == 0:
        return np.full((RESAMPLES, m), np.nan)
    rng = np.random.default_rng(seed)
    ratios = []
    step = max(1, _BLOCK // n)
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        weights = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            ratios.append((weights @ numerators) / (weights @ denominators))
    return np.concatenate(ratios)


def percentile_interval(drawn: FloatArray) -> tuple[float, float]:
    """The middle 95 % of resampled values [n]."""
    low, high = np.percentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(low), float(high)


def distribution(values: npt.NDArray[np.floating]) -> dict[str, float | int | None]:
    """n, mean, standard deviation, percentiles and extremes of finite values."""
    n = len(values)
    if not n:
        return {"n": 0, "mean": None}
    wide = values.astype(np.float64)
    found: dict[str, float | int | None] = {
        "n": n,
        "mean": float(wide.mean()),
        "sd": float(wide.std()),
        "min": float(wide.min()),
        "max": float(wide.max()),
    }
    for p, value in zip(PERCENTILES, np.percentile(wide, PERCENTILES), strict=True):
        found["median" if p == 50 else f"p{p}"] = float(value)
    return found
