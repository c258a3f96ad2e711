"""What several workers cost and bring: the driver's ceiling, deaths on paper, processes, Ray."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from benchmarks.engine import row
from tests.crew_simulation import Simulation
from tests.fake_plans import FakePlan, answered
from urial_local.records.generated import Generated
from urial_local.records.runlog import RunLog
from urial_local.tasks.crew.schedule import Schedule
from urial_local.tasks.generate.job import KEY

WORKERS, SLOTS, ROWS = 1000, 8, 60_000
SECONDS = 20.0  # of a row on average, eight of 100 tokens at a time at 40 tokens a second
QUESTIONS, TOKENS = 240, 48


def ceiling() -> list[dict[str, Any]]:
    """Rows a second that one driver can hand out and write, for a thousand workers."""
    question = "Where can I find the thing?"
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        schedule = Schedule(range(ROWS), lambda task: (str(task), "0"))
        held: list[deque[int]] = [deque() for _ in range(WORKERS)]
        for name in range(WORKERS):
            schedule.join(name, SLOTS)
        start, used = time.perf_counter(), time.process_time()
        with RunLog(Path(folder) / "run", FakePlan().config(), KEY, Generated.read) as log:
            done = 0
            while done < ROWS:
                for name, tasks in schedule.orders():
                    held[name].extend(tasks)
                name = draw.randrange(WORKERS)
                if held[name]:
                    task = held[name].popleft()
                    assert schedule.made(name, (str(task), "0"))
                    log.append(answered(task, question))
                    done += 1
        seconds, busy = time.perf_counter() - start, time.process_time() - used
    return [
        row(
            f"one driver, {WORKERS:,} workers: rows handed out and written",
            f"{ROWS / seconds:,.0f} rows/s",
            f"{ROWS / busy:,.0f} rows/s of processor time",
            None,
            "> 2,000",
        )
    ]


def deaths() -> list[dict[str, Any]]:
    """Throughput that is lost where workers die, on paper, while there are rows for all: each death
    costs a start, and what its rows in flight had got."""

    def seconds(draw: random.Random) -> float:
        return draw.lognormvariate(2.871, 0.5)  # mean 20

    found = []
    whole = Simulation(WORKERS, SLOTS, 100_000, seconds).run().share(WORKERS, SLOTS)
    for hours in (24.0, 4.0, 1.0):
        out = Simulation(WORKERS, SLOTS, 100_000, seconds, mtbf=hours * 3600).run()
        lost = 1 - out.share(WORKERS, SLOTS) / whole
        # 60 s of a start, and the mean age of a row in flight, E[x²] / 2E[x] = 12.8 s.
        expected = (60 + 12.8) / (hours * 3600 + 60)
        found.append(
            row(
                f"{WORKERS:,} workers on paper, each dying every {hours:g} h, back after 60 s",
                f"{max(lost, 0):.2%} of the throughput lost",
                f"{out.deaths} deaths; by calculation {expected:.2%}",
                None,
                "",
            )
        )
    return found


def _run(folder: Path, name: str, *more: str) -> tuple[float, float]:
    """Tokens a second of a run by its own books, and seconds of the whole command."""
    start = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "urial_local", "generate", str(folder / "q.txt"), "-m", "demo"),
            *("-o", str(folder / name), "-n", str(TOKENS), "-np", "8", *more),
        ],
        check=True,
        capture_output=True,
    )
    whole = time.perf_counter() - start
    session = json.loads((folder / name / "run.json").read_text())["sessions"][-1]
    return session["tokens"] / session["seconds"], whole


def workers() -> list[dict[str, Any]]:
    """Two workers of one thread against one process of two. Starts are counted in, since the model
    is small: with a real one they are a smaller part."""
    ways = {"two processes (--devices cpu,cpu)": ("--devices", "cpu,cpu")}
    if importlib.util.find_spec("ray"):
        half = ("--ray", "local", "--actors", "2", "--cpus-per-actor", "0.5")
        ways["two actors of Ray"] = half
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = "".join(f"Where can I find a fox {i}?\n" for i in range(QUESTIONS))
        (folder / "q.txt").write_text(text)
        alone, alone_whole = _run(folder, "alone", "-t", "2")
        for n, (what, options) in enumerate(ways.items()):
            rate, whole = _run(folder, str(n), *options)
            found.append(
                row(
                    f"{QUESTIONS} rows of the demo model, {what}, 1 thread each",
                    f"{rate:.0f} tokens/s, {whole:.1f} s in all",
                    f"1 process, 2 threads: {alone:.0f} tokens/s, {alone_whole:.1f} s",
                    rate / alone,
                    "",
                )
            )
    return found


def run() -> list[dict[str, Any]]:
    return ceiling() + deaths() + workers()
