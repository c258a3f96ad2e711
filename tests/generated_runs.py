"""Runs of `urial-local generate` over a few questions."""

from __future__ import annotations

from pathlib import Path

from tests.command import urial
from urial_local.records.runlog import latest_rows
from urial_local.tasks.generate.job import KEY

THINGS = ("fox", "owl", "cow", "bee", "otter", "horse", "eagle", "frog", "whale", "cat")
QUESTIONS = [f"Where can I find a {t}?" for t in THINGS] + [f"What does a {t} eat?" for t in THINGS]


def rows_of(folder: Path) -> dict[tuple[str, int], dict]:
    """Rows by key, without what may differ between runs."""
    found = {}
    for row in latest_rows(folder, KEY):
        for name in ("seconds", "cached_tokens", "number"):
            row.pop(name, None)
        found[row["id"], row["repeat"]] = row
    return found


def run(data: Path, output: Path, *more: str, model: str = "demo"):
    return urial("generate", data, "-m", model, "-o", output, *more)
