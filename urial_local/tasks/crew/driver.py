"""The driver's side: hands rows out to workers, and yields them as they come back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from urial_local.base.errors import UrialError
from urial_local.runtime.sequences import Aborted
from urial_local.tasks.crew.messages import Event, Hands, Lost, Made, Ready, Refused, Returned, Row
from urial_local.tasks.crew.messages import Spec as Spec
from urial_local.tasks.crew.schedule import Schedule, Task

BARREN = 3  # deaths for each worker, with no row between them, after which the run ends


class Crew:
    """Rows by several workers. It writes nothing: rows are yielded as they are finished."""

    def __init__(
        self, spec: Spec, hands: Hands, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        """`tell` hears of workers that come and go."""
        self.spec, self.hands, self._tell = spec, hands, tell
        self._stopping = self._aborting = False

    def stop(self) -> None:
        """Begin no new rows; those in flight are finished. May be called from a signal handler."""
        self._stopping = True
        self.hands.wake()

    def abort(self) -> None:
        """Leave those in flight, too: `rows` raises Aborted."""
        self._aborting = True
        self.hands.wake()

    def rows(self, todo: Iterable[Task]) -> Iterator[Row]:
        """Make these, in whatever order they are finished, error rows among them.

        Raises Aborted after abort(), and UrialError where a worker's machine is not fit for this
        run, or workers die without making a row."""
        schedule = Schedule(todo, self.spec.key)
        self._deaths = 0  # since the last row
        told = False
        try:
            for number in range(self.hands.count):
                self.hands.start(number, self.spec)
            while True:
                if self._aborting:
                    raise Aborted
                if self._stopping and not told:
                    told = True
                    schedule.stop()
                    for number in range(self.hands.count):
                        self.hands.stop(number)
                if told and schedule.done:
                    return
                for number, tasks in schedule.orders():
                    self.hands.send(number, tasks)
                if schedule.workers and schedule.done:
                    return
                if (recalled := schedule.recall()) is not None:
                    self.hands.recall(*recalled)
                for number, event in self.hands.events():
                    yield from self._take(schedule, number, event)
        finally:
            self.hands.close()

    def _take(self, schedule: Schedule, number: int, event: Event) -> Iterator[Row]:
        if isinstance(event, Made):
            if schedule.made(number, event.key):
                self._deaths = 0
                yield event.row
        elif isinstance(event, Returned):
            schedule.returned(number, event.keys)
        elif isinstance(event, Ready):
            schedule.join(number, event.slots)
        elif isinstance(event, Refused):
            raise UrialError(event.message, event.hint)
        elif isinstance(event, Lost):
            for task in schedule.lost(number):
                yield self.spec.failed(task, "The worker that made this row died, several times.")
            self._deaths += 1
            if self._deaths >= BARREN * self.hands.count:
                raise UrialError(
                    f"Workers died {self._deaths} times without making a row. The last:"
                    f" {event.reason}.",
                    "There may be too little memory for them: try fewer workers.",
                )
            if not self._stopping:
                self._tell(f"A worker died ({event.reason}); others take over its rows.")
                self.hands.start(number, self.spec)
