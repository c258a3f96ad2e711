"""Where in an answer, and in how few positions, the divergence sits.

With d_t = KL(a_t‖b_t) at the positions of all answers where it is finite, the token that ends an
answer left out (see gains):

    first k   Σ_{t < k} d_t / Σ_t d_t     the share of the first k tokens of each answer, for k in
                                          FIRST; t is the place in the answer, from 0 (the depth of
                                          alignment: arXiv 2406.05946)
    top x     L(x) / L(1), L(x) = sum of the largest x·n of the n values, between whole numbers
              along a straight line       the Lorenz curve from its high end, for x in TOP

Shares are from 0 to 1; None where all values are 0. Intervals are over answers (tasks.intervals).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urial_local.tasks.intervals import Interval, ends, intervals
from urial_local.tasks.shift.curves import plain, rounded
from urial_local.tasks.shift.positions import Positions, Singles

FIRST = (5, 10, 20, 50)  # tokens
TOP = (0.01, 0.05, 0.1, 0.2)  # of positions


@dataclass(frozen=True, slots=True)
class Concentration:
    first: Sequence[float | None]  # for each of FIRST
    intervals: Sequence[Interval | None]
    top: Sequence[float | None]  # for each of TOP

    def as_json(self) -> dict[str, object]:
        first = zip(FIRST, self.first, self.intervals, strict=True)
        return {
            "first": [{"tokens": k, "share": share, **ends(found)} for k, share, found in first],
            "top": [{"top": x, "share": s} for x, s in zip(TOP, self.top, strict=True)],
        }


def concentration(p: Positions) -> Concentration:
    """Over the positions with a finite divergence, but ends."""
    there = p.sound & ~p.end
    total = p.per_answer(there, p.kl_back)
    first = np.stack([p.per_answer(there & (p.position < k), p.kl_back) for k in FIRST], axis=1)
    whole = float(total.sum())
    shares = first.sum(0) / whole if whole > 0 else np.full(len(FIRST), np.nan)
    found = intervals(first, np.repeat(total[:, None], len(FIRST), 1))
    return Concentration(plain(shares), [rounded(i) for i in found], lorenz(p.kl_back[there]))


def lorenz(values: Singles) -> list[float | None]:
    """Which share of the sum the largest of the values hold, for each of TOP."""
    ordered = np.sort(values.astype(np.float64))[::-1]
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    if not sums[-1] > 0:
        return [None] * len(TOP)
    at = np.array(TOP) * len(ordered)
    return plain(np.interp(at, np.arange(len(sums)), sums) / sums[-1])
