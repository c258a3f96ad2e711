"""Continuous batching over one context: the one decode loop that everything here runs on.

A request is token ids, sampling, a stop policy and limits; the engine knows no prompts. It decodes
a shared prefix once, copies its cells to each row, decodes all live rows in one batch, evicts rows
that are finished and refills from the queue. Three generators, one inside the other:

    steps     one decoded batch at a time: rows, the tokens chosen, what they finished
    stream    text as it becomes certain, then the completion, row by row
    complete  the completions alone, in the order of the requests

The plain path (one row, nothing shared) runs through the same lines and is the tests' oracle.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import ContextOverflow, UrialError, UsageError
from urial_local.runtime.draw_rows import draw_rows
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Completion, Request, Row, common_prefix
from urial_local.runtime.sequences import Aborted, BatchToken, Logits
from urial_local.runtime.vocabulary import Ids

MIN_SHARED = 16  # tokens; a shorter prefix is decoded faster than it is copied and kept
MIN_STORED = 64  # tokens; a shorter prefix is not worth a file
PREFIX = 0  # the sequence that holds the shared prefix


class Decoder(Protocol):
    """What the engine needs of `Sequences`; the tests put a model with known logits here."""

    batch_size: int
    cells: int
    n_seq: int
    threads: int  # that computing between two decodes may use
    abort_flag: npt.NDArray[np.int32]

    def decode(self, tokens: list[BatchToken]) -> Logits: ...
    def copy(self, source: int, target: int, n: int) -> bool: ...
    def cut(self, sequence: int, n: int) -> bool: ...
    def holds(self, sequence: int, n: int) -> bool: ...
    def clear(self, sequence: int) -> None: ...
    def settle(self, sequence: int, keep: bool) -> bytes: ...
    def load(self, sequence: int, state: memoryview, n: int) -> bool: ...


class Tokens(Protocol):
    """What the engine needs of a vocabulary."""

    def is_end(self, token: int) -> bool: ...
    def piece(self, token: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Step:
    """What one decoded batch did for one row. `completion` is there once the row has ended."""

    index: int  # the request's number, from 0 in the order of asking
    token: int  # the token chosen; -1 for a row that failed
    text: str  # text that became certain, often empty
    completion: Completion | None = None


class Engine:
    """Rows over one context of `decoder.n_seq - 1` parallel sequences."""

    def __init__(
        self,
        vocab: Tokens,
        decoder: Decoder,
        *,
        ctx_size: int | None = None,
        cache: PrefixCache | None = None,
        on_prefill: Callable[[int, int], None] | None = None,
    ) -> None:
        """ctx_size: tokens that one row may have, prompt and answer together; by default all.

        `on_prefill(done, total)` hears of the progress of long prompts, in tokens.
        """
        self.vocab, self.decoder, self.cache = vocab, decoder, cache
        self.ctx_size = min(ctx_size or decoder.cells, decoder.cells)
        self.on_prefill = on_prefill
        # Token ids whose keys and values each sequence holds. The first is the shared prefix.
        self._resident: list[list[int]] = [[] for _ in range(decoder.n_seq)]
        self._queue: deque[Row] = deque()
        self._live: dict[int, Row] = {}  # by sequence
        self._count = 0
        self._fresh_prefix = 0  # prefix tokens decoded for the row that is being admitted

    # --- the three generators ------------------------------------------------------------------

    def steps(self, requests: Iterable[Request | None]) -> Iterator[list[Step]]:
        """Answer all requests; yields once for each decoded batch. Requests are drawn as needed.

        A None among them says that the next one is not known before a row has ended: it is asked
        for again after the next batch.

        Raises Aborted when the abort flag is set: live and waiting rows are dropped, the caches
        are left as they were before the unfinished batch, and the engine can be called again.
        """
        source = iter(requests)
        more = True
        try:
            while True:
                while more and len(self._queue) < self.decoder.n_seq:
                    try:
                        request = next(source)
                    except StopIteration:
                        more = False
                        break
                    if request is None:
                        break
                    try:
                        self.submit(request)
                    except UrialError as error:
                        failed = Completion.failed(request, error.message)
                        yield [Step(self._number(), -1, "", failed)]
                if not (self._queue or self._live):
                    return
                yield self.step()
        finally:
            self._drop_all()

    def stream(self, requests: Iterable[Request | None]) -> Iterator[tuple[int, str | Completion]]:
        """(index, text) as text becomes certain, and (index, completion) when a row has ended."""
        for steps in self.steps(requests):
            for step in steps:
                if step.text:
                    yield step.index, step.text
                if step.completion is not None:
                    yield step.index, step.completion

    def complete(self, requests: Iterable[Request | None]) -> list[Completion]:
        """All completions, in the order of the requests."""
        done: dict[int, Completion] = {}
        first = self._count
        for index, event in self.stream(requests):
            if isinstance(event, Completion):
                done[index] = event
        return [done[i] for i in range(first, self._count)]

    # --- one step ------------------------------------------------------------------------------

    def check_fits(self, request: Request) -> None:
        """Raises ContextOverflow, with the numbers, for a prompt that leaves no room to answer."""
        n = len(request.tokens)
        if n >= self.ctx_size:
            raise ContextOverflow(
                f"The prompt has {n:,} tokens and the context {self.ctx_size:,}, which leaves no"
                " room for an answer.",
                "Use a larger context or a shorter prompt.",
            )

    @property
    def asked(self) -> int:
        """Requests so far: the number that the next one gets."""
        return self._count

    def submit(self, request: Request) -> int:
        """Queue a request; returns its number. Raises ContextOverflow where it cannot fit."""
        if not len(request.tokens):
            raise UrialError("The prompt is empty, so there is nothing to go on from.")
        if request.max_tokens == 0 or request.max_tokens < -1:
            raise UsageError("max_tokens must be above 0, or -1 for as long as the context allows.")
        self.check_fits(request)
        index = self._number()
        self._queue.append(Row(index, request, self.vocab.piece, self.ctx_size))
        return index

    def step(self) -> list[Step]:
        """Admit rows, decode one batch, choose a token for each row that is ready for one."""
        if self.decoder.abort_flag[0]:
            raise Aborted
        self._admit()
        batch, ready = self._batch()
        logits = self.decoder.decode(batch)
        for row in self._live.values():
            self._resident[row.sequence] += row.commit()
            if not row.prompt_done and self.on_prefill:
                self.on_prefill(row.n_past, len(row.tokens))
        return self._choose(ready, logits)

    def _batch(self) -> tuple[list[BatchToken], list[Row]]:
        """One token of every row that is answering, then as much of the prompts as fits."""
        batch: list[BatchToken] = []
        ready: list[Row] = []
        for row in sorted(self._live.values(), key=lambda r: not r.prompt_done):
            room = self.decoder.batch_size - len(batch)
            chunk = row.next_tokens(room)
            last = row.n_past + len(chunk) == len(row.tokens)
            for i, token in enumerate(chunk):
                wanted = last and i == len(chunk) - 1
                batch.append(BatchToken(token, row.n_past + i, row.sequence, wanted))
            if last and chunk:
                ready.append(row)
        return batch, ready

    def _choose(self, ready: list[Row], logits: Logits) -> list[Step]:
        if not ready:
            return []
        now = time.perf_counter()
        drawn = draw_rows([r.draw(logits[i]) for i, r in enumerate(ready)], self.decoder.threads)
        steps = []
        for i, row in enumerate(ready):
            token = int(drawn.tokens[i])
            if drawn.status[i]:
                row.error = "The model's logits are not finite (NaN or infinite)."
                text, reason = "", "error"
            else:
                text, reason = row.accept(
                    token, float(drawn.logprobs[i]), self.vocab.is_end(token), now
                )
            completion = self._finish(row, reason) if reason else None
            if completion is not None:
                text += row.rest
            steps.append(Step(row.index, token, text, completion))
        return steps

    def _finish(self, row: Row, reason: str) -> Completion:
        completion = row.finish(reason)
        del self._live[row.sequence]
        # Cells of finished rows slow down the others' attention. A lone row's stay: the next turn
        # of a conversation begins with them.
        if self._live or self._queue:
            self._evict(row.sequence)
        return completion

    # --- admission: sequences, cells, shared prefix --------------------------------------------

    def _admit(self) -> None:
        while self._queue:
            row = self._queue[0]
            free = [s for s in range(1, self.decoder.n_seq) if s not in self._live]
            if not free or not self._make_room(row):
                return
            if not self._prefix_ready(row):
                return  # another prefix: wait until the rows that share this one are done
            self._place(row, free)
            self._queue.popleft()
            self._live[row.sequence] = row

    def _prefix_ready(self, row: Row) -> bool:
        """Have the row's shared prefix decoded, from the cache on disk where it is there."""
        self._fresh_prefix = 0
        if self._prefix_there(row):
            return True
        if self._live:
            return False
        self._load_prefix(row.tokens[: row.request.shared])
        return True

    def _prefix_there(self, row: Row) -> bool:
        """Whether the row's shared prefix, if worth sharing, is what the prefix's sequence holds.

        It may hold the tokens and not all their cells: a state from disk lacks those outside a
        window, which a shorter prefix would need.
        """
        shared = row.request.shared
        if shared < MIN_SHARED:
            return True
        same = common_prefix(self._resident[PREFIX], row.tokens) >= shared
        return same and self.decoder.holds(PREFIX, shared)

    def _load_prefix(self, tokens: list[int]) -> None:
        """Into an empty cache, so that cells lie as after a start: where they lie decides in which
        order sums run, and so the last digits."""
        for sequence in range(self.decoder.n_seq):
            self._evict(sequence)
        ids = np.asarray(tokens, np.int32)
        kept = self.cache.load(ids) if self.cache else None
        if kept is not None and self.decoder.load(PREFIX, kept, len(tokens)):
            self._resident[PREFIX] = list(tokens)
            return
        self._decode_prefix(tokens)
        self._resident[PREFIX] = list(tokens)
        self._fresh_prefix = len(tokens)
        if len(tokens) >= MIN_STORED:
            state = self.decoder.settle(PREFIX, keep=self.cache is not None)
            if self.cache:
                self.cache.store(ids, state)

    def _decode_prefix(self, tokens: list[int]) -> None:
        size = self.decoder.batch_size
        try:
            for start in range(0, len(tokens), size):
                chunk = tokens[start : start + size]
                self.decoder.decode(
                    [BatchToken(t, start + i, PREFIX, False) for i, t in enumerate(chunk)]
                )
                if self.on_prefill:
                    self.on_prefill(start + len(chunk), len(tokens))
        except Exception:
            self._evict(PREFIX)
            raise

    def _place(self, row: Row, free: list[int]) -> None:
        """Give the row the free sequence, or the copy of the prefix, that saves the most tokens."""
        most = len(row.tokens) - 1  # the last token is decoded always, for its logits
        prefix = min(common_prefix(self._resident[PREFIX], row.tokens), most)
        own = {s: min(common_prefix(self._resident[s], row.tokens), most) for s in free}
        best = max(free, key=lambda s: own[s])
        if own[best] > 0 and own[best] >= prefix and self.decoder.cut(best, own[best]):
            sequence, kept = best, own[best]
        else:
            sequence = min(free, key=lambda s: (len(self._resident[s]), s))
            self._evict(sequence)
            kept = prefix if prefix and self.decoder.copy(PREFIX, sequence, prefix) else 0
        self._resident[sequence] = row.tokens[:kept]
        row.start(sequence, kept, cached=max(0, kept - self._fresh_prefix))

    def _make_room(self, row: Row) -> bool:
        """Whether the cells suffice for the row's longest possible course; evicts to get there."""
        if self._room_for(row):
            return True
        for sequence in range(1, self.decoder.n_seq):
            if sequence not in self._live:
                self._evict(sequence)
        if not self._live and not self._room_for(row):
            self._evict(PREFIX)
        return self._room_for(row)

    def _room_for(self, row: Row) -> bool:
        # A prefix that the row cannot use gives way to its own; who shares its cells keeps them.
        prefix = self._resident[PREFIX] if self._prefix_there(row) else []
        held = len(prefix)
        for sequence in range(1, self.decoder.n_seq):
            live = self._live.get(sequence)
            tokens = live.reserved if live else len(self._resident[sequence])
            held += max(0, tokens - common_prefix(prefix, self._resident[sequence]))
        return held + row.reserved - common_prefix(prefix, row.tokens) <= self.decoder.cells

    def _evict(self, sequence: int) -> None:
        self.decoder.clear(sequence)
        self._resident[sequence] = []

    def _drop_all(self) -> None:
        """Forget all rows; what they had fully decoded stays in their sequences."""
        for sequence in list(self._live):
            if not self.decoder.cut(sequence, len(self._resident[sequence])):
                self._resident[sequence] = []
        self._live.clear()
        self._queue.clear()

    def _number(self) -> int:
        self._count += 1
        return self._count - 1


def shared_length(prefix_tokens: Ids, prompt_tokens: Ids) -> int:
    """How many leading tokens of a prompt are its constant prefix's, whatever the query.

    The token at the border may depend on the text after it, so this is the longest common *token*
    prefix of the prefix tokenised alone and the whole prompt.
    """
    return common_prefix(prefix_tokens.tolist(), prompt_tokens.tolist())
