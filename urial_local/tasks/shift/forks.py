"""Forks: the fifth of the positions at which the base is least sure (arXiv 2506.01939).

With the base's entropy Hb_t and the aligned model's Ha_t in nats, over the positions of all answers
with two distributions:

    fork        Hb_t > Q, Q being the 0.8 quantile of all Hb (linear between two values); where many
                are equal to Q, forks are fewer than a fifth
    shifted     the share of shifted tokens (not in the base counts) at forks, and elsewhere
    overlap     |F ∩ G| / |F ∪ G|, G being the forks of the aligned model by its own quantile
    entropies   the means of Hb and Ha at forks
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from urial_local.tasks.intervals import Interval, ends, intervals
from urial_local.tasks.shift.curves import plain, rounded
from urial_local.tasks.shift.positions import Mask, Positions, Singles

QUANTILE = 0.8


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of shifted tokens with its 95 % interval over answers."""

    positions: int
    share: float | None
    interval: Interval | None

    def as_json(self) -> dict[str, object]:
        return {"positions": self.positions, "share": self.share, **ends(self.interval)}


@dataclass(frozen=True, slots=True)
class Forks:
    threshold: float | None  # nats
    inside: Rate
    outside: Rate
    overlap: float | None
    base_entropy: float | None
    aligned_entropy: float | None

    def as_json(self) -> dict[str, object]:
        return {
            "threshold": self.threshold,
            "inside": self.inside.as_json(),
            "outside": self.outside.as_json(),
            "overlap": self.overlap,
            "base_entropy": self.base_entropy,
            "aligned_entropy": self.aligned_entropy,
        }


def forks(p: Positions) -> Forks:
    """Over all positions with two distributions."""
    ours, theirs = (_above(h, p.ranked) for h in (p.base_entropy, p.aligned_entropy))
    either = int((ours & theirs).sum()), int((ours | theirs).sum())
    threshold = np.quantile(p.base_entropy[p.ranked], QUANTILE) if p.ranked.any() else np.nan
    return Forks(
        threshold=plain([float(threshold)])[0],
        inside=_rate(p, ours),
        outside=_rate(p, p.ranked & ~ours),
        overlap=plain([either[0] / either[1]])[0] if either[1] else None,
        base_entropy=_mean(p.base_entropy[ours]),
        aligned_entropy=_mean(p.aligned_entropy[ours]),
    )


def _above(entropy: Singles, ranked: Mask) -> Mask:
    if not ranked.any():
        return ranked
    found: Mask = ranked & (entropy > np.quantile(entropy[ranked], QUANTILE))
    return found


def _rate(p: Positions, mask: Mask) -> Rate:
    shifted, all_of = p.per_answer(mask & p.shifted), p.per_answer(mask)
    (found,) = intervals(shifted[:, None], all_of[:, None])
    n = int(all_of.sum())
    return Rate(n, plain([shifted.sum() / n])[0] if n else None, rounded(found))


def _mean(values: Singles) -> float | None:
    return plain([float(values.mean(dtype=np.float64))])[0] if len(values) else None
