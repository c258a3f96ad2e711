"""Workers that exist on paper: events on a clock of their own, over the real schedule.

A worker makes `slots` rows at a time, each for some seconds; messages take `latency`; it dies after
a random time (exponential, mean `mtbf`), with all that it holds, and is back after `restart`.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from urial_local.tasks.crew.schedule import Schedule


@dataclass
class SimulatedWorker:
    queue: deque[int] = field(default_factory=deque)
    running: dict[int, float] = field(default_factory=dict)  # row: when it began
    life: int = 0  # events of an earlier life are void
    fed: bool = False  # it was sent something in this life


@dataclass
class Outcome:
    """What became of a run. `made` counts rows."""

    made: Counter[int]
    given_up: list[int]
    deaths: int
    seconds: float
    useful: float  # seconds of rows that count
    drained: int  # times that a place was empty though rows were still to be handed out
    full: tuple[float, float] = (0.0, 0.0)  # seconds, and useful ones, until all is handed out

    def share(self, workers: int, slots: int) -> float:
        """Of the places' time, what went into rows that count; before the end of the run, in which
        places become empty because nothing is left."""
        seconds, useful = self.full
        return useful / (workers * slots * seconds)


@dataclass
class Simulation:
    workers: int
    slots: int
    rows: int
    seconds: Callable[[Random], float]
    latency: float = 0.2
    mtbf: float = float("inf")
    restart: float = 60.0
    poison: frozenset[int] = frozenset()  # rows that kill their worker
    seed: int = 0

    def run(self, on_made: Callable[[int], None] = lambda row: None) -> Outcome:
        self.random = Random(self.seed)
        self.events: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self.order = itertools.count()
        self.now = 0.0
        self.left = self.rows
        self.schedule = Schedule(self._source(), lambda task: (str(task),))
        self.hands = [SimulatedWorker() for _ in range(self.workers)]
        self.out = Outcome(Counter(), [], 0, 0.0, 0.0, 0)
        self.on_made = on_made
        for name in range(self.workers):
            self._at(0, self._ready, name)
        while not (self.schedule.workers and self.schedule.done):
            self.now, _, call, args = heapq.heappop(self.events)
            call(*args)
        self.out.seconds = self.now
        return self.out

    def _source(self):
        for row in range(self.rows):
            self.left -= 1
            yield row
        self.out.full = self.now, self.out.useful

    def _at(self, delay: float, call: Callable[..., Any], *args: Any) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), call, args))

    # --- the driver --------------------------------------------------------------------------

    def _ready(self, name: int) -> None:
        hand = self.hands[name]
        hand.fed = False
        if self.mtbf < float("inf"):
            self._at(self.random.expovariate(1 / self.mtbf), self._die, name, hand.life)
        self.schedule.join(name, self.slots)
        self._orders()

    def _orders(self) -> None:
        for name, tasks in self.schedule.orders():
            self._at(self.latency, self._arrive, name, self.hands[name].life, tasks)
        if (recalled := self.schedule.recall()) is not None:
            name, count = recalled
            self._at(self.latency, self._give_back, name, self.hands[name].life, count)

    def _made(self, name: int, row: int, took: float) -> None:
        if self.schedule.made(name, (str(row),)):
            self.out.made[row] += 1
            self.out.useful += took
            self.on_made(row)
        self._orders()

    def _returned(self, name: int, rows: list[int]) -> None:
        self.schedule.returned(name, [(str(row),) for row in rows])
        self._orders()

    def _lost(self, name: int) -> None:
        self.out.given_up += self.schedule.lost(name)
        self._orders()

    # --- a worker ----------------------------------------------------------------------------

    def _arrive(self, name: int, life: int, tasks: list[int]) -> None:
        hand = self.hands[name]
        if hand.life == life:
            hand.queue.extend(tasks)
            hand.fed = True
            self._fill(name)

    def _fill(self, name: int) -> None:
        hand = self.hands[name]
        while hand.queue and len(hand.running) < self.slots:
            row = hand.queue.popleft()
            hand.running[row] = self.now
            if row in self.poison:
                self._at(1.0, self._die, name, hand.life)
            else:
                self._at(self.seconds(self.random), self._finish, name, hand.life, row)
        if hand.fed and self.left and len(hand.running) < self.slots:
            self.out.drained += 1

    def _finish(self, name: int, life: int, row: int) -> None:
        hand = self.hands[name]
        if hand.life == life:
            took = self.now - hand.running.pop(row)
            self._at(self.latency, self._made, name, row, took)
            self._fill(name)

    def _give_back(self, name: int, life: int, count: int) -> None:
        hand = self.hands[name]
        if hand.life == life:
            back = [hand.queue.pop() for _ in range(min(count, len(hand.queue)))]
            self._at(self.latency, self._returned, name, back)

    def _die(self, name: int, life: int) -> None:
        hand = self.hands[name]
        if hand.life == life:
            self.out.deaths += 1
            self.hands[name] = SimulatedWorker(life=life + 1)
            self._at(self.latency, self._lost, name)
            self._at(self.latency + self.restart, self._ready, name)
