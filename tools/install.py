"""Installs this project into the Python that runs it, and shows how far the compiler is.

`python tools/install.py [EXTRA …]` is `pip install --editable .[EXTRA,…]`. llama.cpp is compiled
the first time, which takes some minutes without a word from pip: here a line on a terminal says
how much of it is done, and a pipe gets a line each half minute. What pip printed is kept, and its
end is shown where it fails. Needs nothing but the standard library.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "build" / "install.log"
SHOWN, EVERY = 30, 30.0  # lines of a failure; seconds between two lines in a pipe
_DOING = re.compile(r"(?:Building wheel|Building editable) for (\S+) .*: started")
_FETCHING = re.compile(r"\s*Collecting ([A-Za-z0-9_.-]+)")
_STEP = re.compile(r"\s*\[(\d+)/(\d+)\] ")
_LONG = {"llama-cpp-python": " (5 to 15 minutes on two to four cores; only once)"}


class Progress:
    """What pip is doing, from its own lines."""

    def __init__(self) -> None:
        self.doing, self.share = "Preparing", ""
        self._building = False
        self._begin = self._said = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def read(self, line: str) -> None:
        """Take the next line of `pip install -v`."""
        before = self.doing
        if found := _DOING.match(line.strip()):
            self.doing = f"Compiling {found[1]}{_LONG.get(found[1], '')}"
            self._building, self.share = True, ""
        elif (found := _STEP.match(line)) and self._building:
            self.share = f" {100 * int(found[1]) // int(found[2])} %"
        elif (found := _FETCHING.match(line)) and not self._building:
            self.doing, self.share = f"Fetching {found[1]}", ""
        elif line.startswith("Installing collected packages"):
            self.doing, self.share, self._building = "Installing packages", "", False
        self._show(now=self.doing != before and self._building)

    def _show(self, now: bool) -> None:
        seconds = int(time.monotonic() - self._begin)
        text = f"{self.doing}{self.share}, {seconds // 60}:{seconds % 60:02d}"
        if self._terminal:
            print(f"\r\x1b[2K{text}", end="", flush=True)
        elif now or time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            print(text, flush=True)

    def end(self) -> None:
        if self._terminal:
            print("\r\x1b[2K", end="", flush=True)


def install(extras: list[str]) -> int:
    """pip's exit code."""
    what = f".[{','.join(extras)}]" if extras else "."
    command = [sys.executable, "-m", "pip", "install", "--verbose", "--editable", what]
    LOG.parent.mkdir(exist_ok=True)
    progress = Progress()
    with (
        LOG.open("w", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as pip,
    ):
        assert pip.stdout is not None
        for line in pip.stdout:
            log.write(line)
            progress.read(line)
    progress.end()
    if pip.returncode:
        lines = LOG.read_text("utf-8", "replace").splitlines()
        print("\n".join(lines[-SHOWN:]))
        print(f"The installation failed; pip's full output is in {LOG.relative_to(ROOT)}.")
    return pip.returncode


if __name__ == "__main__":
    sys.exit(install(sys.argv[1:]))
