"""How a row's tokens are drawn, and what a row keeps for it. Neutral unless asked.

The definitions stand in `draw_rows`. The repetition penalty follows Hugging Face's rule: every
token of the scope counts once. llama.cpp's own sampler looks at a window of 64 tokens and never at
the prompt, so the same number means something else there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.base import limits
from urial_local.base.errors import UsageError

IdArray = npt.NDArray[np.int32]


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
            f"`temperature` {self.temperature} must be 0, or from {limits.COLDEST} to a million",
        )
        need(0 <= self.top_k <= limits.TOKENS, f"`top_k` {self.top_k} must be 0 (off) or more")
        need(0 < self.top_p <= 1, f"`top_p` {self.top_p} must be in (0, 1]")
        need(0 <= self.min_p <= 1, f"`min_p` {self.min_p} must be in [0, 1]")
        least, most = limits.PENALTY
        need(
            least <= self.repeat_penalty <= most,
            f"`repeat_penalty` {self.repeat_penalty} must be from {least} to {most:,.0f}",
        )
        scope = self.penalty_scope
        need(
            scope in ("all", "output") or _is_count(scope),
            f"`penalty_scope` {scope[:20]!r} must be all, output or a number of tokens, at most"
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
        self._tokens = np.array(prompt, np.int32)  # prompt and output, with room for more
        self._count = len(self._tokens)
        scope = sampling.penalty_scope
        self._first = self._count if scope == "output" else 0
        # A window slides over prompt and output, as llama.cpp's repeat_last_n does.
        self._window = int(scope) if scope.isdigit() else None

    def uniform(self) -> float:
        """The number of the next draw, in [0, 1). Greedy decoding draws none."""
        return float(self._random.random()) if self.sampling.temperature else 0.0

    def seen(self) -> IdArray:
        """The ids that the penalty looks at now; an id may stand there more than once."""
        first = self._first if self._window is None else max(0, self._count - self._window)
        return self._tokens[first : self._count]

    def accept(self, token: int) -> None:
        """The token was chosen."""
        if self._count == len(self._tokens):
            self._tokens = np.concatenate([self._tokens, np.zeros(self._count + 64, np.int32)])
        self._tokens[self._count] = token
        self._count += 1
