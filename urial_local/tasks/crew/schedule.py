"""Which worker makes which row. Pure: no clock, no process, no model; see the tests' simulation.

A worker that makes `slots` rows at a time holds up to twice as many: those in its batch and a queue
behind them, so that no place in the batch is empty while a message is on its way. When there is
nothing more to hand out, an idle worker gets what another one has not begun. Of a worker that died
only what it held is handed out again. What may have been in its batch is suspect, since one of
these rows may have killed it: a worker holds one suspect at a time, so that a row that kills costs
others little, and after `tries` deaths a row is given up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Task = Any  # a row to make, as the kind of run has it
Key = tuple[str, ...]
TRIES = 3  # workers that may die with a row in their batch


@dataclass
class _Worker:
    slots: int
    held: dict[Key, Task] = field(default_factory=dict)  # in the order in which they were sent
    recalled: bool = False  # it was asked to give some back

    @property
    def most(self) -> int:
        return 2 * self.slots

    @property
    def chunk(self) -> int:
        """Rows that are sent at once."""
        return max(1, self.slots // 2)


class Schedule:
    """Rows to make, and who has which."""

    def __init__(
        self, todo: Iterable[Task], key: Callable[[Task], Key], tries: int = TRIES
    ) -> None:
        self._source: Iterator[Task] = iter(todo)
        self._key, self._tries = key, tries
        self._more = True
        self._back: deque[Task] = deque()  # to be handed out before the source
        self._suspects: deque[Task] = deque()
        self._deaths: dict[Key, int] = {}
        self._workers: dict[Any, _Worker] = {}
        self._hungry: deque[Any] = deque()  # workers that may be sent something
        self._idle: set[Any] = set()  # workers that hold nothing, and got nothing
        self._surplus = True  # some worker may hold more than its batch
        self._stopping = False

    @property
    def done(self) -> bool:
        """Nothing is to be handed out, and no worker holds anything."""
        if self._more or self._back or self._suspects:
            return False
        return not any(w.held for w in self._workers.values())

    @property
    def workers(self) -> int:
        return len(self._workers)

    def join(self, name: Any, slots: int) -> None:
        """A worker is ready to make so many rows at a time."""
        self._workers[name] = _Worker(slots)
        self._hungry.append(name)

    def made(self, name: Any, key: Key) -> bool:
        """A worker made a row. False where it was not its to make: that row does not count."""
        worker = self._workers.get(name)
        if worker is None or worker.held.pop(key, None) is None:
            return False
        self._deaths.pop(key, None)
        self._hungry.append(name)
        return True

    def lost(self, name: Any) -> list[Task]:
        """A worker died. Returns the rows that are given up."""
        worker = self._workers.pop(name, None)
        self._idle.discard(name)
        given_up: list[Task] = []
        for nth, (key, task) in enumerate(worker.held.items() if worker else ()):
            if worker and nth < worker.slots:  # it may have been in the batch
                self._deaths[key] = self._deaths.get(key, 0) + 1
                if self._deaths[key] >= self._tries:
                    del self._deaths[key]
                    given_up.append(task)
                    continue
            if self._stopping:
                continue
            (self._suspects if key in self._deaths else self._back).append(task)
        self._feed_all()
        return given_up

    def returned(self, name: Any, keys: Iterable[Key]) -> None:
        """A worker gave back rows that it had not begun."""
        worker = self._workers.get(name)
        if worker is None:
            return
        worker.recalled = False
        for key in keys:
            task = worker.held.pop(key, None)
            if task is not None and not self._stopping:
                (self._suspects if key in self._deaths else self._back).append(task)
        self._feed_all()

    def _feed_all(self) -> None:
        """Whoever holds the least comes first."""
        self._surplus = True
        self._hungry.extend(sorted(self._workers, key=lambda name: len(self._workers[name].held)))

    def stop(self) -> None:
        """Hand out nothing more."""
        self._stopping, self._more = True, False
        self._back.clear()
        self._suspects.clear()

    def orders(self) -> Iterator[tuple[Any, list[Task]]]:
        """(worker, rows) to be sent now. Raises what the source raises."""
        while self._hungry:
            name = self._hungry.popleft()
            worker = self._workers.get(name)
            if worker is None or len(worker.held) > worker.most - worker.chunk:
                continue
            if tasks := self._take(worker):
                self._idle.discard(name)
                yield name, tasks
            elif not worker.held:
                self._idle.add(name)

    def _take(self, worker: _Worker) -> list[Task]:
        tasks: list[Task] = []
        suspect = any(key in self._deaths for key in worker.held)
        while len(worker.held) < worker.most:
            if self._suspects and not suspect:
                task, suspect = self._suspects.popleft(), True
            elif self._back:
                task = self._back.popleft()
            elif self._more:
                try:
                    task = next(self._source)
                except StopIteration:
                    self._more = False
                    continue
            else:
                break
            worker.held[self._key(task)] = task
            tasks.append(task)
        return tasks

    def recall(self) -> tuple[Any, int] | None:
        """(worker, how many rows it is to give back), where another one has nothing to do."""
        if self._stopping or self._more or self._back or self._suspects:
            return None
        if not self._idle or not self._surplus:
            return None
        found = [(len(w.held) - w.slots, n) for n, w in self._workers.items() if not w.recalled]
        surplus, name = max(found, key=lambda pair: pair[0], default=(0, None))
        if surplus < 1:
            self._surplus = False  # from here on it only shrinks, unless rows come back
            return None
        self._workers[name].recalled = True
        return name, (surplus + 1) // 2
