"""One more model's side of the rows: what it would write next, asked for when a chooser wants it.

A chooser that listens to several models has a Voice for each besides the engine's own. A voice sees
its own prompt for each row, so tokens and positions differ from the engine's; it is told all tokens
each time, and decodes what it does not hold yet, for all rows at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from urial_local.base.errors import ContextOverflow
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.residency import Decoder, Residency
from urial_local.runtime.sequences import BatchToken, Logits


@dataclass(slots=True)
class _Behind:
    """What a sequence still lacks."""

    sequence: int
    at: int
    tokens: list[int]


class Voice:
    """Rows of one model, by the caller's keys; at most as many as there are sequences."""

    def __init__(self, decoder: Decoder, cache: PrefixCache | None = None) -> None:
        self._decoder, self._held = decoder, Residency(decoder, cache)
        self._sequences: dict[Hashable, int] = {}  # by key
        self._spent: dict[Hashable, int] = {}  # tokens decoded, by key

    def logits(self, rows: Sequence[tuple[Hashable, Sequence[int]]]) -> Logits:
        """What follows each row's tokens (one at least): float32 [n_rows, n_vocab], valid until
        the next call.

        Rows may be told in any order, some of them only, and with other tokens than before: what
        they have in common with what is held is not decoded again. Raises ContextOverflow where
        there are too few sequences or cells, Aborted as the decoder does.
        """
        lacking = [self._go_back(key, [int(t) for t in tokens]) for key, tokens in rows]
        for (key, _), row in zip(rows, lacking, strict=True):
            self._spent[key] = self._spent.get(key, 0) + len(row.tokens)
        try:
            return self._decoded(lacking)
        except Exception:
            # What llama.cpp holds of an unfinished batch is in doubt.
            for row in lacking:
                self._held.evict(row.sequence)
            raise

    def spent(self, key: Hashable) -> int:
        """Tokens decoded for a row since this was asked last."""
        return self._spent.pop(key, 0)

    def _decoded(self, lacking: Sequence[_Behind]) -> Logits:
        """Decode what rows lack; the logits after each row's last token."""
        found: list[Logits] = []
        order: list[int] = []
        while any(row.tokens for row in lacking):
            batch: list[BatchToken] = []
            fed: list[tuple[_Behind, list[int]]] = []
            for i, row in enumerate(lacking):
                piece = row.tokens[: self._decoder.batch_size - len(batch)]
                last = bool(piece) and len(piece) == len(row.tokens)
                batch += [
                    BatchToken(t, row.at + j, row.sequence, last and j == len(piece) - 1)
                    for j, t in enumerate(piece)
                ]
                order += [i] * last
                fed.append((row, piece))
            if found:
                found[-1] = np.array(found[-1])  # a view that the next decode writes over
            logits = self._decoder.decode(batch)
            if any(t.wanted for t in batch):
                found.append(logits)
            for row, piece in fed:
                self._held.wrote(row.sequence, piece)
                row.at += len(piece)
                del row.tokens[: len(piece)]
        if len(found) == 1:
            return found[0]  # rows end in their order within a batch
        together: Logits = np.concatenate(found)
        return together[np.argsort(order)]

    def forget(self, key: Hashable, keep: bool = False) -> None:
        """The row has ended: its cells are free. `keep`: they hold what they hold until another
        row needs the sequence, since one may begin alike."""
        self._spent.pop(key, None)
        if key not in self._sequences:
            return
        sequence = self._sequences.pop(key)
        if keep:
            self._held.touch(sequence)
        else:
            self._held.evict(sequence)

    def _go_back(self, key: Hashable, tokens: list[int]) -> _Behind:
        """Have the row's sequence hold a beginning of its tokens: the most that any holds, but for
        the last token, whose logits are wanted."""
        beginning = tokens[:-1]
        own = self._sequences.get(key)
        if own is None:
            taken = set(self._sequences.values())
            idle = [s for s in range(self._decoder.n_seq) if s not in taken]
            if not idle:
                raise ContextOverflow("There are more rows than this model has sequences for.")
            own = self._sequences[key] = self._held.oldest_first(idle)[0]
        kept = self._held.usable(own, beginning)
        every = range(self._decoder.n_seq)
        best = max(every, key=lambda s: (self._held.usable(s, beginning), s == own))
        most = self._held.usable(best, beginning)
        if best != own and most > kept:
            kept = most if self._held.copy(best, own, most) else 0
        elif not self._held.cut(own, kept):
            kept = 0
        return _Behind(own, kept, tokens[kept:])
