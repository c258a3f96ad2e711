"""Ctrl-C and SIGTERM in a run of many rows: first those in flight are finished, then, asked again,
nothing is. SIGTERM is what Slurm and others send before they end a job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stop:
    """What Ctrl-C or SIGTERM asked for. A signal handler of its own from before a model is loaded:
    a KeyboardInterrupt could come between two calls that belong together."""

    def __init__(self) -> None:
        self.asked = False
        self.terminated = False  # by SIGTERM
        self._finish: Callable[[], None] | None = None
        self._abort: Callable[[], None] | None = None

    def watch(self, finish: Callable[[], None], abort: Callable[[], None]) -> None:
        """From now on the first Ctrl-C calls `finish` (no new rows), a second one `abort`."""
        self._finish, self._abort = finish, abort
        if self.asked:
            finish()

    def __call__(self, number: int = signal.SIGINT, *_: object) -> None:
        from urial_local.cli.plumbing.terminal import note

        self.terminated = self.terminated or number == signal.SIGTERM
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
    """Inside, SIGINT and SIGTERM are the Stop's. Only the main thread receives signals."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
