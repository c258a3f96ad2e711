"""How a statistic runs along the answers: by position in tokens, and by relative position."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from urial_local.tasks.intervals import Interval, Scale, ratio_intervals
from urial_local.tasks.shift.measures import Curve, Quartiles

FloatArray = npt.NDArray[np.float64]
SINGLE = 16  # positions that are a bin of their own, since the shift is largest there
RELATIVE_BINS = 20
MIN_ANSWERS = 3  # a bin that fewer answers reach is not shown, unless there are fewer in all


def position_edges(longest: int) -> npt.NDArray[np.int64]:
    """Borders of bins over positions 0 … longest-1: single ones first, then a fifth wider each."""
    edges = list(range(min(SINGLE, longest) + 1))
    while edges[-1] < longest:
        edges.append(min(longest, edges[-1] + max(2, edges[-1] // 5)))
    return np.asarray(edges, np.int64)


def curve(
    values: FloatArray,
    bins: npt.NDArray[np.int64],
    answers: npt.NDArray[np.int64],
    n_bins: int,
    scale: Scale | None,
) -> Curve:
    """The mean of a statistic in each bin with a 95 % band, over answers.

    values, bins, answers: [n], of each position its value, bin and answer. Within a bin an
    answer's positions are averaged first, so that a long answer counts once; the band is the 95 %
    interval of that mean on `scale` (see tasks.intervals), none for None. Bins that fewer than
    MIN_ANSWERS answers reach (all of them, if there are fewer) are left out: a tail of one or two
    answers is not a curve.
    """
    n_answers = int(answers.max(initial=-1)) + 1
    cell = bins * n_answers + answers
    count = np.bincount(cell, minlength=n_bins * n_answers).reshape(n_bins, n_answers)
    total = np.bincount(cell, values, minlength=n_bins * n_answers).reshape(n_bins, n_answers)
    there = count > 0
    per_answer = np.where(there, total / np.maximum(count, 1), 0.0)
    n = there.sum(1)
    mean = per_answer.sum(1) / np.maximum(n, 1)
    shown = (n > 0) & (n >= min(MIN_ANSWERS, len(np.unique(answers))))
    low, high = np.full(n_bins, np.nan), np.full(n_bins, np.nan)
    if scale is not None:
        low, high = ratio_intervals(per_answer.T, there.T.astype(np.float64), scale)
    return Curve(
        answers=n.tolist(),
        mean=plain(np.where(shown, mean, np.nan)),
        low=plain(np.where(shown, low, np.nan)),
        high=plain(np.where(shown, high, np.nan)),
    )


def quartiles(values: FloatArray, bins: npt.NDArray[np.int64], n_bins: int) -> Quartiles:
    """Median and quartiles over all positions of each bin."""
    order = np.argsort(bins, kind="stable")
    starts = np.searchsorted(bins[order], np.arange(n_bins + 1))
    rows = np.full((n_bins, 3), np.nan)
    for b in range(n_bins):
        inside = values[order[starts[b] : starts[b + 1]]]
        if len(inside):
            rows[b] = np.percentile(inside, (25, 50, 75))
    return Quartiles(plain(rows[:, 0]), plain(rows[:, 1]), plain(rows[:, 2]))


def plain(values: Iterable[float]) -> list[float | None]:
    """To six significant digits, None for what is not a number."""
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values]


def rounded(interval: Interval | None) -> Interval | None:
    """The same of an interval's ends."""
    if interval is None:
        return None
    low, high = plain((interval.low, interval.high))
    return None if low is None or high is None else Interval(low, high)
