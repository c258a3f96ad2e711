"""What a person at the terminal sees: answers on stdout, remarks and progress on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time

import click

from urial_local.base.addresses import without_secrets
from urial_local.base.terminal import printable

_PATIENCE = 1.0  # seconds before a status line appears


class StatusLine:
    """One line on stderr that is overwritten and erased; nothing where there is no terminal."""

    def __init__(self) -> None:
        self._active = sys.stderr is not None and sys.stderr.isatty()
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
    text = without_secrets(text)
    dim = not os.environ.get("NO_COLOR")  # https://no-color.org
    click.echo(click.style(printable(text), dim=True) if dim else printable(text), err=True)


def complain(message: str, hint: str = "") -> None:
    """What went wrong, and what to do next."""
    click.echo(f"Error: {printable(without_secrets(message))}", err=True)
    for line in filter(None, printable(without_secrets(hint)).split("\n")):
        click.echo(f"  {line}", err=True)


def emit(text: str) -> None:
    """The model's text to stdout: as it is into a pipe, harmless on a terminal."""
    if not text or sys.stdout is None:  # started with stdout closed
        return
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def tolerate_encodings() -> None:
    """Characters that the output's encoding lacks are spelled out rather than raised."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
