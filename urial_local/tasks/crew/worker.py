"""The inside of a worker: rows are taken from an inbox, made, and sent back."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterator

from urial_local.base.errors import UrialError
from urial_local.tasks.crew.messages import Emit, Made, Ready, Refused, Returned, Spec
from urial_local.tasks.crew.schedule import Key, Task


def _nothing() -> None:
    pass


class Inbox:
    """Rows to make. One thread fills it, another takes them."""

    def __init__(self, spec: Spec, emit: Emit) -> None:
        self._spec, self._emit = spec, emit
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self.on_stop: Callable[[], None] = _nothing

    def put(self, tasks: list[Task]) -> None:
        with self._changed:
            self._tasks.extend(tasks)
            stopping = self._stopping
            self._changed.notify()
        if stopping:
            self.give_back(len(tasks))

    def give_back(self, count: int) -> None:
        """The last rows that are not begun, so many at most."""
        keys: list[Key] = []
        with self._changed:
            while self._tasks and len(keys) < count:
                keys.append(self._spec.key(self._tasks.pop()))
        self._emit(Returned(tuple(reversed(keys))))

    def stop(self) -> None:
        """Begin nothing more, and give all back."""
        with self._changed:
            self._stopping = True
            count = len(self._tasks)
            self._changed.notify()
        self.on_stop()
        self.give_back(count)

    def wait(self) -> bool:
        """Until there is something to do; False where nothing more will be."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._stopping)
            return bool(self._tasks)

    def source(self) -> Iterator[Task | None]:
        """What there is to do; None where nothing is there yet."""
        while True:
            with self._changed:
                task = self._tasks.popleft() if self._tasks else None
            yield task


def work(spec: Spec, inbox: Inbox, emit: Emit, device: str) -> None:
    """Make rows until the inbox is stopped."""
    node = f"{platform.node()}/{device}"
    try:
        with contextlib.ExitStack() as stack:
            try:
                maker = stack.enter_context(spec.open())
            except UrialError as error:
                emit(Refused(f"{node}: {error.message}", error.hint))
                return
            inbox.on_stop = maker.stop
            emit(Ready(maker.slots, node))
            try:
                while inbox.wait():
                    for row in maker.rows(inbox.source()):
                        emit(Made(spec.key_of(row), {**row, "node": node}))
            except UrialError as error:  # not the row's own fault, or it would be an error row
                emit(Refused(f"{node}: {error.message}", error.hint))
    except OSError as error:  # the driver's end of a pipe is closed
        os.write(2, f"urial-local worker {node}: {error}\n".encode())
