"""Chooses the next token of a row from its logits. Neutral unless asked.

Order, as in llama.cpp: repetition penalty, top-k, top-p, min-p, temperature, draw. The repetition
penalty follows Hugging Face's rule (Keskar et al. 2019, arXiv 1909.05858, eq. 2, as transformers
has it): every token of the scope counts once, a positive logit is divided by the penalty and a
negative one multiplied. llama.cpp's own sampler looks at a window of 64 tokens and never at the
prompt, so the same number means something else there.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.base import limits
from urial_local.base.errors import UsageError

FloatRow = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. The defaults are greedy decoding without any change to the logits."""

    temperature: float = 0.0  # 0: the most probable token
    top_k: int = 0  # 0: all
    top_p: float = 1.0  # 1: all
    min_p: float = 0.0  # 0: all; otherwise relative to the most probable token
    repeat_penalty: float = 1.0  # 1: none
    penalty_scope: str = "all"  # all: prompt and output (the paper's); output; or last N: "64"
    seed: int = 0

    def __post_init__(self) -> None:
        def need(ok: bool, what: str) -> None:
            if not ok:
                raise UsageError(f"Sampling: {what}.")

        need(
            self.temperature == 0 or limits.COLDEST <= self.temperature < 1e6,
            f"temperature {self.temperature} must be 0, or from {limits.COLDEST} to a million",
        )
        need(0 <= self.top_k <= limits.TOKENS, f"top-k {self.top_k} must be 0 (off) or more")
        need(0 < self.top_p <= 1, f"top-p {self.top_p} must be in (0, 1]")
        need(0 <= self.min_p <= 1, f"min-p {self.min_p} must be in [0, 1]")
        least, most = limits.PENALTY
        need(
            least <= self.repeat_penalty <= most,
            f"penalty {self.repeat_penalty} must be from {least} to {most:,.0f}",
        )
        scope = self.penalty_scope
        need(
            scope in ("all", "output") or _is_count(scope),
            f"penalty scope {scope[:20]!r} must be all, output or a number of tokens, at most"
            f" {limits.TOKENS:,}",
        )


def row_seed(run_seed: int, row_id: str, repeat: int = 0) -> int:
    """The seed of one row: 64 bits of sha256 over the run's seed, the row's id and the repeat.

    So a row draws the same numbers whatever its neighbours, its place or its shard.
    """
    text = f"{run_seed}\0{row_id}\0{repeat}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def _is_count(text: str) -> bool:
    return bool(limits.count(text, limits.TOKENS))


class Sampler:
    """One row's state: its random numbers and the tokens that the penalty looks at."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self.sampling = sampling
        self._random = np.random.Generator(np.random.Philox(key=sampling.seed % 2**64))
        scope = sampling.penalty_scope
        # A window slides over prompt and output, as llama.cpp's repeat_last_n does.
        self._window = deque(prompt, maxlen=int(scope)) if scope.isdigit() else None
        self._seen = dict.fromkeys(prompt) if scope == "all" else {}

    def choose(self, logits: FloatRow) -> int:
        """The next token. logits: float32 [n_vocab], not changed. Ties go to the lower id."""
        s = self.sampling
        if s.repeat_penalty != 1.0:
            logits = self._penalised(logits)
        token = int(logits.argmax()) if s.temperature == 0 else self._draw(logits)
        if s.repeat_penalty != 1.0:
            if self._window is not None:
                self._window.append(token)
            else:
                self._seen[token] = None
        return token

    def _penalised(self, logits: FloatRow) -> FloatRow:
        ids = list(dict.fromkeys(self._window) if self._window is not None else self._seen)
        if not ids:
            return logits
        out: FloatRow = logits.copy()
        x = out[ids]
        out[ids] = np.where(
            x > 0, x / self.sampling.repeat_penalty, x * self.sampling.repeat_penalty
        )
        return out

    def _draw(self, logits: FloatRow) -> int:
        s = self.sampling
        ids = np.arange(len(logits))
        if 0 < s.top_k < len(logits):
            ids = np.argpartition(-logits, s.top_k - 1)[: s.top_k]
        # Most probable first, equal ones by id, so that the draw does not hang on memory order.
        ids = ids[np.lexsort((ids, -logits[ids]))]
        x = logits[ids].astype(np.float64)
        if not np.isfinite(x[0]):
            return int(ids[0])  # the engine finds and reports rows that are not finite
        p = np.exp(x - x[0])
        keep = p >= s.min_p  # p[0] is 1: min-p is relative to it
        if s.top_p < 1:
            mass = np.cumsum(p) / p.sum()
            keep &= np.concatenate(([True], mass[:-1] < s.top_p))
        ids, x = ids[keep], x[keep]
        p = np.exp((x - x[0]) / s.temperature)
        total = np.cumsum(p)
        return int(ids[np.searchsorted(total, self._random.random() * total[-1], side="right")])
