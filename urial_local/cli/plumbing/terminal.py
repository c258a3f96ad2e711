"""What a person at the terminal sees: answers on stdout, remarks and progress on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from typing import Any, TextIO

import click

from urial_local.base.addresses import without_secrets
from urial_local.base.terminal import UNSAFE, printable
from urial_local.cli.plumbing.spelling import spelled

_INSIDE = re.compile(r"\S+(?:[ \t]+\S+)*")  # of a line, without the blanks around it
_PATIENCE = 1.0  # seconds before a status line appears


def seen(stream: TextIO | None) -> bool:
    """Whether a person's terminal shows this stream."""
    return stream is not None and stream.isatty()


def steered(stream: TextIO | None) -> bool:
    """Whether a terminal shows it that can be told to erase and to dim."""
    return seen(stream) and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class StatusLine:
    """One line on stderr that is overwritten and erased; nothing where there is no terminal."""

    def __init__(self) -> None:
        self._active = steered(sys.stderr)
        self._since = time.monotonic()
        self._shown = False

    def prefill(self, done: int, total: int) -> None:
        if done >= total:
            self.clear()
        elif self._active and time.monotonic() - self._since > _PATIENCE:
            text = f"\r\x1b[2KReading the prompt: {done:,} of {total:,} tokens"
            click.echo(text, err=True, nl=False)
            self._shown = True

    def begin(self) -> None:
        self._since = time.monotonic()

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._shown = False


def note(text: str) -> None:
    """A remark to the person at the terminal; never on stdout."""
    text = spelled(without_secrets(text))
    # https://no-color.org
    dim = not os.environ.get("NO_COLOR") and steered(sys.stderr)
    click.echo(click.style(printable(text), dim=True) if dim else printable(text), err=True)


def complain(message: str, hint: str = "") -> None:
    """What went wrong, and what to do next."""
    click.echo(f"Error: {printable(spelled(without_secrets(message)))}", err=True)
    for line in filter(None, printable(spelled(without_secrets(hint))).split("\n")):
        click.echo(f"  {line}", err=True)


def tell(text: str) -> None:
    """A line that a person needs, such as where a file is; on stderr."""
    click.echo(printable(spelled(text)), err=True)


def emit(text: str, marked: bool = False) -> None:
    """The model's text to stdout: as it is into a pipe, harmless on a terminal, where what is
    marked is underlined."""
    if not text or sys.stdout is None:  # started with stdout closed
        return
    shown = printable(text) if seen(sys.stdout) else text
    if marked and steered(sys.stdout):
        shown = _INSIDE.sub(lambda m: f"\x1b[4m{m.group()}\x1b[24m", shown)
    sys.stdout.write(shown)
    sys.stdout.flush()


def say(text: object = "", end: str = "\n") -> None:
    """A command's result to stdout, in which others' text and names do nothing to a terminal."""
    shown = printable(str(text)) if seen(sys.stdout) else str(text)
    click.echo(shown + end, nl=False, color=True)  # or click takes what looks like colours out


def say_json(value: Any, indent: int | None = None) -> None:
    """A result as JSON. Characters that could drive a terminal are spelled out, which is the same
    JSON: it may be shown later."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    click.echo(UNSAFE.sub(lambda m: f"\\u{ord(m.group()):04x}", text))


def prepare() -> None:
    """Characters that the output's encoding lacks are spelled out rather than raised, and a
    terminal that does not say what it is gets no escapes, by other libraries neither."""
    if not os.environ.get("TERM"):
        os.environ["TERM"] = "dumb"
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
