"""What one model has to do for whom: rows of its engine, and prompts to be scored, by turns."""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from urial_local.base.errors import UrialError
from urial_local.runtime.prompt_scores import ScoreJob
from urial_local.runtime.rows import Step
from urial_local.runtime.sequences import Aborted
from urial_local.server.inbox import ENDING, Event, Inbox, RowOrder, ScoreOrder
from urial_local.server.lanes import Lane
from urial_local.server.metrics import Metrics

log = logging.getLogger("urial_local.server")
BROKEN = "The model failed to compute; the server's log says where."


def told_where(error: BaseException) -> str:
    """Where an error came from, for the log: names and lines, and no word of what it says, which
    may be a prompt's."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{f.name} ({f.filename}:{f.lineno})" for f in reversed(frames))
    return f"{type(error).__name__} in {places}"


@dataclass(slots=True)
class _Row:
    """A row in the engine, and when what happened to it."""

    inbox: Inbox
    tag: int
    asked: float = field(default_factory=time.perf_counter)
    latest: float = 0.0  # token
    held: float = 0.0  # since when nobody reads


class Duty:
    """The engine's thread only."""

    def __init__(self, lane: Lane, metrics: Metrics, stall: float) -> None:
        self._lane, self._metrics, self._stall = lane, metrics, stall
        self._rows: dict[int, _Row] = {}  # by the engine's number
        self._scores: deque[tuple[_Row, ScoreJob]] = deque()
        self._later: list[tuple[_Row, RowOrder]] = []  # behind another one of the same prompt
        engine = lane.engine
        metrics.watch(
            lane.name,
            lambda: engine.running,
            lambda: engine.waiting + len(self._scores) + len(self._later),
            lambda: engine.held.cells / engine.decoder.cells,
        )

    def inboxes(self) -> list[Inbox]:
        rows = [*self._rows.values(), *(row for row, _ in (*self._scores, *self._later))]
        return [row.inbox for row in rows]

    @property
    def busy(self) -> bool:
        return bool(self._rows or self._scores)

    def take(self, inbox: Inbox, orders: Sequence[RowOrder | ScoreOrder]) -> None:
        """Queue what was ordered. What makes no sense, or is a defect of ours, fails the request,
        and no other one."""
        try:
            for order in orders:
                self._take(_Row(inbox, order.tag), order)
        except Exception as error:
            self.leave(inbox)
            inbox.put(Event(error=self._said(error)))

    def _take(self, row: _Row, order: RowOrder | ScoreOrder) -> None:
        if isinstance(order, ScoreOrder):
            self._scores.append((row, ScoreJob(order.tokens, order.first)))
        elif order.after is not None:
            self._later.append((row, order))
        else:
            self._rows[self._lane.engine.submit(order.request)] = row

    @staticmethod
    def _said(error: Exception) -> str:
        """What a client is told of an error; of a defect, the log is told where."""
        if isinstance(error, UrialError):
            return error.message
        log.error("%s", told_where(error))
        return BROKEN

    def leave(self, inbox: Inbox) -> None:
        """Forget a request, whatever has become of it."""
        for index in [i for i, row in self._rows.items() if row.inbox is inbox]:
            del self._rows[index]
            self._lane.engine.cancel(index)
        self._scores = deque(pair for pair in self._scores if pair[0].inbox is not inbox)
        self._later = [pair for pair in self._later if pair[0].inbox is not inbox]

    def fail(self, event: Event) -> None:
        """End all requests with this."""
        inboxes = {id(inbox): inbox for inbox in self.inboxes()}
        for inbox in inboxes.values():
            self.leave(inbox)
            inbox.put(event)

    def turn(self) -> bool:
        """One batch of rows, and one of scores; False where there was nothing to decode."""
        try:
            self._look_at_readers()
            return bool(self._write()) | bool(self._score())
        except Aborted:
            self.fail(ENDING)
        except Exception as error:
            self._lane.engine.reset()
            self.fail(Event(error=self._said(error)))
        return False

    # --- rows -------------------------------------------------------------------------------------

    def _write(self) -> bool:
        engine = self._lane.engine
        if not self._rows:
            return False
        before = engine.batches
        steps = engine.step()
        now = time.perf_counter()
        if worked := engine.batches > before:
            self._metrics.steps.labels(self._lane.name).inc()
            self._metrics.rows_per_step.labels(self._lane.name).observe(engine.running)
        for step in steps:
            self._tell(step, now)
        return worked

    def _tell(self, step: Step, now: float) -> None:
        row = self._rows[step.index]
        model = self._lane.name
        if not row.latest:
            self._let_follow(row)
            self._metrics.first_token.labels(model).observe(now - row.asked)
        else:
            self._metrics.inter_token.labels(model).observe(now - row.latest)
        row.latest = now
        done = step.completion
        row.inbox.put(Event(row.tag, step=step))
        if done is not None:
            del self._rows[step.index]
            self._metrics.ended(model, row.inbox.endpoint, done)
            self._metrics.whole.labels(model).observe(now - row.asked)
            waited = now - row.asked - done.prefill_seconds - done.decode_seconds
            self._metrics.queue.labels(model).observe(max(0.0, waited))
        elif row.inbox.full and not row.held:
            row.held, row.inbox.held = now, True
            self._lane.engine.hold(step.index)

    def _let_follow(self, first: _Row) -> None:
        """The prompt was read: the other answers to it can begin."""
        waiting, self._later = self._later, []
        for row, order in waiting:
            if row.inbox is first.inbox and order.after == first.tag:
                self._rows[self._lane.engine.submit(order.request)] = row
            else:
                self._later.append((row, order))

    def _look_at_readers(self) -> None:
        """Go on with rows that are read again; end those that nobody reads."""
        now = time.perf_counter()
        for index, row in list(self._rows.items()):
            if row.held and row.inbox.drained:
                row.held = 0.0
                self._lane.engine.hold(index, False)
            elif row.held and now - row.held > self._stall:
                self.leave(row.inbox)
                row.inbox.put(Event(error="The client did not read the answer for too long."))

    # --- scores -----------------------------------------------------------------------------------

    def _score(self) -> bool:
        if not self._scores:
            return False
        row, job = self._scores[0]
        try:
            scorer = self._lane.scorer()
            before = scorer.decoded
            scorer.advance(job)
        except UrialError as error:
            self.leave(row.inbox)
            row.inbox.put(Event(error=error.message))
            return True
        self._metrics.scored_tokens.labels(self._lane.name).inc(scorer.decoded - before)
        if job.done:
            self._scores.popleft()
            row.inbox.put(Event(row.tag, scored=job))
        return True
