"""Where a command's results and remarks go, and in which form: lines for people, or JSON."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from urial_local.base.terminal import one_line
from urial_local.cli.plumbing.cells import padded
from urial_local.cli.plumbing.tables import Column, table_lines
from urial_local.cli.plumbing.terminal import emit, note, say, say_json, tell

F = TypeVar("F", bound=Callable[..., Any])
LABEL = 15  # cells


class Output:
    """A command's results to stdout and its remarks to stderr.

    With `--json` one JSON value, `data`, stands in the place of all tables, records and lines; what
    it holds is a program's, and need not be what the table shows.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    # --- results -----------------------------------------------------------------------------

    def data(self, value: Any, indent: int | None = None) -> None:
        """What --json prints; without it, nothing."""
        if self.as_json:
            say_json(value, indent)

    def line(self, text: object = "") -> None:
        """A line, as soon as it is known; nothing with --json."""
        if not self.as_json:
            say(text)

    def lines(self, lines: Iterable[str], data: Any = None) -> None:
        """Lines; with --json, `data`."""
        self.data(data)
        if not self.as_json:  # or lines that are made one by one would be made for nobody
            for line in lines:
                say(line)

    def table(
        self,
        head: Sequence[Column],
        rows: Iterable[Sequence[str]],
        data: Any = None,
        gap: int = 1,
    ) -> None:
        """A table; with --json, `data`."""
        self.data(data)
        if not self.as_json:
            self.lines(table_lines(head, rows, gap=gap))

    def record(
        self, fields: Iterable[tuple[str, object]], data: Any = None, width: int = LABEL
    ) -> None:
        """A field a line, its name first; with --json, `data`."""
        self.lines((field(name, value, width) for name, value in fields), data)

    def text(self, text: str) -> None:
        """Text as it is, with no line end added."""
        if not self.as_json:
            say(text, end="")

    def answer(self, text: str, marked: bool = False) -> None:
        """What a model writes, while it does."""
        if not self.as_json:
            emit(text, marked)

    def json(self, value: Any, indent: int | None = None) -> None:
        """A result that is JSON whatever was asked for."""
        say_json(value, indent)

    # --- remarks -----------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """A remark, which may be overlooked."""
        note(text)

    def tell(self, text: str) -> None:
        """A line that a person needs, such as where a file is."""
        tell(text)


def field(name: str, value: object, width: int = LABEL) -> str:
    """A line of a record."""
    return one_line(f"{padded(name, width)} {value}")


def json_option(text: str) -> Callable[[F], F]:
    """--json; the command gets an Output, `out`.

    click's parameter is called json, so that its variable is URIAL_<COMMAND>_JSON.
    """

    def add(command: F) -> F:
        @functools.wraps(command)
        def with_output(*args: Any, json: bool, **options: Any) -> Any:
            return command(*args, out=Output(json), **options)

        return click.option("--json", "json", is_flag=True, help=text)(with_output)  # type: ignore[return-value]

    return add
