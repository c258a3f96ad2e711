"""Runs of `urial-local evaluate` with the demo model as the judge."""

from __future__ import annotations

import json
from pathlib import Path

from urial_local.records.judged import KEY
from urial_local.records.runlog import latest_rows

JUDGE = ("--judge", "demo-aligned", "--reason-tokens", "8", "-np", "4")


def write_answers(path: Path, n: int = 8, generator: str = "m", tail: str = "") -> Path:
    things = ("fox", "owl", "cow", "bee", "otter", "horse", "eagle", "frog", "whale", "cat")
    rows = [
        {
            "id": i,
            "instruction": f"Where can I find a {things[i % 10]}?",
            "output": f"In the wood, near the {things[(i + 3) % 10]}.{tail}" if i != 2 else "",
            "generator": generator,
            "category": "safety" if i % 4 == 3 else "regular",
            "task": ["info-seek"] if i % 2 else ["info-seek", "reasoning"],
        }
        for i in range(n)
    ]
    path.write_text(json.dumps(rows))
    return path


def by_key(folder: Path) -> dict[tuple[str, ...], dict]:
    found = {}
    for row in latest_rows(folder, KEY):
        for name in ("seconds", "cached_tokens", "number"):
            row.pop(name, None)
        found[tuple(str(row[k]) for k in KEY)] = row
    return found
