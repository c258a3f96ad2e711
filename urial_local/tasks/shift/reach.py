"""Under which filters the base could have drawn the aligned model's tokens at all.

For the token o_t at a position with two distributions, b_t[v] being the base's probabilities
(the "necessary" top-p, min-p and top-k of arXiv 2506.17871):

    top-p p   keeps o_t where Σ {b[v] : b[v] > b[o_t]} < p       (`base_above` in the rows)
    min-p m   keeps o_t where b[o_t] / max_v b[v] ≥ m
    top-k k   keeps o_t where its rank is at most k

and the share of the positions at which it does, for each value in TOP_P, MIN_P and TOP_K. A token
that the base lacks is kept by none. Top-p is None where rows of an earlier release lack the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urial_local.tasks.shift.curves import plain
from urial_local.tasks.shift.positions import Mask, Positions

TOP_P = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999)
MIN_P = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
TOP_K = (1, 2, 3, 5, 10, 20, 50, 100, 1000)


@dataclass(frozen=True, slots=True)
class Reach:
    """The shares for each value of a filter."""

    top_p: Sequence[float | None]
    min_p: Sequence[float | None]
    top_k: Sequence[float | None]

    def as_json(self) -> dict[str, object]:
        named = {"top_p": (TOP_P, self.top_p), "min_p": (MIN_P, self.min_p),
                 "top_k": (TOP_K, self.top_k)}  # fmt: skip
        return {
            name: [{"at": at, "share": share} for at, share in zip(values, shares, strict=True)]
            for name, (values, shares) in named.items()
        }

    def inside_top_p(self, at: float) -> float | None:
        return self.top_p[TOP_P.index(at)]


def reach(p: Positions) -> Reach:
    """Over all positions with two distributions."""
    ranked, known = p.ranked, p.known
    n = int(ranked.sum())
    measured = known & np.isfinite(p.above)

    def share(kept: Mask) -> float:
        return float(kept.sum()) / n if n else np.nan

    lacks = bool(known.any()) and not measured.any()
    ratio = np.where(known, p.prob / np.maximum(p.base_top, np.float32(1e-30)), 0.0)
    return Reach(
        plain([np.nan if lacks else share(measured & (p.above < np.float32(v))) for v in TOP_P]),
        plain([share(known & (ratio >= v * (1 - 1e-6))) for v in MIN_P]),
        plain([share(known & (p.rank <= k)) for k in TOP_K]),
    )
