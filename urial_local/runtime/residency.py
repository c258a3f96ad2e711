"""What the sequences of one context hold, and in how many cells: kept here, for everybody.

Knows nothing of rows or prompts. A sequence that was copied shares its cells with the one that it
was copied from until it goes on. So each cell has a number, and the numbers that any sequence has
are what the cache holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.sequences import BatchToken, Logits

MIN_STORED = 64  # tokens; a shorter prefix is not worth a file
Told = Callable[[int, int], None]  # hears of tokens done and of all


class Decoder(Protocol):
    """What is needed of `Sequences`; the tests put a model with known logits here."""

    batch_size: int
    cells: int
    n_seq: int
    threads: int  # that computing between two decodes may use
    cuttable: bool  # whether a sequence can be cut back to any beginning of it
    abort_flag: npt.NDArray[np.int32]

    def decode(self, tokens: list[BatchToken]) -> Logits: ...
    def copy(self, source: int, target: int, n: int) -> bool: ...
    def cut(self, sequence: int, n: int) -> bool: ...
    def holds(self, sequence: int, n: int) -> bool: ...
    def clear(self, sequence: int) -> None: ...
    def settle(self, sequence: int, keep: bool) -> bytes: ...
    def save(self, sequence: int) -> bytes: ...
    def load(self, sequence: int, state: memoryview, n: int) -> bool: ...


@dataclass(slots=True)
class _Held:
    tokens: list[int] = field(default_factory=list)
    cells: list[int] = field(default_factory=list)  # a number for each token
    used: int = 0  # when it was used last, by a clock that counts uses


class Residency:
    """The books over the sequences of one decoder, and what may be done with what they hold."""

    def __init__(self, decoder: Decoder, cache: PrefixCache | None = None) -> None:
        self.decoder, self.cache = decoder, cache
        self._held = [_Held() for _ in range(decoder.n_seq)]
        self._sharing: dict[int, int] = {}  # how many sequences have a cell
        self._next = self._clock = 0

    @property
    def cells(self) -> int:
        """Cells that are taken."""
        return len(self._sharing)

    def tokens(self, sequence: int) -> list[int]:
        """What a sequence holds; not to be changed."""
        return self._held[sequence].tokens

    def usable(self, sequence: int, tokens: Sequence[int]) -> int:
        """How many leading tokens a row with these could begin with. Where a state is there as a
        whole only, or the cells of a window alone, that may be none though tokens agree."""
        n = common_prefix(self._held[sequence].tokens, tokens)
        return n if n and self.decoder.holds(sequence, n) else 0

    def oldest_first(self, sequences: Sequence[int]) -> list[int]:
        """The empty ones, then those whose last use is longest ago."""
        return sorted(sequences, key=lambda s: (bool(self.tokens(s)), self._held[s].used, s))

    def touch(self, sequence: int) -> None:
        self._clock += 1
        self._held[sequence].used = self._clock

    def wrote(self, sequence: int, tokens: Sequence[int]) -> None:
        """These tokens were decoded at the end of a sequence."""
        held = self._held[sequence]
        held.tokens += tokens
        for _ in tokens:
            self._sharing[self._next] = 1
            held.cells.append(self._next)
            self._next += 1

    def copy(self, source: int, target: int, n: int) -> bool:
        """Let a sequence begin with the first n tokens of another; False, and it is empty, where
        that cannot be."""
        self.evict(target)
        self.touch(source)
        if not self.decoder.copy(source, target, n):
            return False
        held, lender = self._held[target], self._held[source]
        held.tokens, held.cells = lender.tokens[:n], lender.cells[:n]
        for cell in held.cells:
            self._sharing[cell] += 1
        self.touch(target)
        return True

    def cut(self, sequence: int, n: int) -> bool:
        """Keep the first n tokens; False, and nothing is kept, where that cannot be."""
        kept = n if self.decoder.cut(sequence, n) else 0
        held = self._held[sequence]
        for cell in held.cells[kept:]:
            self._sharing[cell] -= 1
            if not self._sharing[cell]:
                del self._sharing[cell]
        del held.tokens[kept:], held.cells[kept:]
        self.touch(sequence)
        return kept == n

    def evict(self, sequence: int) -> None:
        self.decoder.clear(sequence)
        self.cut(sequence, 0)

    def evict_all(self) -> None:
        for sequence in range(self.decoder.n_seq):
            self.evict(sequence)

    def load(self, sequence: int, tokens: list[int]) -> bool:
        """Put a prefix that lies on disk into an emptied sequence."""
        self.evict(sequence)
        if self.cache is None or len(tokens) < MIN_STORED:
            return False
        state = self.cache.load(np.asarray(tokens, np.int32))
        return state is not None and self._put(sequence, tokens, state)

    def put(self, sequence: int, tokens: list[int], state: bytes) -> bool:
        """Put a state that was saved, of these tokens, in place of what a sequence holds."""
        self.evict(sequence)
        return self._put(sequence, tokens, memoryview(bytearray(state)))

    def _put(self, sequence: int, tokens: list[int], state: memoryview) -> bool:
        if not self.decoder.load(sequence, state, len(tokens)):
            return False
        self.wrote(sequence, tokens)
        self.touch(sequence)
        return True

    def store(self, sequence: int) -> None:
        """A prefix was decoded: let its cells lie as after a load, and keep it on disk."""
        tokens = self.tokens(sequence)
        if len(tokens) >= MIN_STORED:
            state = self.decoder.settle(sequence, keep=self.cache is not None)
            if self.cache:
                self.cache.store(np.asarray(tokens, np.int32), state)

    def decode(self, sequence: int, tokens: list[int], tell: Told | None = None) -> None:
        """Go on with tokens whose logits nobody wants, in batches counted from the first of them.
        Where that fails, the sequence is left empty."""
        size = self.decoder.batch_size
        try:
            for start in range(0, len(tokens), size):
                piece, at = tokens[start : start + size], len(self.tokens(sequence))
                self.decoder.decode(
                    [BatchToken(t, at + i, sequence, False) for i, t in enumerate(piece)]
                )
                self.wrote(sequence, piece)
                if tell:
                    tell(start + len(piece), len(tokens))
        except Exception:
            self.evict(sequence)
            raise


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])
