"""Continuous batching over one context: the one decode loop that everything here runs on.

A request is token ids, sampling, a stop policy and limits; the engine knows no prompts. One thread
owns it, and three calls drive it:

    submit  queue a request
    cancel  forget one, queued or live
    step    decode one batch: what it did for each row that it reached

A server also holds rows whose readers are slow.

All live rows are decoded in one batch. A prefix that requests share is decoded once, beside rows
that answer, and its cells are lent to each row; several prefixes stay as long as there are cells.
`steps`, `stream` and `complete` are folds over the three calls.

The plain path (one row, nothing shared) runs through the same lines and is the tests' oracle.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from urial_local.base.errors import ContextOverflow, UrialError, UsageError
from urial_local.runtime.admission import Admission, Fill
from urial_local.runtime.choices import FinishReason
from urial_local.runtime.choosers import Chooser, Sample
from urial_local.runtime.draw_rows import MAX_TOP
from urial_local.runtime.form_row import row_of
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.residency import Decoder, Residency, common_prefix
from urial_local.runtime.rows import Completion, Request, Row, Step
from urial_local.runtime.sequences import Aborted, BatchToken, Logits
from urial_local.runtime.vocabulary import Ids


class Tokens(Protocol):
    """What the engine needs of a vocabulary."""

    def is_end(self, token: int) -> bool: ...
    def piece(self, token: int) -> bytes: ...


class Engine:
    """Rows over one context."""

    def __init__(
        self,
        vocab: Tokens,
        decoder: Decoder,
        *,
        ctx_size: int | None = None,
        rows: int | None = None,
        exact: bool = False,
        cache: PrefixCache | None = None,
        on_prefill: Callable[[int, int], None] | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        """ctx_size: tokens that one row may have, prompt and answer together; by default all.
        rows: how many answer at a time; by default all sequences but one, which holds a prefix.
        exact: a new prefix goes into an empty cache, so that numbers do not hang on what was asked
        before, nor on whether it lay on disk.

        `on_prefill(done, total)` hears of the progress of long prompts, in tokens.
        """
        self.vocab, self.decoder = vocab, decoder
        self.ctx_size = min(ctx_size or decoder.cells, decoder.cells)
        self.on_prefill, self.exact = on_prefill, exact
        self.held = Residency(decoder, cache)
        self.chooser = chooser or Sample()
        self._admission = Admission(self.held, rows or decoder.n_seq - 1, exact)
        self._queue: deque[Row] = deque()
        self._live: dict[int, Row] = {}  # by sequence
        self._count = 0
        self.batches = 0  # decoded so far

    @property
    def running(self) -> int:
        """Rows that are live."""
        return len(self._live)

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return len(self._queue)

    @property
    def cache(self) -> PrefixCache | None:
        """Where states of prefixes lie on disk."""
        return self.held.cache

    # --- the three calls -----------------------------------------------------------------------

    def check_fits(self, request: Request) -> None:
        """Raises ContextOverflow, with the numbers, for a prompt that leaves no room to answer."""
        n = request.given
        if n >= self.ctx_size:
            raise ContextOverflow(
                f"The prompt has {n:,} tokens and the context {self.ctx_size:,}, which leaves no"
                " room for an answer.",
                "Use a larger context or a shorter prompt.",
            )

    def submit(self, request: Request) -> int:
        """Queue a request; returns its number. Raises ContextOverflow where it cannot fit,
        UrialError or UsageError for one that makes no sense."""
        if not len(request.tokens):
            raise UrialError("The prompt is empty, so there is nothing to continue.")
        if request.max_tokens == 0 or request.max_tokens < -1:
            raise UsageError("max_tokens must be above 0, or -1 for as long as the context allows.")
        if not 0 <= request.top_logprobs <= MAX_TOP:
            raise UsageError(f"top_logprobs must be between 0 and {MAX_TOP:,}.")
        self.check_fits(request)
        row = row_of(self._count, request, self.vocab.piece, self.ctx_size)
        if row.over:
            raise UsageError(
                "The answer cannot begin like this: its prompt, or a stop string, ends it there.",
                "Change `prefill`.",
            )
        self._queue.append(row)
        return self._number()

    def cancel(self, index: int) -> bool:
        """Forget a request, queued or live, and free its cells at once. The others' answers do not
        change. False where it has ended, or never was."""
        for row in self._queue:
            if row.index == index:
                self._queue.remove(row)
                self._admission.drop_fills(self._queue)
                return True
        for row in self._live.values():
            if row.index == index:
                self._leave(row)
                self.held.evict(row.sequence)
                return True
        return False

    def hold(self, index: int, on: bool = True) -> None:
        """Leave a row out of the batches, because nobody reads what it writes, until it is let go
        on with. It keeps its cells; the others' answers do not change."""
        for row in (*self._queue, *self._live.values()):
            if row.index == index:
                row.held = on

    def reset(self) -> None:
        """After a fault of the decoder: forget all rows, and what the sequences hold."""
        self._drop_all()
        self.held.evict_all()

    def abort(self) -> None:
        """Have the decode that is under way, or the next step, raise Aborted. May be called from
        any thread and from a signal handler; `resume` takes it back."""
        self.decoder.abort_flag[0] = 1

    def resume(self) -> None:
        self.decoder.abort_flag[0] = 0

    def step(self) -> list[Step]:
        """Admit rows, decode one batch, choose for each row that is ready.

        Raises Aborted when the abort flag is set: all rows are dropped, the caches are left as they
        were before the unfinished batch, and the engine can be used again.
        """
        try:
            if self.decoder.abort_flag[0]:
                raise Aborted
            self._admission.admit(self._queue, self._live)
            batch, ready = self._batch()
            logits = self.decoder.decode(batch) if batch else None
            self.batches += bool(batch)
            self._wrote()
            return self._choose(ready, logits) if logits is not None and ready else []
        except Aborted:  # by our model, or by one that the chooser asks
            self._drop_all()
            raise

    def _wrote(self) -> None:
        """The batch is decoded: into the books."""
        for fill in self._admission.fills:
            self._told(self._admission.wrote(fill), len(fill.tokens), bool(fill.chunk))
        for row in self._live.values():
            self.held.wrote(row.sequence, row.commit())
            self._told(row.n_past, row.n_given, not row.prompt_done)

    # --- folds over them -----------------------------------------------------------------------

    def steps(self, requests: Iterable[Request | None]) -> Iterator[list[Step]]:
        """Answer all requests; yields once for each decoded batch. Requests are drawn as needed.

        A None among them says that the next one is not known before a row has ended: it is asked
        for again after the next batch. Closing the iterator cancels what is left of them. Raises
        Aborted as `step` does.
        """
        source, more = iter(requests), True
        mine: set[int] = set()
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
                        mine.add(self.submit(request))
                    except UrialError as error:
                        failed = Completion.failed(request, error.message)
                        yield [Step(self._number(), request.tag, (), "", completion=failed)]
                if not mine:
                    return
                steps = self.step()
                mine.difference_update(s.index for s in steps if s.completion is not None)
                yield steps
        finally:
            for index in mine:
                self.cancel(index)

    def stream(self, requests: Iterable[Request | None]) -> Iterator[Step]:
        """What happens to each row, as it happens."""
        for steps in self.steps(requests):
            yield from steps

    def complete(self, requests: Iterable[Request | None]) -> list[Completion]:
        """All completions, in the order of the requests."""
        done = {s.index: s.completion for s in self.stream(requests) if s.completion is not None}
        return [done[index] for index in sorted(done)]

    # --- one step ------------------------------------------------------------------------------

    def _batch(self) -> tuple[list[BatchToken], list[Row]]:
        """What was chosen last for rows that are answering, then as much of prefixes and prompts
        as fits."""
        batch: list[BatchToken] = []
        ready: list[Row] = []
        going_on = [row for row in self._live.values() if not row.held]
        rows = sorted(going_on, key=lambda r: not r.prompt_done)
        answering = sum(row.prompt_done for row in rows)
        parts: list[Row | Fill] = [*rows[:answering], *self._admission.fills, *rows[answering:]]
        for part in parts:
            chunk = part.next_tokens(self.decoder.batch_size - len(batch))
            last = isinstance(part, Row) and part.n_past + len(chunk) == len(part.tokens)
            for i, token in enumerate(chunk):
                wanted = last and i == len(chunk) - 1
                batch.append(BatchToken(token, part.n_past + i, part.sequence, wanted))
            if isinstance(part, Row) and last and chunk:
                ready.append(part)
        return batch, ready

    def _choose(self, ready: list[Row], logits: Logits) -> list[Step]:
        self.chooser.threads = self.decoder.threads
        now = time.perf_counter()
        steps = []
        for row, choice in zip(ready, self.chooser.choose(ready, logits), strict=True):
            text, reason = row.accept(choice, self.vocab.is_end, now)
            completion = None
            again = reason is not None and self._again(row, reason)
            if reason and not again:
                completion = self._finish(row, reason)
                text += row.rest
            told = choice.tokens, text, completion, choice.logprobs, choice.top, again
            steps.append(Step(row.index, row.request.tag, *told, choice.guidance))
        return steps

    def _finish(self, row: Row, reason: FinishReason) -> Completion:
        completion = row.finish(reason)
        self._leave(row)
        # Cells of finished rows slow down the others' attention. Those of a conversation, and a
        # lone row's, stay: the next turn begins with them.
        if (self._live or self._queue) and not row.request.keep:
            self.held.evict(row.sequence)
        else:
            self.held.touch(row.sequence)
        return completion

    def _again(self, row: Row, reason: FinishReason) -> bool:
        """Send an empty answer back to its start. What its sequence holds of the prompt stays."""
        sequence = row.sequence
        if not row.again(reason):
            return False
        del self._live[sequence]
        self.chooser.forget(row)
        self.held.touch(sequence)
        self._queue.appendleft(row)
        return True

    def _leave(self, row: Row) -> None:
        del self._live[row.sequence]
        self.chooser.forget(row)

    def _drop_all(self) -> None:
        """Forget all rows; what they had fully decoded stays in their sequences."""
        for row in list(self._live.values()):
            self._leave(row)
        self._queue.clear()
        self._admission.drop_fills(())
        for sequence in range(self.decoder.n_seq):
            self.held.cut(sequence, len(self.held.tokens(sequence)))

    def _told(self, done: int, total: int, going_on: bool) -> None:
        if going_on and self.on_prefill:
            self.on_prefill(done, total)

    def _number(self) -> int:
        self._count += 1
        return self._count - 1


def shared_length(prefix_tokens: Ids, prompt_tokens: Ids) -> int:
    """How many leading tokens of a prompt are its constant prefix's, whatever the query.

    The token at the border may depend on the text after it, so this is the longest common *token*
    prefix of the prefix tokenised alone and the whole prompt.
    """
    return common_prefix(prefix_tokens.tolist(), prompt_tokens.tolist())
