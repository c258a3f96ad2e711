"""How few positions differ at all (arXiv 2603.22446): the share whose JS exceeds a threshold.

    share(x) = #{t : JS_t > x} / n      over the n positions with two distributions, for x in
                                        THRESHOLDS, nats; JS is at most ln 2 = 0.693

Quantisation alone moves JS, too: thresholds below the 95th percentile of the noise floor's JS (base
against its other file) count noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urial_local.tasks.shift.curves import plain
from urial_local.tasks.shift.positions import Positions

THRESHOLDS = (0.01, 0.05, 0.1, 0.2)  # nats


@dataclass(frozen=True, slots=True)
class Sparsity:
    shares: Sequence[float | None]  # for each of THRESHOLDS

    def as_json(self) -> list[dict[str, object]]:
        pairs = zip(THRESHOLDS, self.shares, strict=True)
        return [{"js": x, "share": share} for x, share in pairs]


def sparsity(p: Positions) -> Sparsity:
    """Over all positions with two distributions."""
    js = p.js[p.ranked]
    if not len(js):
        return Sparsity([None] * len(THRESHOLDS))
    return Sparsity(plain([float((js > np.float32(x)).mean()) for x in THRESHOLDS]))
