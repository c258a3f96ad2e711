"""Runs the commands in console blocks of the README and of docs/benchmark.md, and writes what they
print below them.

`python -m tools.readme` refreshes both; a test checks that nothing would change. A block's
lines that begin with `$ ` are commands; everything else in it is output (stdout only). Four
backticks hold a block together, since outputs have fences of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = (README, ROOT / "docs" / "benchmark.md")
_BLOCK = re.compile(r"(?<=^````console\n)(.*?)(?=^````$)", re.DOTALL | re.MULTILINE)


def refreshed(text: str) -> str:
    """A page's text with the present output below every command."""
    with tempfile.TemporaryDirectory() as home:
        env = {k: v for k, v in os.environ.items() if not k.startswith("URIAL_")}
        env |= {f"URIAL_{kind}_DIR": f"{home}/{kind}" for kind in ("CONFIG", "CACHE", "STATE")}
        env["HF_HOME"] = f"{home}/hub"
        # The command of this environment, whatever else is on the PATH.
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", "")])
        work = Path(home) / "work"  # where the commands run, and leave their files
        work.mkdir()
        return _BLOCK.sub(lambda block: _run_all(block.group(), env, work), text)


def _run_all(block: str, env: dict[str, str], work: Path) -> str:
    commands = [line[2:] for line in block.split("\n") if line.startswith("$ ")]
    return "".join(f"$ {command}\n{_run(command, env, work)}" for command in commands)


def _run(command: str, env: dict[str, str], work: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=work, env=env, capture_output=True, text=True, timeout=120
    )
    if done.returncode:
        raise RuntimeError(f"{command}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout.rstrip("\n") + "\n" if done.stdout else ""


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(refreshed(page.read_text("utf-8")), "utf-8")
