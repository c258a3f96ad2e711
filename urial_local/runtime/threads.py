"""How many threads llama.cpp gets, and how they wait for each other. Knows nothing of llama.cpp.

llama.cpp's threads meet after every operation. On Linux they are OpenMP's, and those spin for up to
ten milliseconds before they sleep. While another process wants the core of one of them, the others
spin through its time slice at every meeting: tens of times slower than to sleep at once. So the
spinning is cut short, before the library is loaded, to what costs an idle machine nothing; figures
in docs/performance.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SPIN = 3000  # turns of OpenMP's waiting loop, about a tenth of a millisecond
_TINY_PARAMS = 30_000_000
# Whoever sets one of these has chosen how threads wait.
CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_waiting() -> None:
    """Cut OpenMP's spinning short, unless the user chose otherwise.

    Must run before the OpenMP library is loaded, which reads the environment once; so the module
    that loads llama.cpp calls it first, in every process.
    """
    if not any(name in os.environ for name in CHOSEN):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN)


@dataclass(frozen=True, slots=True)
class Cores:
    """What this process may compute on."""

    affinity: int  # physical cores it may run on, hyperthreads counted once
    quota: float | None  # cores' worth of time that a container allows it, or None

    @property
    def usable(self) -> int:
        """Threads that can run at the same time. A part of a core in the quota counts as one."""
        if self.quota is None:
            return self.affinity
        return max(1, min(self.affinity, -int(-self.quota // 1)))


def cores(root: Path = Path("/")) -> Cores:
    """The cores of this process; `root` is where the system's files are (for tests)."""
    return Cores(_affinity(root), _quota(root))


def default_threads(n_params: int, found: Cores | None = None) -> int:
    """Threads for a model of so many parameters: one for each usable core.

    A tiny model's layers take less time than threads need to meet after each: one thread is faster
    there, and far faster on a busy machine.
    """
    return 1 if n_params < _TINY_PARAMS else (found or cores()).usable


def _affinity(root: Path) -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            siblings.add(path.read_text().strip())
        except OSError:
            siblings.add(str(cpu))
    return max(1, len(siblings))


def _quota(root: Path) -> float | None:
    """The least that any control group around this process allows, in cores (cgroup v1 and v2)."""
    allowed = []
    for folder, second_version in _groups(root):
        try:
            if second_version:
                limit, period = (folder / "cpu.max").read_text().split()
            else:
                limit = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            if limit != "max" and int(limit) > 0 and int(period) > 0:
                allowed.append(int(limit) / int(period))
        except (OSError, ValueError):
            continue
    return min(allowed, default=None)


def _groups(root: Path) -> list[tuple[Path, bool]]:
    """The folders of this process's control groups and of those around them; whether version 2.

    Inside a container the path that the process is told may be the host's and lead nowhere; then
    only the top is there, which is the container's own.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    top = root / "sys/fs/cgroup"
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            tops = [(top, True), (top / "unified", True)]
        elif "cpu" in controllers.split(","):
            tops = [(top / controllers, False), (top / "cpu", False)]
        else:
            continue
        parts = [p for p in path.split("/") if p and p != ".."]
        for base, second in tops:
            found += [(base.joinpath(*parts[:n]), second) for n in range(len(parts) + 1)]
    return found
