"""`urial-local show`: reads the answers of a run in the terminal, or of two side by side."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.terminal import one_line
from urial_local.cli.plumbing.answered import answered_run
from urial_local.cli.plumbing.cells import cut, padded, wrapped
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.output import Output

if TYPE_CHECKING:
    from urial_local.records.generated import Generated

MIN_COLUMN = 36  # cells; narrower terminals get answers below each other


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--id", metavar="ID", help="Only the row with this id.")
@click.option("--flag", metavar="NAME", help="Only rows with this flag, such as repetitive.")
@click.option("--limit", type=Whole(1, limits.ROWS), metavar="N", help="Only the first N rows.")
def command(runs: tuple[Path, ...], id: str | None, flag: str | None, limit: int | None) -> None:
    """Read the answers of a run, or of several side by side.

    \b
    Examples:
      urial-local show run | less
      urial-local show run --id 17
      urial-local show plain urial --limit 5
    """
    from urial_local.records.generated import Generated
    from urial_local.records.runs import latest_rows
    from urial_local.tasks.generate.flags import FLAGS
    from urial_local.tasks.generate.job import KEY

    for folder in runs:
        answered_run(folder)
    tables = [
        {(r.id, r.repeat): r for r in latest_rows(folder, KEY, Generated.read)} for folder in runs
    ]
    places = {key: row.number for table in tables[::-1] for key, row in table.items()}
    keys = sorted(places, key=lambda k: (places[k], k[1]))
    if id is not None:
        keys = [k for k in keys if k[0] == id]
        if not keys:
            raise UsageError(f"{runs[0]} has no row {id!r}.")
    if flag is not None:
        keys = [k for k in keys if any(k in t and flag in t[k].flags for t in tables)]
        if not keys:
            raise UsageError(f"No row has the flag {flag!r}.", f"Flags: {', '.join(FLAGS)}.")
    width = shutil.get_terminal_size((100, 24)).columns
    out = Output()
    for key in keys[:limit]:
        rows = [table.get(key) for table in tables]
        out.lines(lines([f.name for f in runs], rows, width))


def lines(names: Sequence[str], rows: Sequence[Generated | None], width: int) -> Iterator[str]:
    """One row of each run: question, then answers, side by side where there is room."""

    first = next(row for row in rows if row)
    n_turns = max(max(len(row.turns), 1) for row in rows if row)
    for turn in range(n_turns):
        label = first.id
        if first.repeat:
            label += f", repeat {first.repeat + 1}"
        if turn:
            label += f", turn {turn + 1}"
        asked = [row.turns[turn].query for row in rows if row and turn < len(row.turns)]
        query = asked[0] if asked else first.query
        yield from wrapped(f"[{label}] {query}", width)
        yield ""
        answers = [_answer(row, turn) for row in rows]
        column = (width - 3 * (len(rows) - 1)) // len(rows)
        if len(rows) == 1 or column < MIN_COLUMN:
            for name, text in zip(names, answers, strict=True):
                if len(rows) > 1:
                    yield f"— {one_line(name)}"
                yield from wrapped(text, width)
                yield ""
            continue
        columns = [
            [cut(one_line(name), column), "─" * column, *wrapped(text, column)]
            for name, text in zip(names, answers, strict=True)
        ]
        for i in range(max(map(len, columns))):
            cells = (padded(c[i] if i < len(c) else "", column) for c in columns)
            yield "   ".join(cells).rstrip(" ")
        yield ""


def _answer(row: Generated | None, turn: int) -> str:
    if row is None:
        return "(no such row)"
    if row.error:
        return f"(failed: {row.error})"
    if turn >= len(row.turns):
        return "(no such turn)"
    found = row.turns[turn]
    flags = f"\n({', '.join(found.flags)})" if found.flags else ""
    return f"{found.answer}{flags}"
