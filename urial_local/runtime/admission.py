"""Gives rows their sequences and cells, and has the prefixes decoded that they share.

A row begins with the sequence that holds the most of its prompt: an idle one that is of use as a
whole is taken over, any other is copied. A prefix that no sequence holds whole comes from disk, or
is decoded in a sequence of its own (a `Fill`), in the batches of the rows that answer meanwhile;
who needs it waits, and others pass. Idle sequences keep what they hold until cells or sequences
are short: the least recently used goes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from urial_local.runtime.residency import Residency
from urial_local.runtime.rows import Row

MIN_SHARED = 16  # tokens; a shorter prefix is decoded faster than it is copied and kept


@dataclass(slots=True)
class Fill:
    """A prefix that is being decoded."""

    sequence: int
    tokens: list[int]
    n_past: int = 0
    chunk: int = 0  # tokens in the batch

    def next_tokens(self, room: int) -> list[int]:
        chunk = self.tokens[self.n_past : self.n_past + room]
        self.chunk = len(chunk)
        return chunk


class Admission:
    """The way from the queue into the batch."""

    def __init__(self, held: Residency, rows: int, exact: bool) -> None:
        """rows: how many are live at most. exact: see Engine."""
        self._held, self._rows, self._exact = held, rows, exact
        self.fills: list[Fill] = []
        self._fresh: dict[int, int] = {}  # prefix tokens decoded that no row has been told of
        self._prefixes: dict[int, list[int]] = {}  # what sequences were filled with

    def admit(self, queue: deque[Row], live: dict[int, Row]) -> None:
        """Move rows from the queue to the live ones, as far as sequences and cells reach."""
        waiting: list[Row] = []
        while queue and len(live) < self._rows:
            row = queue[0]
            if self._needs_fill(row):
                if not self._begin_fill(row, live):
                    break
                if self._needs_fill(row):
                    waiting.append(queue.popleft())
                    continue
            if row.request.alone and not live:
                self._leave_only_its_prefix(row)
            if not self._make_room(row, live):
                break
            self._place(row, live)
            live[queue.popleft().sequence] = row
        queue.extendleft(reversed(waiting))

    def wrote(self, fill: Fill) -> int:
        """A batch with a piece of this prefix was decoded; returns how much of it there is."""
        self._held.wrote(fill.sequence, fill.tokens[fill.n_past : fill.n_past + fill.chunk])
        fill.n_past += fill.chunk
        if fill.n_past == len(fill.tokens):
            self.fills = [f for f in self.fills if f is not fill]
            self._fresh[fill.sequence] = fill.n_past
            self._held.store(fill.sequence)
            self._held.touch(fill.sequence)
        return fill.n_past

    def drop_fills(self, queue: Iterable[Row]) -> None:
        """Give up the prefixes that none of these rows is waiting for."""
        wanted = [self._prefix(row) for row in queue]
        for fill in [f for f in self.fills if f.tokens not in wanted]:
            self.fills.remove(fill)
            self._held.evict(fill.sequence)

    # --- prefixes --------------------------------------------------------------------------------

    @staticmethod
    def _prefix(row: Row) -> list[int]:
        return row.tokens[: row.request.shared]

    def _needs_fill(self, row: Row) -> bool:
        """Whether no sequence holds all of the prefix that the row shares with others."""
        shared = row.request.shared
        if shared < MIN_SHARED:
            return False
        every = range(self._held.decoder.n_seq)
        return not any(self._held.usable(s, row.tokens) >= shared for s in every)

    def _begin_fill(self, row: Row, live: dict[int, Row]) -> bool:
        """Have the row's prefix under way or there. False where it must wait for others to end."""
        prefix = self._prefix(row)
        if any(fill.tokens == prefix for fill in self.fills):
            return True
        if self._exact:
            # Cells lie as after a start: where they lie decides in which order sums run, and so
            # the last digits.
            if live or self.fills:
                return False
            self._held.evict_all()
        idle = self._idle(live)
        # One for the prefix and one for the row, so that no row waits for its own prefix to go.
        if len(idle) < 2 or not self._free(row.reserved, live, keep=-1):
            return False
        sequence = self._held.oldest_first(idle)[0]
        self._fresh.pop(sequence, None)
        self._prefixes[sequence] = prefix
        if not self._held.load(sequence, prefix):  # which empties it
            self.fills.append(Fill(sequence, prefix))
        return True

    def _leave_only_its_prefix(self, row: Row) -> None:
        """Let cells lie, and batches be cut, as if nothing else had ever been asked: then the
        row's numbers hang on its tokens alone."""
        prefix = self._prefix(row) if row.request.shared >= MIN_SHARED else []
        for sequence in range(self._held.decoder.n_seq):
            if not prefix or self._held.tokens(sequence) != prefix:
                self._held.evict(sequence)

    # --- sequences and cells ---------------------------------------------------------------------

    def _idle(self, live: dict[int, Row]) -> list[int]:
        filling = {fill.sequence for fill in self.fills}
        every = range(self._held.decoder.n_seq)
        return [s for s in every if s not in live and s not in filling]

    def _is_prefix(self, sequence: int) -> bool:
        tokens = self._held.tokens(sequence)
        return bool(tokens) and self._prefixes.get(sequence) == tokens

    def _best(self, row: Row) -> tuple[int, int]:
        """The sequence that holds the most of the row's prompt, and how much of it. The prompt's
        last token is decoded always, for its logits."""
        prompt = row.tokens[:-1]
        every = range(self._held.decoder.n_seq)
        kept = {s: self._held.usable(s, prompt) for s in every}
        best = max(every, key=lambda s: (kept[s], self._is_prefix(s), -s))
        return best, kept[best]

    def _takes_over(self, source: int, kept: int, idle: list[int]) -> bool:
        """Whether to go on in the source itself: an idle one, all of which is of use here, and that
        nobody else looks for; or the only one."""
        if source not in idle or not kept or self._is_prefix(source):
            return False
        return len(idle) == 1 or kept == len(self._held.tokens(source))

    def _place(self, row: Row, live: dict[int, Row]) -> None:
        source, kept = self._best(row)
        idle = self._idle(live)
        if self._takes_over(source, kept, idle) and self._held.cut(source, kept):
            sequence = source
        else:
            sequence = self._held.oldest_first([s for s in idle if s != source] or idle)[0]
            if sequence == source or not (kept and self._held.copy(source, sequence, kept)):
                self._held.evict(sequence)
                kept = 0
        fresh = min(kept, self._fresh.pop(source, 0))
        row.start(sequence, kept, cached=kept - fresh)

    def _make_room(self, row: Row, live: dict[int, Row]) -> bool:
        """Whether there is a sequence and cells for the row's longest course; evicts for it."""
        idle = self._idle(live)
        source, kept = self._best(row)
        if not idle or (idle == [source] and not self._takes_over(source, kept, idle)):
            return False  # it cannot begin with what it would have to replace
        if self._free(row.reserved - kept, live, keep=source):
            return True
        # Alone, a row always fits: even what it could have begun with goes.
        return not live and not self.fills and self._free(row.reserved, live, keep=-1)

    def _free(self, cells: int, live: dict[int, Row], keep: int) -> bool:
        """Have so many cells free beyond what live rows and prefixes may come to need, evicting
        idle sequences but the one to keep."""
        growth = sum(row.reserved - len(self._held.tokens(s)) for s, row in live.items())
        growth += sum(len(fill.tokens) - fill.n_past for fill in self.fills)
        room = self._held.decoder.cells - growth - cells
        for sequence in self._held.oldest_first(self._idle(live)):
            if self._held.cells <= room:
                return True
            if sequence != keep:
                self._held.evict(sequence)
        return self._held.cells <= room
