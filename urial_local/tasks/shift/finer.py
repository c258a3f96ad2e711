"""The finer statistics of one context, each by its own module, and the curves that go with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from urial_local.tasks.intervals import POSITIVE, SHARE, Scale, distribution, intervals
from urial_local.tasks.shift.concentration import Concentration, concentration
from urial_local.tasks.shift.confidence import Confidence, confidence
from urial_local.tasks.shift.curves import plain, rounded
from urial_local.tasks.shift.forks import Forks, forks
from urial_local.tasks.shift.gains import Gains, Totals, gains, totals
from urial_local.tasks.shift.measures import Curve, Divergence
from urial_local.tasks.shift.positions import Mask, Positions, Singles
from urial_local.tasks.shift.reach import Reach, reach
from urial_local.tasks.shift.sparsity import Sparsity, sparsity
from urial_local.tasks.shift.tokens import Text

Along = Callable[[Singles, Mask, Scale | None], Curve]  # the mean of values by position


@dataclass(frozen=True, slots=True)
class FinerCurves:
    """By position. Branching: exp of the mean entropy, as if the model had so many even choices."""

    overlap: Curve
    kl_back: Curve
    gain: Curve
    base_branching: Curve
    aligned_branching: Curve

    def as_json(self) -> dict[str, object]:
        return {
            "overlap": self.overlap.as_json(),
            "kl_aligned_base": self.kl_back.as_json(),
            "gain": self.gain.as_json(),
            "base_branching": self.base_branching.as_json(),
            "aligned_branching": self.aligned_branching.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Finer:
    """What the papers of 2024 to 2026 report; see docs/shift.md. overlap: Σ_v min(a[v], b[v])."""

    overlap: Divergence
    gains: Gains
    totals: Totals
    concentration: Concentration
    sparsity: Sparsity
    forks: Forks
    confidence: tuple[Confidence, ...]
    reach: Reach
    curves: FinerCurves

    def as_json(self) -> dict[str, object]:
        return {
            "overlap": self.overlap.as_json(),
            "gain": self.gains.as_json(),
            "totals": self.totals.as_json(),
            "concentration": self.concentration.as_json(),
            "sparsity": self.sparsity.as_json(),
            "forks": self.forks.as_json(),
            "confidence": [found.as_json() for found in self.confidence],
            "reach": self.reach.as_json(),
        }


def finer(p: Positions, text: Text, along: Along) -> Finer:
    """Of all positions in one context."""
    overlapped = p.ranked & np.isfinite(p.overlap)
    written = p.ranked & ~p.end & np.isfinite(p.gain)
    counts = p.per_answer(overlapped)[:, None]
    (interval,) = intervals(p.per_answer(overlapped, p.overlap)[:, None], counts, SHARE)
    return Finer(
        overlap=Divergence(distribution(p.overlap[overlapped]), rounded(interval)),
        gains=gains(p, text),
        totals=totals(p),
        concentration=concentration(p),
        sparsity=sparsity(p),
        forks=forks(p),
        confidence=confidence(p),
        reach=reach(p),
        curves=FinerCurves(
            overlap=along(p.overlap, overlapped, SHARE),
            kl_back=along(p.kl_back, p.sound, POSITIVE),
            gain=along(p.gain, written, None),
            base_branching=_branching(along(p.base_entropy, p.ranked, POSITIVE)),
            aligned_branching=_branching(along(p.aligned_entropy, p.ranked, POSITIVE)),
        ),
    )


def _branching(entropy: Curve) -> Curve:
    """From a curve of mean entropies, in nats, with its band."""
    mean, low, high = (
        plain([math.nan if v is None else math.exp(v) for v in side])
        for side in (entropy.mean, entropy.low, entropy.high)
    )
    return Curve(entropy.answers, mean, low, high)
