"""The files that a run's rows lie in: the one place that knows their names.

`rows.jsonl` is the first; where it would come to more than PART bytes, rows go on in
`rows-0002.jsonl`, and so on. A part is never renamed or written again once the next one is there,
so that a reader may go through them while a writer goes on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from urial_local.base.errors import RunError
from urial_local.records.disk import whole_lines

PART = 256 << 20  # bytes; a row is never cut, so a part of one large row may have more
FIRST = "rows.jsonl"
LATER = "rows-*.jsonl"  # as a pattern of names
_LATER = re.compile(r"rows-([0-9]{4,9})\.jsonl")


def part_path(folder: Path, number: int) -> Path:
    """Of the first part (1), or a later one."""
    return folder / (FIRST if number == 1 else f"rows-{number:04}.jsonl")


def parts(folder: Path) -> list[Path]:
    """The files of a run's rows that are there, in their order. Raises RunError where one in the
    middle is missing: the rows in it would be made again, and doubled if it came back."""
    found = {1} if os.path.lexists(folder / FIRST) else set()
    if folder.is_dir():
        matches = (_LATER.fullmatch(name) for name in os.listdir(folder))
        found |= {int(m.group(1)) for m in matches if m and int(m.group(1)) > 1}
    for number in range(1, max(found, default=0)):
        if number not in found:
            raise RunError(
                f"{part_path(folder, number)} is missing, and there are rows after it.",
                "Bring it back from where the folder was copied from.",
            )
    return [part_path(folder, number) for number in sorted(found)]


def run_lines(folder: Path) -> Iterator[tuple[Path, int, int, bytes]]:
    """(file, number from 1, place in bytes, line) of all rows of a run. Raises as whole_lines."""
    for path in parts(folder):
        for number, at, line in whole_lines(path):
            yield path, number, at, line
