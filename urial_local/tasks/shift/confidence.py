"""How often the two disagree, by how sure the base is (arXiv 2410.09300, figure of its analysis).

Positions with two distributions are put into ten bins by the base's largest probability: [0, 0.1),
[0.1, 0.2) … [0.9, 1]. In each:

    differ    the share of positions at which the two models' first choices are other tokens
    shifted   the share at which the token that was written is shifted, or not in the base
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from urial_local.tasks.shift.curves import plain
from urial_local.tasks.shift.positions import Positions

BINS = 10


@dataclass(frozen=True, slots=True)
class Confidence:
    """A bin: from which probability on, and None for the shares of no positions."""

    low: float
    positions: int
    differ: float | None
    shifted: float | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def confidence(p: Positions) -> tuple[Confidence, ...]:
    """One for each bin, the least sure first."""
    ranked = p.ranked
    edges = np.arange(1, BINS, dtype=np.float32) / np.float32(BINS)
    bins = np.searchsorted(edges, p.base_top[ranked], side="right")
    count, differ, shifted = (
        np.bincount(bins, weights, minlength=BINS)
        for weights in (None, ~p.same_top[ranked], p.shifted[ranked])
    )
    return tuple(
        Confidence(b / BINS, int(n), *(plain([v / n])[0] if n else None for v in (d, s)))
        for b, (n, d, s) in enumerate(zip(count, differ, shifted, strict=True))
    )
