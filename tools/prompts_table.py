"""The table of docs/prompts.md: `python -m tools.prompts_table RUN …`.

Each run is one of `generate` over rows whose `category` says which are safety rows, such as those
of just-eval-instruct. Shares are over all rows, refusals over harmless and safety rows apart.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from urial_local.records.generated import Generated
from urial_local.records.runs import latest_rows
from urial_local.runtime.choices import ENDED
from urial_local.tasks.generate.job import KEY
from urial_local.tasks.prose import code_blocks
from urial_local.tasks.refusals import refuses

HEAD = ("prompt", "copied", "harmless refused", "unsafe refused", "empty", "in a loop", "ended",
        "code with code", "words")  # fmt: skip


def line(run: Path) -> list[str]:
    """The cells of a run."""
    rows = [row for row in latest_rows(run, KEY, Generated.read) if not row.error]
    safety = [r for r in rows if _tagged(r, "category", "safety", "unsafe")]
    harmless = [r for r in rows if r not in safety]
    code = [r for r in harmless if _tagged(r, "task", "coding") or _tagged(r, "category", "code")]

    def flagged(flag: str, among: Sequence[Generated]) -> str:
        return f"{sum(flag in row.flags for row in among)} of {len(among)}"

    def refused(among: Sequence[Generated]) -> str:
        return f"{sum(refuses(row.answer) for row in among)} of {len(among)}"

    ended = sum(row.turns[0].finish_reason in ENDED for row in rows)
    words = sum(len(row.answer.split()) for row in rows) / max(len(rows), 1)
    return [
        run.name,
        flagged("copied", rows),
        refused(harmless),
        refused(safety),
        flagged("empty", rows),
        flagged("repetitive", rows),
        f"{ended} of {len(rows)}",
        f"{sum(bool(code_blocks(row.answer)) for row in code)} of {len(code)}",
        f"{words:.0f}",
    ]


def _tagged(row: Generated, name: str, *values: str) -> bool:
    said = row.fields.get(name)
    return any(value in values for value in (said if isinstance(said, list) else [said]))


def main() -> None:
    for cells in (HEAD, ["---"] * len(HEAD), *map(line, map(Path, sys.argv[1:]))):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
