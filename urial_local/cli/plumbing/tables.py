"""Tables as lines of a terminal: columns as wide as their cells, whatever script these are in."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from urial_local.base.terminal import one_line

_ENDLESS = 1 << 20  # cells; a table goes into a pipe as it does to a screen, so nothing is cut


@dataclass(frozen=True)
class Column:
    """`width`: cells that it has at least, the gap before it not counted."""

    title: str = ""
    width: int = 0
    right: bool = False


def figures(*columns: tuple[str, int]) -> tuple[Column, ...]:
    """Columns of figures: titles, and widths with a gap of one before."""
    return tuple(Column(title, width - 1, right=True) for title, width in columns)


def table_lines(
    head: Sequence[Column], rows: Iterable[Sequence[str]], indent: int = 0, gap: int = 1
) -> list[str]:
    """The table, with its titles where there are some. Cells may be others' text: they stay on
    their line, and mean nothing to rich."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    titled = any(column.title for column in head)
    table = Table(box=None, show_header=titled, show_edge=False, padding=0, header_style="")
    for i, column in enumerate(head):
        if i:
            table.add_column(width=gap)
        table.add_column(
            Text(column.title),
            justify="right" if column.right else "left",
            min_width=column.width or None,
            no_wrap=True,
        )
    for row in rows:
        cells = [part for cell in row for part in (Text(), Text(one_line(cell)))]
        table.add_row(*cells[1:])
    if not table.rows and not titled:
        return []
    console = Console(file=io.StringIO(), width=_ENDLESS, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    # rich ends no line but with \n, and Python would split at others that a cell may hold
    return [
        " " * indent + line.rstrip(" ") for line in captured.get().removesuffix("\n").split("\n")
    ]
