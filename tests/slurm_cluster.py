"""A small stand-in for Slurm: runs the body of a script for each index of an array, as processes.

`sbatch` and `scontrol` are programs of a few lines on the script's PATH that note what they were
asked for. A job has a process group of its own, so that a node can be lost whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SBATCH = """#!/bin/bash
n=$(ls {notes} | wc -l)
printf '%s\\n' "$@" > {notes}/args-$n
for last; do :; done
if [ -f "$last" ]; then cat -- "$last"; else cat; fi > {notes}/script-$n
echo "$((700 + n));cluster"
"""
SCONTROL = """#!/bin/bash
printf '%s\\n' "$*" >> {requeues}
"""


class Cluster:
    def __init__(self, folder: Path, script: str) -> None:
        """`folder` is where jobs are submitted."""
        self.folder = folder
        self.script = folder / "run.sh"
        self.script.write_text(script)
        self.bin, self.notes = folder / "bin", folder / "notes"
        self.requeues = folder / "requeues"
        for made in (self.bin, self.notes):
            made.mkdir()
        for name, text in (("sbatch", SBATCH), ("scontrol", SCONTROL)):
            path = self.bin / name
            path.write_text(text.format(notes=self.notes, requeues=self.requeues))
            path.chmod(0o755)

    def submit(self) -> list[tuple[list[str], str]]:
        """`bash run.sh`: what sbatch was asked for, each time, with which script."""
        subprocess.run(["bash", self.script.name], cwd=self.folder, env=self._env(), check=True)
        numbers = sorted(int(p.name[5:]) for p in self.notes.glob("args-*"))
        return [
            ((self.notes / f"args-{n}").read_text().splitlines(),
             (self.notes / f"script-{n}").read_text())
            for n in numbers
        ]  # fmt: skip

    def start(self, index: int, restarts: int = 0) -> subprocess.Popen:
        """The job of one index of the array."""
        slurm = {
            "SLURM_JOB_ID": f"9{index}",
            "SLURM_ARRAY_JOB_ID": "700",
            "SLURM_ARRAY_TASK_ID": str(index),
            "SLURM_CPUS_PER_TASK": "1",
        }
        if restarts:
            slurm["SLURM_RESTART_COUNT"] = str(restarts)
        return subprocess.Popen(
            ["bash", self.script.name],
            cwd=self.folder,
            env=self._env() | slurm,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def merge(self, script: str) -> subprocess.CompletedProcess:
        """The job that waits for all others."""
        return subprocess.run(
            ["bash"], input=script, cwd=self.folder, env=self._env(), capture_output=True, text=True
        )

    def requeued(self) -> list[str]:
        return self.requeues.read_text().splitlines() if self.requeues.exists() else []

    def _env(self) -> dict[str, str]:
        path = f"{self.bin}:{os.environ['PATH']}"
        search = os.pathsep.join(p for p in sys.path if p)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        return kept | {"PATH": path, "PYTHONPATH": search}


def lose(job: subprocess.Popen) -> None:
    """The node of a job breaks down."""
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate()
