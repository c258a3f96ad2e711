"""The sign-flip test: is the mean of paired differences more than chance?

Where two models do not differ, each question's difference d_i is as likely −d_i. So the differences
as they are, are one of 2^k equally likely patterns of signs over the k that are not zero, and

    p = share of the patterns s with |Σ s_i d_i| ≥ |Σ d_i|        two-sided (Fisher 1935, §21)

It is exact: below no difference, p ≤ α with probability at most α, for any n. No p can be below
2^(1−k), since a pattern and its opposite count alike: below six questions that differ none is
below 0.05, whatever they say.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
LISTED = 18  # differences whose patterns are all listed
CELLS = 40_000_000  # steps of counting on a grid
DRAWN = 9999  # patterns drawn where there are too many to count
_NEAR = 1e-9  # relative; sums that differ by less are the same
_OFF = 1e-7  # relative; how far from a grid rounding may put a difference
_FINEST = 1e-6  # relative; a grid that is finer is none to count on


def least_p(differences: FloatArray) -> float:
    """The smallest p that differences [n] could have with other signs: 2^(1−k), 1 for none."""
    return float(min(1.0, 2.0 ** (1 - int(np.count_nonzero(differences)))))


def sign_flip_p(differences: FloatArray, seed: int = 0) -> float:
    """p of differences [n], one a question.

    Exact where the differences lie on a grid, as those of whole scores do, or are few; else from
    9,999 drawn patterns, (1 + how many reach the sum) / 10,000, which keeps the level, too (Phipson
    & Smyth 2010). The same seed gives the same p.
    """
    sizes = np.abs(differences[differences != 0]).astype(np.float64)
    if not len(sizes):
        return 1.0
    sum_ = abs(float(differences.sum()))
    grid = _on_a_grid(sizes)
    if grid is not None and grid.sum() * len(grid) <= CELLS:
        return _counted(grid, round(sum_ / (sizes.sum() / grid.sum())))
    reached = sum_ - _NEAR * sizes.sum()
    if len(sizes) <= LISTED:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums - size, sums + size])
        return float(np.mean(np.abs(sums) >= reached))
    rng = np.random.default_rng(seed)
    hits = 0
    for start in range(0, DRAWN, 1000):
        signs = rng.integers(0, 2, (min(1000, DRAWN - start), len(sizes))) * 2.0 - 1
        hits += int(np.sum(np.abs(signs @ sizes) >= reached))
    return max((1 + hits) / (1 + DRAWN), least_p(differences))


def _counted(sizes: npt.NDArray[np.int64], sum_: int) -> float:
    """P(|Σ s_i sizes_i| ≥ sum) by the distribution of the sum, one size after another. All terms
    are positive, so nothing is lost by rounding."""
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)
    chance[reach] = 1.0
    for size in sizes:
        half = chance / 2
        chance = np.zeros_like(half)
        chance[size:] += half[:-size]
        chance[:-size] += half[size:]
    at = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(chance[at >= sum_].sum()))


def _on_a_grid(sizes: FloatArray) -> npt.NDArray[np.int64] | None:
    """Sizes [k] in whole steps of the widest grid that they lie on; None for none that is wide
    enough to count on."""
    top = float(sizes.max())
    step = top
    for size in np.unique(sizes):
        rest = float(size)
        while rest > _OFF * top:  # Euclid's, up to rounding
            step, rest = rest, abs(math.remainder(step, rest))
        if step < _FINEST * top:
            return None
    steps = np.rint(sizes / step).astype(np.int64)
    near = np.abs(steps * step - sizes) <= _OFF * top
    return steps if bool(near.all()) and int(steps.min()) > 0 else None
