"""Scores tokens that are given: decodes them with logits on every one, after prompts kept at hand.

Each prompt has a sequence of its own. Its constant prefix is decoded once (or read from the prefix
cache on disk) and stays there; before each answer the sequence is cut back to exactly that prefix,
so what a row gets does not depend on the rows before it. Knows nothing of prompts or statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from urial_local.base.errors import ContextOverflow
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.residency import Decoder, Residency, common_prefix
from urial_local.runtime.sequences import BatchToken, Logits

LOGITS_BYTES = 64 << 20  # of logits at a time, which bounds memory whatever the answers' length


class Forcible(Decoder, Protocol):
    """What this needs of `Sequences`; the tests put a model with known logits here."""

    n_vocab: int


class TeacherForced:
    """Prompts and given answers over the sequences of one context."""

    def __init__(
        self, sequences: Forcible, cache: PrefixCache | None = None, ctx_size: int | None = None
    ) -> None:
        """ctx_size: tokens that a sequence may hold; by default as many as there are cells for."""
        self.sequences = sequences
        self.room = min(ctx_size or sequences.cells, sequences.cells // sequences.n_seq)
        # Answer tokens at a time: the same for both models of a pair, whose vocabularies agree.
        self.chunk = max(1, min(sequences.batch_size, LOGITS_BYTES // (4 * sequences.n_vocab)))
        self._held = Residency(sequences, cache)
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
                "Use a larger `ctx_size` or shorter answers (`max_tokens`).",
            )
        tokens = [int(t) for t in prompt[:-1]]
        prefix = tokens[: min(shared, len(tokens))]
        if not self._back_to(sequence, prefix):
            self._load(sequence, prefix)
        self._held.decode(sequence, tokens[len(prefix) :])

    def logits(self, sequence: int, tokens: Sequence[int], wanted: Sequence[bool]) -> Logits:
        """Decode further tokens. Returns float32 [n_wanted, n_vocab], the model's view of what
        follows each wanted token; valid until the next call. At most a batch of tokens, of which
        at most `chunk` are wanted."""
        at = len(self._held.tokens(sequence))
        ids = [int(t) for t in tokens]
        rows = self.sequences.decode(
            [
                BatchToken(t, at + i, sequence, bool(w))
                for i, (t, w) in enumerate(zip(ids, wanted, strict=True))
            ]
        )
        self._held.wrote(sequence, ids)
        return rows

    def forget(self) -> None:
        """After an interrupted decode: what the sequences hold is in doubt."""
        self._held.evict_all()

    def _back_to(self, sequence: int, prefix: list[int]) -> bool:
        """Cut the sequence back to a prefix that it begins with, or put its kept state in place."""
        n = len(prefix)
        if common_prefix(self._held.tokens(sequence), prefix) < n:
            return False
        if self._held.cut(sequence, n):
            return True
        kept, state = self._states.get(sequence, ([], b""))
        return bool(n) and kept == prefix and self._held.put(sequence, prefix, state)

    def _load(self, sequence: int, prefix: list[int]) -> None:
        """Put a prefix into an emptied sequence: from the disk, or by decoding it."""
        if not self._held.load(sequence, prefix):
            self._held.decode(sequence, prefix)
            self._held.store(sequence)
            self.prefix_tokens_decoded += len(prefix)
        if prefix and not self.sequences.cuttable:
            self._states[sequence] = (list(prefix), self.sequences.save(sequence))
