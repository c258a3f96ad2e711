"""The next token of each row of logits: the native kernel and its numpy twin.

For a row of logits x[v], v = 0 … V-1, in this order, as in llama.cpp:

    penalty      every id of `seen`, once: x[v] / r where x[v] > 0, else x[v] · r, in float32
                 (Keskar et al. 2019, arXiv 1909.05858, eq. 2, as transformers has it)
    order        larger logits first, among equal ones the lower id; every filter keeps a beginning
    top-k        the first k tokens
    top-p        with p = exp(x - max x), normalised over what top-k kept: the tokens before which
                 the mass is below top_p, so the first always stays
    min-p        the tokens with exp(x - max x) ≥ min_p
    temperature  w = exp((x - max x) / T) over what top-p and min-p both kept
    draw         the first token at which the sum of w, in order, is above u · Σ w, with the row's
                 uniform number u in [0, 1). At T = 0: the first token, whatever the filters

    logprob      of the token drawn: x[t] - ln Σ_v exp(x[v]) in the row as the model gave it, nats
    top          the first tokens of that row in order, with their logprobs
    status       1 where that row has a NaN, +inf or nothing finite; then the token is 0 and the
                 logprob NaN

Sums are double. Where a sum lies within rounding of a border, either side of it may be taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.runtime.native import native
from urial_local.runtime.row_scores import IdArray, score_rows_numpy
from urial_local.runtime.sampling import Sampling

FloatRow = npt.NDArray[np.float32]
# Logits in one call from which threads are worth starting, at some twenty microseconds each.
_WORTH_THREADS = 1 << 18
MAX_TOP = 1000  # top tokens of a row


@dataclass(frozen=True, slots=True)
class DrawTask:
    """What one token is drawn from."""

    row: FloatRow  # [n_vocab], as the model gave it
    view: FloatRow  # [n_vocab], what may be chosen from: the row, or a copy with tokens ruled out
    sampling: Sampling
    seen: IdArray  # ids that the penalty looks at; doublets count once
    uniform: float  # in [0, 1)
    top: int = 0  # how many of the most probable tokens of `row` are told


@dataclass(frozen=True, slots=True)
class Drawn:
    """One entry for each task; see the module's text for the definitions."""

    tokens: IdArray  # [n]
    logprobs: npt.NDArray[np.float64]  # [n], nats
    status: IdArray  # [n], 0 = fine, 1 = not finite
    top_ids: IdArray  # [n, k], k the most that any task asks for; -1 where there are fewer
    top_logprobs: npt.NDArray[np.float64]  # [n, k], nats


def draw_rows(tasks: Sequence[DrawTask], threads: int = 1, level: str = "") -> Drawn:
    """Draw a token for each task; rows are read where they lie. `level` forces an instruction level
    (`portable`, `avx2`, `avx512`).

    Raises ValueError for a wrong layout, a level that this processor lacks or more than MAX_TOP
    top tokens, IndexError for a seen id out of range.
    """
    if not tasks:
        none = np.zeros(0, np.int32)
        return Drawn(none, np.zeros(0), none, np.zeros((0, 0), np.int32), np.zeros((0, 0)))
    n_vocab = len(tasks[0].row)
    if max(task.top for task in tasks) > MAX_TOP or min(task.top for task in tasks) < 0:
        raise ValueError(f"the number of top tokens must be between 0 and {MAX_TOP}")
    rows = []
    for task in tasks:
        row = _address(task.row, n_vocab)
        s = task.sampling
        rows.append(
            (
                row,
                row if task.view is task.row else _address(task.view, n_vocab),
                s.temperature,
                s.top_k,
                s.top_p,
                s.min_p,
                s.repeat_penalty,
                task.seen,
                task.uniform,
                task.top,
            )
        )
    worth = threads if len(tasks) * n_vocab >= _WORTH_THREADS else 1
    return Drawn(*native.draw_rows(rows, n_vocab, worth, level))


def _address(row: FloatRow, n_vocab: int) -> int:
    if row.dtype != np.float32 or row.shape != (n_vocab,) or not row.flags.c_contiguous:
        raise ValueError(f"a row must be contiguous float32 [{n_vocab}]")
    address: int = row.__array_interface__["data"][0]
    return address


def draw_row_numpy(task: DrawTask) -> tuple[int, float, int]:
    """The oracle: token, log-probability and status of one task, as the definitions read."""
    s = task.sampling
    whole = score_rows_numpy(task.row[None], np.zeros(1, np.int32), np.zeros(1, np.int32))
    if whole.status[0]:
        return 0, float("nan"), 1
    x = task.view
    if s.repeat_penalty != 1.0 and len(task.seen):
        x = x.copy()
        r, ids = np.float32(s.repeat_penalty), np.unique(task.seen)
        with np.errstate(over="ignore"):
            x[ids] = np.where(x[ids] > 0, x[ids] / r, x[ids] * r)
    token = _drawn_numpy(x, s, task.uniform)
    return token, float(np.float64(task.row[token]) - whole.log_sum_exp[0]), 0


def _drawn_numpy(logits: FloatRow, s: Sampling, uniform: float) -> int:
    ids = np.lexsort((np.arange(len(logits)), -logits))
    x = logits[ids].astype(np.float64)
    if s.temperature == 0 or not np.isfinite(x[0]):
        return int(ids[0])
    if s.top_k:
        ids, x = ids[: s.top_k], x[: s.top_k]
    p = np.exp(x - x[0])
    keep = p >= s.min_p
    if s.top_p < 1:
        mass = np.cumsum(p) / p.sum()
        keep &= np.concatenate(([True], mass[:-1] < s.top_p))
    ids, x = ids[keep], x[keep]
    total = np.cumsum(np.exp((x - x[0]) / s.temperature))
    at = np.searchsorted(total, uniform * total[-1], side="right")
    return int(ids[min(at, len(ids) - 1)])
