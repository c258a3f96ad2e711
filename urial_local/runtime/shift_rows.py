"""Statistics of a base and an aligned model's next-token distributions: kernel and numpy twin.

For one position, with the base model's probabilities b[v], the aligned model's a[v], v = 0 … V-1
(softmax of their logits), and the token t that the aligned model wrote; logarithms are natural:

    base_rank        1 + #{v : b[v] > b[t]} + #{v < t : b[v] = b[t]}     (arXiv 2312.01552, §2)
    base_logprob     ln b[t]
    kl_base_aligned  KL(b ‖ a) = Σ_v b[v] ln(b[v] / a[v])                (the paper's direction)
    kl_aligned_base  KL(a ‖ b)
    js               ½ KL(b ‖ m) + ½ KL(a ‖ m) with m = (a + b) / 2;     0 … ln 2
    base_entropy     -Σ_v b[v] ln b[v]
    base_top_ids     the k most probable tokens, ties by lower id; base_top_logprobs their ln b[v]
    base_outside     1 - Σ b over those k
    base_nucleus_entropy  -Σ_{v in N} c[v] ln c[v], c[v] = b[v] / Σ_{w in N} b[w]: N is the nucleus
                     at 0.9, the fewest tokens, most probable first, with Σ b ≥ 0.9 - 1e-6, where
                     1e-6 is for rounding: 27 of 30 even tokens are enough. Which ones of several
                     equally probable tokens are in N changes nothing (arXiv 2506.17871)
    base_above       Σ b[v] over {v : b[v] > b[t]}: a top-p of that or less rules t out

and the same of the aligned model, and further

    overlap          Σ_v min(b[v], a[v]) = 1 - ½ Σ_v |b[v] - a[v]|;      0 … 1
    aligned_nucleus_mass  Σ a[v] over the aligned model's nucleus

Everything is over the whole vocabulary.

A row with a NaN, with +inf, or without any finite logit has no distribution: the status says which
model's, its ranks are 0 and what depends on it is NaN. A logit of -inf is a token of probability
zero: it is in no top list, and a KL in whose first model only it is possible is +inf.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.runtime.native import native
from urial_local.runtime.row_scores import IdArray

FloatArray = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
BASE_NOT_FINITE, ALIGNED_NOT_FINITE = 1, 2  # bits of the status
TOP = 10
NUCLEUS = 0.9 - 1e-6  # of the probability


@dataclass(frozen=True, slots=True)
class ShiftRows:
    """One entry for each position; see the module's text for the definitions. Nats."""

    status: IdArray  # [n], bits; 0 = fine
    base_rank: IdArray  # [n], from 1
    aligned_rank: IdArray  # [n], from 1
    base_logprob: FloatArray  # [n]
    aligned_logprob: FloatArray  # [n]
    kl_base_aligned: FloatArray  # [n]
    kl_aligned_base: FloatArray  # [n]
    js: FloatArray  # [n]
    base_entropy: FloatArray  # [n]
    aligned_entropy: FloatArray  # [n]
    base_outside: FloatArray  # [n], probability
    aligned_outside: FloatArray  # [n], probability
    overlap: FloatArray  # [n], probability
    base_above: FloatArray  # [n], probability
    aligned_above: FloatArray  # [n], probability
    base_nucleus_entropy: FloatArray  # [n]
    aligned_nucleus_entropy: FloatArray  # [n]
    aligned_nucleus_mass: FloatArray  # [n], probability
    base_top_ids: IdArray  # [n, k]; -1 past the last possible token
    aligned_top_ids: IdArray  # [n, k]
    base_top_logprobs: FloatArray  # [n, k]
    aligned_top_logprobs: FloatArray  # [n, k]


def shift_rows(
    base: Logits,
    aligned: Logits,
    targets: IdArray,
    *,
    base_rows: IdArray | None = None,
    aligned_rows: IdArray | None = None,
    k: int = TOP,
    threads: int = 1,
    level: str = "",
) -> ShiftRows:
    """Statistics of token `targets[i]` in `base[base_rows[i]]` and `aligned[aligned_rows[i]]`.

    base, aligned: float32 [n_rows, n_vocab], C-contiguous, read where they lie. targets and row
    numbers: int32 [n]; rows are 0 … n-1 by default. Raises IndexError for a row or target out of
    range, ValueError for a wrong layout, k beyond 64, or a `level` that this processor lacks.
    """
    for logits in (base, aligned):
        if logits.dtype != np.float32 or logits.ndim != 2 or not logits.flags.c_contiguous:
            raise ValueError("logits must be a C-contiguous float32 matrix")
    if base.shape != aligned.shape:
        raise ValueError(f"the two logits differ in shape: {base.shape} and {aligned.shape}")
    rows = np.arange(len(targets), dtype=np.int32)
    n_rows, n_vocab = base.shape
    columns = native.shift_rows(
        base.__array_interface__["data"][0],
        aligned.__array_interface__["data"][0],
        n_rows,
        n_vocab,
        rows if base_rows is None else base_rows,
        rows if aligned_rows is None else aligned_rows,
        targets,
        k,
        threads,
        level,
    )
    return ShiftRows(**columns)


