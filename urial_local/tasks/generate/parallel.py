"""How many rows at a time are fastest here: measured briefly, on the job's own first question."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from urial_local.runtime.engine import Engine
from urial_local.runtime.rows import Request
from urial_local.runtime.stops import StopPolicy

CANDIDATES = (1, 4, 8, 16, 32)
TOKENS = 12  # of each trial answer
MEMORY_SHARE = 0.6  # of the free memory that keys and values may take
GAIN = 1.03  # a larger batch must be faster by this to be chosen


def fitting(each: int, rows: int) -> list[int]:
    """The candidates whose KV caches, of so many bytes each, fit the free memory, and that there
    are rows for."""
    room = free_memory() * MEMORY_SHARE
    return [n for n in CANDIDATES if n == 1 or (n * each <= room and n < 2 * rows)]


def fastest(
    engine: Engine,
    request: Request,
    candidates: list[int],
    tell: Callable[[int, float], None] = lambda n, rate: None,
) -> int:
    """The number of rows with the most tokens a second; of near equals the smaller.

    The engine must have as many sequences as the largest candidate. `tell` hears of each trial.
    """
    # No stop policy: an answer that ends at once would measure nothing.
    trial = replace(request, max_tokens=TOKENS, stop=StopPolicy())
    engine.complete([trial])  # the shared prefix is there from now on
    best, best_rate = 1, 0.0
    for n in candidates:
        done = engine.complete([trial] * n)
        tokens = sum(len(c.tokens) for c in done)
        seconds = max((c.prefill_seconds + c.decode_seconds for c in done), default=0.0)
        rate = tokens / seconds if seconds else 0.0
        tell(n, rate)
        if rate > best_rate * GAIN:
            best, best_rate = n, rate
    return best


def free_memory() -> int:
    """Bytes that could be taken without swapping; a guess where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 4 << 30
