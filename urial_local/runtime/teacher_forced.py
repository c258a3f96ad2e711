"""Scores tokens that are given: decodes them with logits on every one, after prompts kept at hand.

Each prompt has a sequence of its own. Its constant prefix is decoded once (or read from the prefix
cache on disk) and stays there; before each answer the sequence is cut back to exactly that prefix,
so what a row gets does not depend on the rows before it. Knows nothing of prompts or statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import ContextOverflow
from urial_local.runtime.engine import MIN_STORED
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import common_prefix
from urial_local.runtime.sequences import BatchToken, Logits

LOGITS_BYTES = 64 << 20  # of logits at a time, which bounds memory whatever the answers' length


class Forcible(Protocol):
    """What this needs of `Sequences`; the tests put a model with known logits here."""

    batch_size: int
    cells: int
    n_seq: int
    n_vocab: int
    abort_flag: npt.NDArray[np.int32]

    def decode(self, tokens: list[BatchToken]) -> Logits: ...
    def cut(self, sequence: int, n: int) -> bool: ...
    def clear(self, sequence: int) -> None: ...
    def settle(self, sequence: int, keep: bool) -> bytes: ...
    def save(self, sequence: int) -> bytes: ...
    def load(self, sequence: int, state: memoryview, n: int) -> bool: ...


class TeacherForced:
    """Prompts and given answers over the sequences of one context."""

    def __init__(
        self, sequences: Forcible, cache: PrefixCache | None = None, ctx_size: int | None = None
    ) -> None:
        """ctx_size: tokens that a sequence may hold; by default as many as there are cells for."""
        self.sequences, self.cache = sequences, cache
        self.room = min(ctx_size or sequences.cells, sequences.cells // sequences.n_seq)
        # Answer tokens at a time: the same for both models of a pair, whose vocabularies agree.
        self.chunk = max(1, min(sequences.batch_size, LOGITS_BYTES // (4 * sequences.n_vocab)))
        self._resident: list[list[int]] = [[] for _ in range(sequences.n_seq)]
        # States of prefixes in models whose memory cannot be cut (recurrent ones).
        self._states: dict[int, tuple[list[int], bytes]] = {}
        self.prefix_tokens_decoded = 0

    def begin(self, sequence: int, prompt: Sequence[int], shared: int, answer: int) -> None:
        """Have all of the prompt but its last token decoded, ready for `answer` more tokens.

        `shared`: how many leading tokens other prompts in this sequence have too. Raises
        ContextOverflow when prompt and answer do not fit.
        """
        if len(prompt) + answer > self.room + 1:  # the answer's last token is never decoded
            raise ContextOverflow(
                f"The prompt ({len(prompt):,} tokens) and the answer ({answer:,}) do not fit the"
                f" context of {self.room:,} tokens.",
                "Use a larger --ctx-size or shorter answers (--max-tokens).",
            )
        tokens = [int(t) for t in prompt[:-1]]
        prefix = tokens[: min(shared, len(tokens))]
        if not self._back_to(sequence, prefix):
            self._load(sequence, prefix)
        self._decode(sequence, tokens[len(prefix) :])

    def logits(self, sequence: int, tokens: Sequence[int], wanted: Sequence[bool]) -> Logits:
        """Decode further tokens. Returns float32 [n_wanted, n_vocab], the model's view of what
        follows each wanted token; valid until the next call. At most a batch of tokens, of which
        at most `chunk` are wanted."""
        at = len(self._resident[sequence])
        rows = self.sequences.decode(
            [
                BatchToken(int(t), at + i, sequence, bool(w))
                for i, (t, w) in enumerate(zip(tokens, wanted, strict=True))
            ]
        )
        self._resident[sequence] += [int(t) for t in tokens]
        return rows

    def forget(self) -> None:
        """After an interrupted decode: what the sequences hold is in doubt."""
        for sequence in range(self.sequences.n_seq):
            self.sequences.clear(sequence)
            self._resident[sequence] = []

    def _back_to(self, sequence: int, prefix: list[int]) -> bool:
        resident = self._resident[sequence]
        n = len(prefix)
        if common_prefix(resident, prefix) < n:
            return False
        if self.sequences.cut(sequence, n):
            self._resident[sequence] = list(prefix)
            return True
        kept, state = self._states.get(sequence, ([], b""))
        whole = bool(n) and kept == prefix
        whole = whole and self.sequences.load(sequence, memoryview(bytearray(state)), n)
        self._resident[sequence] = list(prefix) if whole else []
        return whole

    def _load(self, sequence: int, prefix: list[int]) -> None:
        """Put a prefix into an emptied sequence: from the disk, or by decoding it."""
        self.sequences.clear(sequence)
        self._resident[sequence] = []
        ids = np.asarray(prefix, np.int32)
        stored = len(prefix) >= MIN_STORED
        kept = self.cache.load(ids) if self.cache and stored else None
        if kept is not None and self.sequences.load(sequence, kept, len(prefix)):
            self._resident[sequence] = list(prefix)
        else:
            self._decode(sequence, prefix)
            self.prefix_tokens_decoded += len(prefix)
            if stored:
                state = self.sequences.settle(sequence, keep=self.cache is not None)
                if self.cache:
                    self.cache.store(ids, state)
        if prefix and not self._can_cut(sequence):
            self._states[sequence] = (list(prefix), self.sequences.save(sequence))

    def _can_cut(self, sequence: int) -> bool:
        model = getattr(self.sequences, "model", None)
        return not getattr(model, "recurrent", False)

    def _decode(self, sequence: int, tokens: list[int]) -> None:
        """Decode without logits, in batches counted from the first of these tokens."""
        size = self.sequences.batch_size
        for start in range(0, len(tokens), size):
            at = len(self._resident[sequence])
            piece = tokens[start : start + size]
            self.sequences.decode(
                [BatchToken(t, at + i, sequence, False) for i, t in enumerate(piece)]
            )
            self._resident[sequence] += piece
