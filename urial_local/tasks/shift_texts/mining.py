"""Which tokens the aligned model prefers, whatever the text says: counted over the vocabulary.

At a position t with the distributions a_t (aligned) and b_t (base), for every token v:

    d_t[v]       ln a_t[v] - ln b_t[v]. It differs from the difference of the logits by a constant
                 at each position, so both have the same order.
    top[v]       #{t : v is among the k tokens with the largest d_t, and d_t[v] > 0}, ties by lower
                 id (Diff Mining counts so, with k = 100)
    positive[v]  #{t : d_t[v] > 0}
    gain[v]      Σ_t (a_t[v] - b_t[v]): how many more times the aligned model would write v, were it
                 asked at each position
    overlap_t    Σ_v min(a_t[v], b_t[v]), 0 … 1

`top` favours tokens that both models give next to nothing: a ratio is large there, too. `gain` says
what would change in a text. In single precision, sums in double; a position without two
distributions counts nowhere.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from urial_local.runtime.shift_rows import FloatArray, Logits

K = 100
SHARE = 10  # of a small vocabulary at most a tenth is listed


def listed(n_vocab: int) -> int:
    """k for a vocabulary of this size."""
    return max(1, min(K, n_vocab // SHARE))


class Mined:
    """Counts over positions, each [n_vocab]."""

    def __init__(self, n_vocab: int, k: int | None = None) -> None:
        self.k = k or listed(n_vocab)
        self.top = np.zeros(n_vocab, np.int64)
        self.positive = np.zeros(n_vocab, np.int64)
        self.gain = np.zeros(n_vocab, np.float64)
        self.positions = 0

    def add(self, base: Logits, aligned: Logits) -> FloatArray:
        """Count positions, logits float32 [n, n_vocab]; returns their overlap, [n], NaN where a
        model's logits are not finite."""
        return np.array([self._one(b, a) for b, a in zip(base, aligned, strict=True)], np.float64)

    def _one(self, base: npt.NDArray[np.float32], aligned: npt.NDArray[np.float32]) -> float:
        b, a = _log_softmax(base), _log_softmax(aligned)
        if b is None or a is None:
            return float("nan")
        with np.errstate(invalid="ignore"):
            d = a - b
        d[np.isnan(d)] = -np.inf  # neither model can write it
        positive = d > 0
        self.positive += positive
        border = np.partition(d, len(d) - self.k)[len(d) - self.k]
        above = positive & (d > border)
        self.top += above
        if border > 0:
            ties = np.flatnonzero(d == border)[: self.k - int(above.sum())]
            self.top[ties] += 1
        pa, pb = np.exp(a), np.exp(b)
        self.gain += pa - pb
        self.positions += 1
        return float(np.minimum(pa, pb).sum(dtype=np.float64))


def _log_softmax(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    top = x.max()
    if not np.isfinite(top) or np.isnan(x).any():
        return None
    shifted = x - top
    found: npt.NDArray[np.float32] = shifted - np.float32(
        np.log(np.exp(shifted).sum(dtype=np.float64))
    )
    return found
