"""Workers as actors of a Ray cluster. Needs the [ray] extra.

An actor is asked for its events and answers when it has some, all of them at once; so the driver
waits on one object for each actor. Ray's own datasets are not used: see docs/design.md.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.tasks.crew.messages import Event, Lost, Refused, Spec
from urial_local.tasks.crew.schedule import Task
from urial_local.tasks.crew.worker import Inbox, work

LOCAL = "local"  # the address of a cluster of our own on this machine
PATIENCE = 0.5  # seconds after which a signal is looked for


def ray() -> Any:
    """Ray, where it is installed. Raises UsageError."""
    try:
        import ray as found
    except ImportError:
        raise UsageError("`ray` needs Ray.", "pip install 'urial-local[ray]'") from None
    return found


@dataclass(frozen=True, slots=True)
class RayChoice:
    """A cluster, and what each actor gets of it. `actors` None: as many as there is room for."""

    address: str
    actors: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    @property
    def threads(self) -> int:
        """llama.cpp's, since Ray limits OpenMP's only where a program asks."""
        return max(1, int(self.cpus))


class Actor:
    """The inside of an actor. Its methods run in threads of their own."""

    def __init__(self, spec: Spec, gpus: float) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._inbox = Inbox(spec, self._events.put)
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        device = f"gpu{seen}" if gpus else "cpu"
        self._thread = threading.Thread(target=self._work, args=(spec, device), daemon=True)
        self._thread.start()

    def _work(self, spec: Spec, device: str) -> None:
        try:
            work(spec, self._inbox, self._events.put, device)
        except BaseException as error:
            self._events.put(Lost(f"{type(error).__name__}: {error}"))
            raise

    def put(self, tasks: list[Task]) -> None:
        self._inbox.put(tasks)

    def give_back(self, count: int) -> None:
        self._inbox.give_back(count)

    def stop(self) -> None:
        self._inbox.stop()

    def events(self) -> list[Event]:
        """What happened since it was asked last; waits for something."""
        found = [self._events.get()]
        while not self._events.empty():
            found.append(self._events.get())
        return found


class Actors:
    """Hands that are actors of Ray."""

    def __init__(self, choice: RayChoice, tell: Callable[[str], None] = lambda text: None) -> None:
        """Connects to the cluster, or begins one. Raises UsageError where that is impossible, or it
        has no room for the actors."""
        self._ray, self._choice = ray(), choice
        self._owner = not self._ray.is_initialized()
        if self._owner:
            _connect(self._ray, choice.address)
        self._actors: dict[int, Any] = {}
        self._asked: dict[Any, int] = {}  # by the object that is waited for
        self._woken = False
        try:
            self.count = self._fitting(tell)
            self._class = self._ray.remote(Actor).options(
                num_cpus=choice.cpus, num_gpus=choice.gpus, max_concurrency=4, max_restarts=0
            )
        except BaseException:
            self.close()
            raise

    def _fitting(self, tell: Callable[[str], None]) -> int:
        choice, there = self._choice, self._ray.cluster_resources()
        room = int(there.get("CPU", 0) / choice.cpus + 1e-9)
        if choice.gpus:
            room = min(room, int(there.get("GPU", 0) / choice.gpus + 1e-9))
        if room < 1 or (choice.actors or 0) > room:
            said = (
                f"The cluster has room for {room} such actors now: it has"
                f" {there.get('CPU', 0):g} cores and {there.get('GPU', 0):g} GPUs."
            )
            if choice.address == LOCAL or not choice.actors:
                raise UsageError(said, "Lower `actors`, `cpus_per_actor` or `gpus_per_actor`.")
            tell(f"{said} More will start as it grows.")
        return choice.actors or room

    def start(self, number: int, spec: Spec) -> None:
        self._actors[number] = self._class.remote(spec, self._choice.gpus)
        self._ask(number)

    def _ask(self, number: int) -> None:
        self._asked[self._actors[number].events.remote()] = number

    def events(self) -> list[tuple[int, Event]]:
        found: list[tuple[int, Event]] = []
        while not found and not self._woken:
            ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=PATIENCE)
            if ready:  # and whatever else is there by now
                every = list(self._asked)
                ready, _ = self._ray.wait(every, num_returns=len(every), timeout=0)
            for reference in ready:
                found += self._answer(reference)
        self._woken = False
        return found

    def _answer(self, reference: Any) -> list[tuple[int, Event]]:
        number = self._asked.pop(reference)
        try:
            events = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return [(number, Lost(str(error).strip().splitlines()[0]))]
        if isinstance(events[-1], Lost):
            self._ray.kill(self._actors[number])
        elif not isinstance(events[-1], Refused):
            self._ask(number)
        return [(number, event) for event in events]

    def send(self, number: int, tasks: list[Task]) -> None:
        self._actors[number].put.remote(tasks)

    def recall(self, number: int, count: int) -> None:
        self._actors[number].give_back.remote(count)

    def stop(self, number: int) -> None:
        self._actors[number].stop.remote()

    def wake(self) -> None:
        self._woken = True

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        self._asked.clear()
        if self._owner:
            self._ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Begin or join a cluster. Ray takes SIGTERM for itself: it stays with who had it."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if main else None
    try:
        ray.init(
            address=None if address == LOCAL else address,
            include_dashboard=False if address == LOCAL else None,
            logging_level="ERROR",
            log_to_driver=False,
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"Ray at {address!r} cannot be reached: {reason}",
            "`ray status` shows a cluster; `--ray local` starts one on this machine.",
        ) from None
    finally:
        if main and before is not None:
            signal.signal(signal.SIGTERM, before)
