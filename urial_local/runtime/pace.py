"""How many of its threads llama.cpp uses beside other processes. Knows nothing of llama.cpp.

A thread that must share its core holds up all the others at every meeting. So there is a thread
less for each core that others keep busy. But where they want more than what is left, one thread
shares its core as well, and more threads get a larger part of the machine. That can only be seen
while we have stepped aside: all of the machine is in use, and our few threads do not get what they
ask for.
Figures in docs/performance.md.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Load:
    """Cores' worth of time on the processors that this process may run on."""

    others: float
    ours: float
    processors: int

    @property
    def full(self) -> bool:
        """Whether nothing is left idle."""
        return self.others + self.ours > 0.95 * self.processors

    def wanted(self, threads: int) -> float:
        """What others would take if they could. On a full machine all get equal parts, so their
        part beside that of our threads says how many they are."""
        return (
            self.others * max(1.0, threads / self.ours) if self.full and self.ours else self.others
        )


class LoadMeter:
    """What processes take of the machine."""

    EVERY = 0.5  # seconds between looks at the machine; a look takes some 100 microseconds

    def __init__(self, root: Path = Path("/")) -> None:
        """`root` is where the system's files are (for tests)."""
        self._root = root
        self._last = self._look()
        self.looks = 0
        self.load: Load | None = None

    def read(self) -> Load | None:
        """The load over the last half a second or more. None before that, and where the system
        does not say."""
        if self._last and time.monotonic() - self._last[0] >= self.EVERY:
            before, self._last = self._last, self._look()
            if self._last:
                passed, busy, own = (b - a for a, b in zip(before, self._last, strict=True))
                processors = len(os.sched_getaffinity(0))
                self.load = Load(max(0.0, (busy - own) / passed), own / passed, processors)
                self.looks += 1
        return self.load

    def _look(self) -> tuple[float, float, float] | None:
        """Seconds: of the clock, of all processes, of this one."""
        try:
            busy = _busy_ticks(self._root) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError, AttributeError):
            return None
        return time.monotonic(), busy, time.process_time()


class Pace:
    """The number of threads, from what the last looks at the machine have shown."""

    CROWDED = 10.0  # seconds in which we use all threads before we look again

    def __init__(self, meter: LoadMeter | None = None) -> None:
        self._meter = meter or LoadMeter()
        self._until = 0.0  # until then the machine counts as crowded
        self._aside: int | None = None  # the number of the look since which we use fewer

    def threads(self, most: int, now: int) -> int:
        """Threads for the next decode, of at most so many; `now` were used until now."""
        load = self._meter.read()
        if load is None or time.monotonic() < self._until:
            return most
        if now == most:
            self._aside = None
        elif self._aside is None:
            self._aside = self._meter.looks
        elif self._meter.looks > self._aside and load.full and load.ours < 0.85 * now:
            self._until = time.monotonic() + self.CROWDED
            return most
        return max(1, most - round(load.wanted(now)))


def _busy_ticks(root: Path) -> int:
    """Clock ticks that our processors spent on processes: user, nice, system, interrupts."""
    lines = (root / "proc/stat").read_text().splitlines()
    mine = {f"cpu{cpu}" for cpu in os.sched_getaffinity(0)}
    total = 0
    for line in lines:
        name, *numbers = line.split()
        if not name.startswith("cpu"):
            break
        if name in mine:
            user, nice, system, _, _, irq, softirq = map(int, numbers[:7])
            total += user + nice + system + irq + softirq
    return total


MACHINE = Pace()  # counts from the start, so that the first step knows already
