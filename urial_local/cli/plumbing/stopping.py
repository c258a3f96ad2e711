"""Ctrl-C in a run of many rows: first those in hand are finished, then, asked again, nothing is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stop:
    """What Ctrl-C asked for. A signal handler of its own from before a model is loaded: a
    KeyboardInterrupt could come between two calls that belong together."""

    def __init__(self) -> None:
        self.asked = False
        self._finish: Callable[[], None] | None = None
        self._abort: Callable[[], None] | None = None

    def watch(self, finish: Callable[[], None], abort: Callable[[], None]) -> None:
        """From now on the first Ctrl-C calls `finish` (no new rows), a second one `abort`."""
        self._finish, self._abort = finish, abort
        if self.asked:
            finish()

    def __call__(self, *_: object) -> None:
        from urial_local.cli.plumbing.terminal import note

        if self.asked and self._abort is None:
            raise KeyboardInterrupt
        if self.asked and self._abort is not None:
            self._abort()
            return
        self.asked = True
        if self._finish is None:
            note("\nStopping once the model is loaded; Ctrl-C again stops at once.")
        else:
            self._finish()
            note("\nFinishing rows in flight; Ctrl-C again stops at once.")


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Inside, SIGINT is the Stop's. Only the main thread receives signals."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
