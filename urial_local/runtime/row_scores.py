"""Log-sum-exp, log-probability and rank of chosen tokens: the native kernel and its numpy twin.

For a row of logits x[v], v = 0 … V-1, and a target id t, in natural logarithms:

    log_sum_exp = ln Σ_v exp(x[v])
    logprob     = x[t] - log_sum_exp
    rank        = 1 + #{v : x[v] > x[t]} + #{v < t : x[v] = x[t]}

A row with a NaN, with +inf, or without any finite logit has no distribution: its status is 1, its
numbers are NaN and its rank is 0. A logit of -inf is a token of probability zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.runtime.native import native

IdArray = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class RowScores:
    """One entry for each row asked for; see the module's text for the definitions."""

    log_sum_exp: npt.NDArray[np.float64]  # [n], nats
    logprob: npt.NDArray[np.float64]  # [n], nats
    rank: IdArray  # [n], from 1
    status: IdArray  # [n], 0 = fine, 1 = not finite


def score_rows(
    logits: npt.NDArray[np.float32], rows: IdArray, targets: IdArray, level: str = ""
) -> RowScores:
    """Scores of `targets[i]` in `logits[rows[i]]`, read where they lie, without a copy.

    logits: float32 [n_rows, n_vocab], C-contiguous. rows, targets: int32 [n]. `level` forces an
    instruction level (`portable`, `avx2`, `avx512`). Raises IndexError for a row or target out of
    range, ValueError for a wrong layout or a level that this processor lacks.
    """
    if logits.dtype != np.float32 or logits.ndim != 2 or not logits.flags.c_contiguous:
        raise ValueError("logits must be a C-contiguous float32 matrix")
    n_rows, n_vocab = logits.shape
    address = logits.__array_interface__["data"][0]
    return RowScores(*native.score_rows(address, n_rows, n_vocab, rows, targets, level))


def score_rows_numpy(logits: npt.NDArray[np.float32], rows: IdArray, targets: IdArray) -> RowScores:
    """The oracle: the same in float64, as the definitions read."""
    x = logits[rows].astype(np.float64)
    chosen = x[np.arange(len(rows)), targets]
    bad = np.isnan(x).any(1) | (x == np.inf).any(1) | ~np.isfinite(x).any(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        top = x.max(1, initial=-np.inf)
        lse = top + np.log(np.exp(x - top[:, None]).sum(1))
        logprob = chosen - lse
    ids = np.arange(x.shape[1])
    above = (x > chosen[:, None]).sum(1)
    ties = ((x == chosen[:, None]) & (ids < targets[:, None])).sum(1)
    rank = np.where(bad, 0, 1 + above + ties).astype(np.int32)
    nan = np.float64(np.nan)
    return RowScores(
        np.where(bad, nan, lse), np.where(bad, nan, logprob), rank, bad.astype(np.int32)
    )


def instruction_level() -> str:
    """The level that the kernel chose on this processor: avx512, avx2 or portable."""
    return native.instruction_level()
