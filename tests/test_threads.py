"""How many threads, and how they wait: quotas, load, and the environment of every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from urial_local.runtime import pace as pace_module
from urial_local.runtime import sequences as sequences_module
from urial_local.runtime import threads
from urial_local.runtime.model import Model
from urial_local.runtime.pace import MACHINE, LoadMeter, Pace
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.threads import Cores, cores, default_threads


def system(root: Path, **files: str) -> Path:
    """A folder that looks like a system's; __ stands for a slash, and _0_ for a dot."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_0_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu_0_max": "150000 100000\n"}, 1.5),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu_0_max": "max 100000\n"}, None),
        (
            {  # the least of those around counts
                "proc__self__cgroup": "0::/a/b\n",
                "sys__fs__cgroup__a__cpu_0_max": "200000 100000\n",
                "sys__fs__cgroup__a__b__cpu_0_max": "400000 100000\n",
            },
            2.0,
        ),
        (
            {  # version 1, beside a version 2 that has no controllers
                "proc__self__cgroup": "4:cpu,cpuacct:/box\n1:memory:/box\n0::/\n",
                "sys__fs__cgroup__cpu,cpuacct__box__cpu_0_cfs_quota_us": "50000\n",
                "sys__fs__cgroup__cpu,cpuacct__box__cpu_0_cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {  # in a container: the path is the host's, the top is its own
                "proc__self__cgroup": "4:cpu:/docker/0123\n",
                "sys__fs__cgroup__cpu__cpu_0_cfs_quota_us": "300000\n",
                "sys__fs__cgroup__cpu__cpu_0_cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "proc__self__cgroup": "4:cpu:/\n",
                "sys__fs__cgroup__cpu__cpu_0_cfs_quota_us": "-1\n",
                "sys__fs__cgroup__cpu__cpu_0_cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"proc__self__cgroup": "0::/\n", "sys__fs__cgroup__cpu_0_max": "what is this\n"}, None),
    ],
)
def test_quotas_of_containers(tmp_path, files, quota):
    assert cores(system(tmp_path, **files)).quota == quota


def test_threads_are_no_more_than_can_run():
    large = 10**9
    assert default_threads(large, Cores(8, None)) == 8
    assert default_threads(large, Cores(8, 1.5)) == 2, "half a core is worth a thread"
    assert default_threads(large, Cores(8, 0.3)) == 1
    assert default_threads(large, Cores(2, 16.0)) == 2
    assert default_threads(7_000_000, Cores(8, None)) == 1, "tiny models meet too often"


