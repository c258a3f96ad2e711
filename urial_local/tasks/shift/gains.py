"""Δ log p: how much more likely the aligned model makes the tokens that it writes.

Over the positions t with two distributions at which both models can write the token o_t:

    Δ_t = ln a_t[o_t] - ln b_t[o_t]     nats; above 0 where alignment promoted the token, below
                                        where it suppressed it and it was written all the same

as in arXiv 2603.22117, there for reinforcement learning. The token that ends an answer is left out:
most bases cannot know how the aligned model ends, and that one term would outweigh all others. Per
answer, with that token and without it, in nats and in bits (nats /
ln 2):

    Σ_t Δ_t         the log-likelihood ratio of the answer under the two models
    Σ_t KL(a_t‖b_t) the same with each term replaced by its mean over the next token

Where answers are *sampled* from the aligned model at temperature 1 without further filters, both
are unbiased estimates of the divergence KL(A‖B) between the models' distributions over whole
answers (cut off at `max_tokens`). Greedy answers, colder ones and given ones are no draws from it:
there the sums say something of these answers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from urial_local.tasks.intervals import Distribution, distribution
from urial_local.tasks.shift.curves import plain
from urial_local.tasks.shift.measures import MIN_COUNT
from urial_local.tasks.shift.positions import Mask, Positions, Singles
from urial_local.tasks.shift.tokens import Text

LISTED = 40  # tokens in a list
BIT = math.log(2)  # nats


@dataclass(frozen=True, slots=True)
class GainedToken:
    """A token at `count` positions, its mean Δ there and the sum of them, in nats."""

    id: int
    text: str
    count: int
    mean: float
    sum: float

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Gains:
    """Δ over positions, and the tokens of the largest and the lowest sums of it."""

    values: Distribution
    promoted: Sequence[GainedToken]
    suppressed: Sequence[GainedToken]

    def as_json(self) -> dict[str, object]:
        return {
            **self.values.as_json(),
            "promoted": [token.as_json() for token in self.promoted],
            "suppressed": [token.as_json() for token in self.suppressed],
        }


def gains(p: Positions, text: Text) -> Gains:
    """Over all positions but ends. The lists hold tokens of MIN_COUNT occurrences or more."""
    there = p.ranked & ~p.end & np.isfinite(p.gain)
    ids, place = np.unique(p.id[there], return_inverse=True)
    count = np.bincount(place, minlength=len(ids))
    total = np.bincount(place, p.gain[there], minlength=len(ids))
    often = count >= MIN_COUNT

    def listed(sign: int) -> list[GainedToken]:
        order = np.lexsort((ids, -sign * total))
        return [
            GainedToken(
                int(ids[i]), text(int(ids[i])), int(count[i]),
                *(float(f"{v:.6g}") for v in (total[i] / count[i], total[i])),
            )
            for i in order
            if often[i] and sign * total[i] > 0
        ][:LISTED]  # fmt: skip

    return Gains(distribution(p.gain[there]), listed(1), listed(-1))


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over each answer, in nats. `left_out`: answers with a position at which a term is not
    finite."""

    gain: Distribution
    kl: Distribution
    gain_without_end: Distribution
    kl_without_end: Distribution
    left_out: int

    def as_json(self) -> dict[str, object]:
        named = {
            "gain": self.gain,
            "kl_aligned_base": self.kl,
            "gain_without_end": self.gain_without_end,
            "kl_aligned_base_without_end": self.kl_without_end,
        }
        return {
            name: {**found.as_json(), "mean_bits": bits(found.mean)}
            for name, found in named.items()
        } | {"left_out": self.left_out}


def totals(p: Positions) -> Totals:
    """Of the answers all of whose positions have finite terms."""
    there = p.sound & np.isfinite(p.gain)
    length = np.bincount(p.row)
    whole = np.bincount(p.row[there], minlength=len(length)) == length

    def summed(values: Singles, mask: Mask) -> Distribution:
        return distribution(np.bincount(p.row[mask], values[mask], minlength=len(length))[whole])

    return Totals(
        summed(p.gain, there),
        summed(p.kl_back, there),
        summed(p.gain, there & ~p.end),
        summed(p.kl_back, there & ~p.end),
        int((~whole).sum()),
    )


def bits(nats: float | None) -> float | None:
    return None if nats is None else plain([nats / BIT])[0]
