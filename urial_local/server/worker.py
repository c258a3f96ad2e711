"""The one thread that computes. It takes orders, steps every model's engine by turns, and sleeps
while there is nothing to do. Nothing else touches a context."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from urial_local.base.errors import UrialError
from urial_local.server.duty import BROKEN, Duty, log, told_where
from urial_local.server.inbox import ENDING, Event, Inbox, RowOrder, ScoreOrder
from urial_local.server.lanes import Lane
from urial_local.server.metrics import Metrics

Orders = Sequence[RowOrder | ScoreOrder]
LEAVING = 10.0  # seconds; a model that is being loaded cannot be told to stop
PATIENCE = 0.25  # seconds between two looks at rows whose readers are slow


class Worker:
    """Owns the models from `start` to `stop`."""

    def __init__(
        self,
        open_lanes: Callable[[], AbstractContextManager[list[Lane]]],
        metrics: Metrics,
        stall: float = 60.0,
    ) -> None:
        """stall: seconds for which a reader may read nothing before its request is ended."""
        self._open, self._metrics, self._stall = open_lanes, metrics, stall
        self.lanes: dict[str, Lane] = {}
        self.fault: UrialError | None = None  # why the models could not be opened
        self.ready = threading.Event()
        self.ended = threading.Event()
        self._changed = threading.Condition()
        self._orders: deque[Callable[[], None]] = deque()
        self._duties: dict[str, Duty] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    # --- from the event loop ----------------------------------------------------------------------

    def start(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Begin to load. `on_ready` is called from the thread: when models are open, and when the
        thread has failed, then or later."""
        self._on_ready = on_ready
        self._thread.start()

    def submit(self, lane: str, inbox: Inbox, orders: Orders) -> None:
        inbox.on_read = self._wake
        self._order(lambda: self._duties[lane].take(inbox, orders))

    def cancel(self, inbox: Inbox) -> None:
        """Leave all that was ordered for it, within a step."""
        self._order(lambda: self._everywhere(lambda duty: duty.leave(inbox)))

    def call(self, what: Callable[[], None]) -> None:
        """Run this between two steps."""
        self._order(what)

    def end_all(self) -> None:
        """Tell every request that the server is shutting down."""
        self._order(lambda: self._everywhere(lambda duty: duty.fail(ENDING)))

    def stop(self) -> None:
        """Leave everything, close the models and wait for it."""
        self._stopping = True
        for lane in list(self.lanes.values()):
            lane.engine.abort()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(LEAVING)

    # --- the thread -------------------------------------------------------------------------------

    def _order(self, order: Callable[[], None]) -> None:
        with self._changed:
            self._orders.append(order)
            self._changed.notify()

    def _everywhere(self, order: Callable[[Duty], None]) -> None:
        for duty in self._duties.values():
            order(duty)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        try:
            with self._open() as lanes:
                for lane in lanes:
                    self._duties[lane.name] = Duty(lane, self._metrics, self._stall)
                self.lanes = {lane.name: lane for lane in lanes}
                self.ready.set()
                self._on_ready()
                self._serve()
        except UrialError as error:
            self.fault = error
        except Exception as error:
            log.error("%s", told_where(error))
            self.fault = UrialError("The thread that computes has failed; the log says where.")
        finally:
            self.ended.set()
            if self.fault:
                self._on_ready()

    def _obey(self, order: Callable[[], None]) -> None:
        try:
            order()
        except Exception as error:
            log.error("%s", told_where(error))
            self._everywhere(lambda duty: duty.fail(Event(error=BROKEN)))

    def _serve(self) -> None:
        while not self._stopping:
            with self._changed:
                orders = list(self._orders)
                self._orders.clear()
            for order in orders:
                self._obey(order)
            # Every lane takes its turn: no `any`, which would stop at the first.
            worked = [duty.turn() for duty in self._duties.values()]
            if any(worked):
                continue
            waiting = any(duty.busy for duty in self._duties.values())
            with self._changed:
                if not self._orders and not self._stopping:
                    self._changed.wait(PATIENCE if waiting else None)
        self._everywhere(lambda duty: duty.fail(ENDING))
