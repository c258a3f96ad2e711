"""How often a guide would be asked, told from a shift run: before any guide has run.

A guide writes where the base's most probable token has less than γ (see runtime.guides). Over the
positions with two distributions, the end token's included, let u be "the base's top-1 probability
is below γ" and s "the aligned model's token is shifted, or not in the base":

    rate       share of positions with u: what nudging at γ would come to
    precision  share of s among the positions with u: how many of its words differ from the base's
    recall     share of u among the positions with s: how much of the shift it would reach

The base reads the aligned model's answer here, and its own beside a guide: so the rate is a
prediction. A share of nothing is None.
"""

from __future__ import annotations

import numpy as np

from urial_local.tasks.shift.measures import Unsure
from urial_local.tasks.shift.positions import Positions

GAMMAS = tuple(round(0.1 * n, 1) for n in range(1, 10))


def unsure(p: Positions) -> tuple[Unsure, ...]:
    """For each γ of GAMMAS, over all positions."""
    top, shifted = p.base_top[p.ranked], p.shifted[p.ranked]
    found = []
    for gamma in GAMMAS:
        below = top < np.float32(gamma)
        both = int((below & shifted).sum())
        found.append(
            Unsure(
                gamma,
                _share(int(below.sum()), len(top)),
                _share(both, int(below.sum())),
                _share(both, int(shifted.sum())),
            )
        )
    return tuple(found)


def _share(part: int, whole: int) -> float | None:
    return float(f"{part / whole:.6g}") if whole else None
