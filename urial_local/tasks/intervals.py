"""Intervals for ratios of sums over answers that hold their level with few answers, and summaries
of distributions.

For r = Σ_i a_i / Σ_i b_i over n answers (questions, dialogues) i:

    r₍ᵢ₎  = r without answer i
    error = √( (n−1)/n · Σ_i (r₍ᵢ₎ − mean r₍·₎)² )   the jackknife (Efron & Tibshirani 1993, §11)
    df    = (Σ w_i²)² / Σ w_i⁴ − 1, w_i = b_i / Σ b  Satterthwaite (1946), for errors that grow with
                                                     b_i; n − 1 where all b_i are equal
    95 %  : g⁻¹( g(r) ± t₀.₉₇₅(df) · error · g′(r) ) Student's t, on the whole line

g is ln((r − low)/(high − r)) on a scale with two ends, ln(r − low) on one with one. So an interval
stays on its scale and leans away from the nearer end, as the errors of shares near 0 and of means
near 5 do. `python -m benchmarks.coverage` measures how often such intervals hold what they are
of; docs/evaluation.md has the table. There is none (NaN) from fewer than FEWEST answers or with df
below LEAST_DF (one answer then outweighs all others), where it would say next to nothing, nor where
all answers are alike, which does not say how answers vary.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from urial_local.tasks.student import t_quantile

FloatArray = npt.NDArray[np.float64]
LEVEL = 0.95
FEWEST = 5  # answers that an interval needs
LEAST_DF = 1.0
NO_INTERVAL = (
    f"–: no interval from fewer than {FEWEST} {{}},"
    " nor where all are alike or one outweighs the rest."
)
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_ALIKE = 1e-9  # an error below this, on the whole line, is rounding
_STEEP = 700.0  # e to more than this is not a float


@dataclass(frozen=True, slots=True)
class Scale:
    """Where a statistic can lie: between two ends, or above one."""

    low: float
    high: float = math.inf

    def line(self, x: float) -> tuple[float, float]:
        """g(x) and g′(x), for x between the ends."""
        below = math.log(x - self.low)
        if math.isinf(self.high):
            return below, 1 / (x - self.low)
        return below - math.log(self.high - x), 1 / (x - self.low) + 1 / (self.high - x)

    def back(self, u: float) -> float:
        """g⁻¹(u)."""
        u = min(_STEEP, max(-_STEEP, u))
        if math.isinf(self.high):
            return self.low + math.exp(u)
        return self.low + (self.high - self.low) / (1 + math.exp(-u))


SHARE = Scale(0.0, 1.0)
POSITIVE = Scale(0.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of a 95 % interval. Where there is none, None stands in its place."""

    low: float
    high: float


def ends(interval: Interval | None) -> dict[str, float | None]:
    """An interval, or that there is none, for JSON."""
    if interval is None:
        return {"low": None, "high": None}
    return {"low": interval.low, "high": interval.high}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic over n answers, its standard error (NaN where there is none), and how many
    degrees of freedom the error has."""

    value: float
    error: float
    df: float
    n: int

    def interval(self, scale: Scale) -> Interval | None:
        """The 95 % interval, where there is one (see above)."""
        if self.n < FEWEST or self.df < LEAST_DF or not scale.low < self.value < scale.high:
            return None
        middle, slope = scale.line(self.value)
        spread = self.error * slope
        if not _ALIKE < spread < math.inf:
            return None
        df = math.floor(8 * self.df) / 8  # of few values, so that quantiles are kept
        reach = t_quantile((1 + LEVEL) / 2, df) * spread
        return Interval(scale.back(middle - reach), scale.back(middle + reach))


def estimate(numerators: FloatArray, denominators: FloatArray) -> Estimate:
    """Σ_j (Σ_i num[i, j] / Σ_i den[i, j]) over answers i, with its jackknife error; both [n, m],
    and the m columns of an answer stay together. Answers without a denominator do not count."""
    there = (denominators > 0).any(1)
    num, den = numerators[there], denominators[there]
    n, above, below = len(num), num.sum(0), den.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float((above / below).sum())
        if n < 2:
            return Estimate(value, math.nan, 0.0, n)
        left = ((above - num) / (below - den)).sum(1)
        squares = (den / below).sum(1) ** 2
    error = math.sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum()))
    return Estimate(value, error, float(squares.sum() ** 2 / (squares**2).sum()) - 1, n)


def total(parts: Sequence[Estimate], reaches: Sequence[float], share: float = 1.0) -> Estimate:
    """share · the sum of independent estimates: errors add up squared, with Welch's degrees of
    freedom (Σ e²)² / Σ (e⁴/df).

    `reaches`: for each how far its value lies from the other end of its scale. A part whose answers
    are all alike is not certain for that: its error is that of one further answer there, reach /
    (n + 1).
    """
    errors = [
        part.error if part.error > _ALIKE or math.isnan(part.error) else reach / (part.n + 1)
        for part, reach in zip(parts, reaches, strict=True)
    ]
    squares = np.square(errors)
    each = np.array([max(1.0, part.df) for part in parts])
    df = squares.sum() ** 2 / (squares**2 / each).sum()
    return Estimate(
        share * sum(part.value for part in parts),
        share * math.sqrt(squares.sum()),
        float(df),
        min(part.n for part in parts),
    )


def intervals(
    numerators: FloatArray, denominators: FloatArray, scale: Scale = SHARE
) -> list[Interval | None]:
    """95 % intervals of Σ_i num[i, j] / Σ_i den[i, j] over answers i, for each column j on its own.

    Both arrays [n, m]. Answers are the units, since positions of one answer are not independent.
    """
    return [
        estimate(numerators[:, j : j + 1], denominators[:, j : j + 1]).interval(scale)
        for j in range(numerators.shape[1])
    ]


def ratio_intervals(
    numerators: FloatArray, denominators: FloatArray, scale: Scale = SHARE
) -> tuple[FloatArray, FloatArray]:
    """The same as arrays: low and high, each [m], NaN where there is none."""
    found = [
        (math.nan, math.nan) if one is None else (one.low, one.high)
        for one in intervals(numerators, denominators, scale)
    ]
    both = np.array(found, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


@dataclass(frozen=True, slots=True)
class Distribution:
    """n finite values: mean, standard deviation, extremes, and percentiles by their number (those
    in PERCENTILES). Of no values there is only n, which is 0."""

    n: int = 0
    mean: float | None = None
    sd: float | None = None
    min: float | None = None
    max: float | None = None
    percentiles: Mapping[int, float] = field(default_factory=dict)

    @property
    def median(self) -> float | None:
        return self.percentiles.get(50)

    def as_json(self) -> dict[str, object]:
        if not self.n:
            return {"n": 0, "mean": None}
        named = {"median" if p == 50 else f"p{p}": v for p, v in self.percentiles.items()}
        return {"n": self.n, "mean": self.mean, "sd": self.sd, "min": self.min, "max": self.max,
                **named}  # fmt: skip


def distribution(values: npt.NDArray[np.number]) -> Distribution:
    """Of finite values [n]."""
    if not len(values):
        return Distribution()
    wide = values.astype(np.float64)
    found = np.percentile(wide, PERCENTILES)
    return Distribution(
        n=len(values),
        mean=float(wide.mean()),
        sd=float(wide.std()),
        min=float(wide.min()),
        max=float(wide.max()),
        percentiles={p: float(v) for p, v in zip(PERCENTILES, found, strict=True)},
    )