class Clock:
    """Time that passes when it is told to, for this process and for the machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.now = self.own = self.busy = 0.0
        self.root = root
        self.cpu = min(os.sched_getaffinity(0))
        monkeypatch.setattr(pace_module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(pace_module.time, "process_time", lambda: self.own)
        self.write()

    def write(self) -> None:
        ticks = int(self.busy * os.sysconf("SC_CLK_TCK"))
        lines = [f"cpu{self.cpu} {ticks} 0 0 999 0 0 0 0 0 0", "cpu9999 777777 0 0 0 0 0 0"]
        system(self.root, proc__stat="\n".join(["cpu 1 2 3", *lines, "intr 1"]))

    def passes(self, seconds: float, own: float, others: float) -> None:
        self.now += seconds
        self.own += own * seconds
        self.busy += (own + others) * seconds
        self.write()

    def shared(self, seconds: float, processors: int, busy: int, ours: int) -> None:
        """So many threads of ours and so many busy processes want so many processors, and each gets
        an equal part."""
        part = min(1.0, processors / (busy + ours))
        self.passes(seconds, own=ours * part, others=busy * part)


NO_PROC = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no /proc here")


def settled(clock: Clock, pace: Pace, most: int, busy: int, seconds: float = 8.0) -> list[int]:
    """The threads of each second, half a second at a time."""
    used, now = [], most
    for _ in range(int(2 * seconds)):
        clock.shared(0.5, most, busy, now)
        now = pace.threads(most, now)
        used.append(now)
    return used


@NO_PROC
@pytest.mark.parametrize(
    ("most", "busy", "expected"),
    [(2, 0, 2), (2, 1, 1), (2, 2, 2), (2, 5, 2), (4, 1, 3), (4, 3, 1), (4, 4, 4), (16, 3, 13)],
)
def test_threads_settle_beside_busy_processes(most, busy, expected, tmp_path, monkeypatch):
    """A thread less for each busy core, and all where the others want more than the rest."""
    clock = Clock(monkeypatch, tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {clock.cpu, *range(1000, 999 + most)})
    pace = Pace(LoadMeter(tmp_path))
    assert settled(clock, pace, most, busy)[-8:] == [expected] * 8


@NO_PROC
def test_a_crowded_machine_is_looked_at_again(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, tmp_path)
    pace = Pace(LoadMeter(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {clock.cpu, 1000})
    used = settled(clock, pace, 2, 2, 60)
    assert 0.8 < used.count(2) / len(used) < 0.95, "with short tries in between"
    assert settled(clock, pace, 2, 0, 12)[-1] == 2
    assert settled(clock, pace, 2, 1, 12)[-1] == 1


@NO_PROC
def test_the_load_is_of_half_a_second_or_more(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, tmp_path)
    meter = LoadMeter(tmp_path)
    assert meter.read() is None, "nothing is known yet"
    assert Pace(meter).threads(4, 4) == 4
    clock.passes(1.0, own=2.0, others=0.9)
    load = meter.read()
    assert load is not None
    assert (load.ours, load.others) == (pytest.approx(2.0), pytest.approx(0.9, abs=0.02))
    clock.passes(0.1, own=2.0, others=4.0)
    assert meter.read() is load, "too short a time to tell"


def test_a_system_that_does_not_say_changes_nothing(tmp_path):
    meter = LoadMeter(tmp_path)
    assert meter.read() is None
    assert Pace(meter).threads(4, 4) == 4


def test_the_number_of_threads_changes_no_logit(tiny_llama, monkeypatch):
    found = []
    for counts in ([2, 2, 2], [1, 2, 1]):
        order = iter(counts)
        monkeypatch.setattr(sequences_module, "default_threads", lambda n: 2)
        monkeypatch.setattr(MACHINE, "threads", lambda most, now, it=order: next(it))
        with Model(tiny_llama) as model:
            sequences = Sequences(model, cells=64, n_seq=1)
            rows = [sequences.decode([BatchToken(300 + i, i, 0, True)]).copy() for i in range(3)]
            assert sequences.threads == counts[-1]
            sequences.close()
        found.append(rows)
    np.testing.assert_array_equal(*found)


def test_a_number_that_the_user_chose_stays(tiny_llama, monkeypatch):
    monkeypatch.setattr(MACHINE, "threads", lambda most, now: 1 / 0)
    with Model(tiny_llama) as model:
        sequences = Sequences(model, cells=64, n_seq=1, threads=2)
        sequences.decode([BatchToken(300, 0, 0, True)])
        assert sequences.threads == 2
        sequences.close()


SHOW = (
    "import os, urial_local.runtime.{module};"
    "print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["llama_api", "probe", "embeddings"])
def test_every_process_that_loads_llama_cpp_waits_briefly(module):
    def shown(**env: str) -> str:
        kept = {k: v for k, v in os.environ.items() if k not in threads.CHOSEN}
        code = SHOW.format(module=module)
        done = subprocess.run(
            [sys.executable, "-c", code], env={**kept, **env}, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert shown() == f"{threads.SPIN} None"
    assert shown(OMP_WAIT_POLICY="active") == "None active", "the user's choice stands"
    assert shown(GOMP_SPINCOUNT="7") == "7 None"
