"""Statistics of answers that are right or wrong, one a probe.

share      k of n right, with Wilson's 95 % interval (Wilson 1927):
               (p̂ + z²/2n ± z √(p̂(1 − p̂)/n + z²/4n²)) / (1 + z²/n),   p̂ = k/n, z = 1.959964
           The house's intervals (tasks.intervals) are for sums over answers that vary. Here an
           answer adds 0 or 1 and each probe counts once, so the binomial holds; and where all
           answers are wrong, or all right, which a benchmark often shows, the house has no interval
           and Wilson's has a sound one. Brown, Cai & DasGupta (2001) recommend it for few answers.
           Kinds have a fixed number of probes each, which makes an interval over all of them a
           little too wide.

difference a − b over the probes that both cells have, with the percentiles 2.5 and 97.5 of 10,000
           draws of as many probes with replacement, both answers of a probe together (Efron &
           Tibshirani 1993, §13.3).
p          McNemar's exact test, two-sided: of the n₁₀ + n₀₁ probes on which the two differ,
               p = min(1, 2 · P(X ≤ min(n₁₀, n₀₁))),   X ~ Binomial(n₁₀ + n₀₁, ½)
           (McNemar 1947; exact form Fagerland, Lydersen & Laake 2013, eq. 2). It is the sign-flip
           test of tasks.sign_flip where differences are −1, 0 and 1.
closed     the share of the gap between zero-shot and the aligned model that a prompt closes,
           (prompt − zero)/(aligned − zero), with the same draws of the three together. None where
           the gap is not clearly above zero: its own interval reaches zero. Draws without a gap
           (at most one in forty then) are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.tasks.intervals import FEWEST, FloatArray, Interval, ends

Z = 1.959963984540054  # the 97.5th percentile of the normal distribution
DRAWS = 10_000
TAILS = (2.5, 97.5)  # percentiles
SURE = 0.05  # a p below is called more than chance
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Share:
    """k of n, with the 95 % interval; of none there is neither."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> Interval | None:
        return wilson(self.k, self.n) if self.n else None

    def as_json(self) -> dict[str, object]:
        return {"share": self.value, **ends(self.interval), "k": self.k, "n": self.n}


def wilson(k: int, n: int) -> Interval:
    """The 95 % interval of a share of k in n > 0; see the module's text."""
    share, narrow = k / n, 1 + Z * Z / n
    middle = (share + Z * Z / (2 * n)) / narrow
    reach = Z / narrow * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    low = 0.0 if k == 0 else max(0.0, middle - reach)  # which are the ends, up to rounding
    return Interval(low, 1.0 if k == n else min(1.0, middle + reach))


def mcnemar(only_a: int, only_b: int) -> float:
    """p that cells a and b are right equally often, from the probes that only one has right."""
    n, fewer = only_a + only_b, min(only_a, only_b)
    below = sum(math.comb(n, i) for i in range(fewer + 1))  # whole numbers: nothing is rounded
    return min(1.0, float(2 * below / (1 << n)))


@dataclass(frozen=True, slots=True)
class Difference:
    """a − b in the share of right answers over n probes that both have."""

    value: float
    interval: Interval | None  # None from fewer than FEWEST probes
    n: int
    only_a: int  # probes that a has right and b has not
    only_b: int
    p: float  # of McNemar's exact test

    @property
    def sure(self) -> bool:
        """Whether it is more than chance."""
        return self.p < SURE

    def as_json(self) -> dict[str, object]:
        return {
            "difference": self.value,
            **ends(self.interval),
            "p": self.p,
            "more_than_chance": self.sure,
            "n": self.n,
            "only_this": self.only_a,
            "only_other": self.only_b,
        }


def difference(right: BoolArray, seed: int = 0) -> Difference | None:
    """Of right answers [n, 2], of cells a and b, to the same probes; None without any."""
    n, (a, b) = len(right), right.T
    if not n:
        return None
    interval = None
    if n >= FEWEST:
        shares = drawn_shares(right, seed)
        low, high = np.percentile(shares[:, 0] - shares[:, 1], TAILS)
        interval = Interval(float(low), float(high))
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = mcnemar(only_a, only_b)
    return Difference((only_a - only_b) / n, interval, n, only_a, only_b, p)


@dataclass(frozen=True, slots=True)
class Closed:
    """The share of a gap that is closed: 1 is all of it, below 0 the prompt makes it wider."""

    value: float
    interval: Interval
    n: int

    def as_json(self) -> dict[str, object]:
        return {"share": self.value, **ends(self.interval), "n": self.n}


def gap_closed(right: BoolArray, seed: int = 0) -> Closed | None:
    """Of right answers [n, 3], of prompt, zero-shot and aligned, to the same probes; None where
    there is no clear gap to close."""
    n = len(right)
    if n < FEWEST:
        return None
    shares = drawn_shares(right, seed)
    gaps = shares[:, 2] - shares[:, 1]
    if np.percentile(gaps, TAILS[0]) <= 0:
        return None
    there = gaps > 0
    low, high = np.percentile((shares[there, 0] - shares[there, 1]) / gaps[there], TAILS)
    prompt, zero, aligned = map(int, right.sum(0))
    value = (prompt - zero) / (aligned - zero)
    return Closed(value, Interval(float(low), float(high)), n)


def drawn_shares(right: BoolArray, seed: int = 0) -> FloatArray:
    """Shares of right answers [DRAWS, m] of the m cells in draws of n probes with replacement, from
    right answers [n, m].

    How often each of the (at most 2^m) patterns of a probe comes up in a draw is multinomial, so
    that is drawn: the same as drawing probes, and a hundred times faster.
    """
    patterns, counts = np.unique(right, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(right), counts / len(right), DRAWS)
    return np.asarray(drawn @ patterns.astype(np.float64) / len(right), np.float64)