def shift_rows_numpy(base: Logits, aligned: Logits, targets: IdArray, *, k: int = TOP) -> ShiftRows:
    """The oracle: rows 0 … n-1 in float64, as the definitions read."""
    n = len(targets)
    sides = [_side(logits[:n].astype(np.float64), targets, k) for logits in (base, aligned)]
    b, a = (side["logprobs"] for side in sides)
    bad = [side["bad"] for side in sides]
    either = bad[0] | bad[1]
    middle = np.logaddexp(b, a) - np.log(2)
    nan = np.nan

    def divergence(p: FloatArray, q: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            terms = np.where(np.isneginf(p), 0.0, np.exp(p) * (p - q))
            terms = np.where(np.isneginf(q) & ~np.isneginf(p), np.inf, terms)
        return np.where(either, nan, terms.sum(1))

    with np.errstate(invalid="ignore"):
        js = (divergence(b, middle) + divergence(a, middle)) / 2
    overlap = np.where(either, nan, np.minimum(np.exp(b), np.exp(a)).sum(1))
    both = dict(zip(("base", "aligned"), sides, strict=True))
    names = [
        *("rank", "logprob", "above", "entropy", "nucleus_entropy"),
        *("outside", "top_ids", "top_logprobs"),
    ]
    return ShiftRows(
        status=(bad[0] * BASE_NOT_FINITE + bad[1] * ALIGNED_NOT_FINITE).astype(np.int32),
        kl_base_aligned=divergence(b, a),
        kl_aligned_base=divergence(a, b),
        js=js,
        overlap=overlap,
        aligned_nucleus_mass=sides[1]["nucleus_mass"],
        **{f"{model}_{name}": both[model][name] for model in both for name in names},
    )


def _side(x: FloatArray, targets: IdArray, k: int) -> dict[str, Any]:
    """One model's share of the oracle."""
    bad = np.isnan(x).any(1) | (x == np.inf).any(1) | ~np.isfinite(x).any(1)
    x = np.where(bad[:, None], 0.0, x)
    shifted = x - x.max(1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    n, n_vocab = x.shape
    chosen = x[np.arange(n), targets][:, None]
    ties = (x == chosen) & (np.arange(n_vocab) < targets[:, None])
    order = np.argsort(-x, axis=1, kind="stable")[:, :k]
    top = np.take_along_axis(logprobs, order, 1)
    order = np.where(np.isneginf(top), -1, order)
    pad = ((0, 0), (0, k - order.shape[1]))
    order, top = np.pad(order, pad, constant_values=-1), np.pad(top, pad, constant_values=-np.inf)
    order, top = np.where(bad[:, None], -1, order), np.where(bad[:, None], -np.inf, top)
    with np.errstate(invalid="ignore"):
        entropy = -np.where(np.isneginf(logprobs), 0.0, np.exp(logprobs) * logprobs).sum(1)
    outside = np.maximum(0.0, 1 - np.exp(top).sum(1))
    nucleus_mass, nucleus_entropy = _nucleus(logprobs)
    above = np.where(x > chosen, np.exp(logprobs), 0.0).sum(1)
    return {
        "bad": bad,
        "logprobs": logprobs,
        "rank": np.where(bad, 0, 1 + (x > chosen).sum(1) + ties.sum(1)).astype(np.int32),
        "logprob": np.where(bad, np.nan, logprobs[np.arange(n), targets]),
        "entropy": np.where(bad, np.nan, entropy),
        "nucleus_entropy": np.where(bad, np.nan, nucleus_entropy),
        "nucleus_mass": np.where(bad, np.nan, nucleus_mass),
        "outside": np.where(bad, np.nan, outside),
        "above": np.where(bad, np.nan, above),
        "top_ids": order.astype(np.int32),
        "top_logprobs": top,
    }


def _nucleus(logprobs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Its probability and its entropy, each [n], of log-probabilities [n, n_vocab]."""
    ordered = -np.sort(-logprobs, axis=1)
    p = np.exp(ordered)
    inside = np.cumsum(p, axis=1) - p < NUCLEUS  # not enough before it
    inside[:, 1:] &= p[:, 1:] > 0
    mass = np.where(inside, p, 0.0).sum(1)
    with np.errstate(invalid="ignore"):
        moment = np.where(inside, p * ordered, 0.0).sum(1)
    return mass, np.log(mass) - moment / mass


COLUMNS = tuple(f.name for f in fields(ShiftRows))
