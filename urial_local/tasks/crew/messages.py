"""What a worker tells its driver, and how both look from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from urial_local.tasks.crew.schedule import Key, Task

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker holds its model, and makes so many rows at a time."""

    slots: int
    node: str  # machine and device


@dataclass(frozen=True, slots=True)
class Made:
    """A row, error rows among them."""

    key: Key
    row: Row


@dataclass(frozen=True, slots=True)
class Returned:
    """Rows that were sent and not begun."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A worker cannot make rows of this run at all."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone."""

    reason: str


Event = Ready | Made | Returned | Refused | Lost


class Maker(Protocol):
    """Makes rows. `todo` yields None where nothing is there yet; `rows` ends when nothing is in
    flight, and is called again when there is something to do."""

    slots: int

    def rows(self, todo: Iterator[Task | None]) -> Iterator[Row]: ...
    def stop(self) -> None: ...


class Spec(Protocol):
    """All that a worker has to know of a run. It is pickled."""

    def open(self) -> AbstractContextManager[Maker]:
        """Raises UrialError where this machine cannot make the same rows as the driver's."""
        ...

    def key(self, task: Task) -> Key: ...
    def key_of(self, row: Row) -> Key: ...
    def failed(self, task: Task, message: str) -> Row:
        """An error row."""
        ...


class Hands(Protocol):
    """Workers as the driver has them, by their numbers."""

    count: int

    def start(self, number: int, spec: Spec) -> None: ...
    def events(self) -> list[tuple[int, Event]]:
        """Waits for some, or until `wake`."""
        ...

    def send(self, number: int, tasks: list[Task]) -> None: ...
    def recall(self, number: int, count: int) -> None: ...
    def stop(self, number: int) -> None:
        """Finish what is in flight; give back the rest."""
        ...

    def wake(self) -> None:
        """May be called from a signal handler."""
        ...

    def close(self) -> None: ...


Emit = Callable[[Event], None]
