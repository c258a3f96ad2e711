"""A run in two shards of two workers each, with drivers, workers and whole shards killed at random.
Workers are processes here, and Ray's actors in tests/test_crew_ray.py.

`URIAL_STORM=50` kills more often than the test does on every day.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.command import COMMAND, size_of, urial
from tests.test_crew import asked, children, without_node

KILLS = int(os.environ.get("URIAL_STORM", "8"))


def struck(
    command: list[str],
    rows: Path,
    random: Random,
    most: int,
    workers_of: Callable[[int], list[int]],
) -> tuple[int, bool]:
    """Start the command, and each time that its rows have grown a little, kill a worker, or in the
    end the driver, or all of it. Returns how often, and whether the command came to its end."""
    driver = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    kills = 0
    try:
        while True:
            enough = size_of(rows) + random.choice([1, 1, 1500, 4000])  # a row has some 700 bytes
            while driver.poll() is None and size_of(rows) < enough:
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.05))  # anywhere between two rows
            if driver.poll() is not None:
                assert driver.returncode == 0
                return kills, True
            workers = workers_of(driver.pid)
            what = random.choice(["driver", "worker", "worker", "term", "shard"])
            kills += 1
            if what == "worker" and workers and kills < most:
                os.kill(random.choice(workers), signal.SIGKILL)
                continue
            if what == "term":
                driver.terminate()
                assert driver.wait() in (0, 75)
                return kills, driver.returncode == 0
            for pid in workers if what == "shard" else ():
                os.kill(pid, signal.SIGKILL)
            return kills, False
    finally:
        driver.kill()
        driver.wait()


def storm(
    tmp_path: Path, how: tuple[str, ...], workers_of: Callable[[int], list[int]] = children
) -> None:
    """Kill KILLS times; in the end the rows are those of a single run, each written once. `how`:
    the options that give a run its workers."""
    random = Random(1)
    args = asked(tmp_path, KILLS)
    shards = [tmp_path / f"{i}-of-2" for i in (1, 2)]
    commands = [
        [*COMMAND, *map(str, (*args, "--shard", f"{i}/2", "-o", shard, *how))]
        for i, shard in enumerate(shards, 1)
    ]
    killed, open_ones = 0, [0, 1]
    while open_ones and killed < KILLS:
        i = random.choice(open_ones)
        rows = shards[i] / "rows.jsonl"
        more, ended = struck(commands[i], rows, random, KILLS - killed, workers_of)
        killed += more
        if ended:
            open_ones.remove(i)
    assert killed == KILLS, "there are enough rows for all of them"
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
    assert urial("merge", *shards, "-o", tmp_path / "whole").returncode == 0
    assert urial(*args, "-o", tmp_path / "single").returncode == 0
    assert without_node(tmp_path / "whole") == without_node(tmp_path / "single")
    lines = sum(len((s / "rows.jsonl").read_text().splitlines()) for s in shards)
    assert lines == 10 * KILLS, "no row was written twice"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_storm_loses_and_doubles_no_row(tmp_path):
    storm(tmp_path, ("--devices", "cpu,cpu"))
