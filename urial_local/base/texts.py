"""Texts in files that somebody else may have written, of which nothing is taken for granted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from urial_local.base.errors import PromptError

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
MAX_NAME = 4096  # characters
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how such a text begins


def read_text(path: Path, what: str, most: int, hint: str = "Check the path.") -> str:
    """All of a file: UTF-8, its line ends as they are, a byte order mark left out. At most `most`
    bytes are read, whatever the file's size is said to be.

    Raises PromptError that begins with `what` ("The frame") and names the file: for what is not an
    ordinary file (a device or a pipe may have no end), too large, unreadable, or not UTF-8.
    """
    try:
        handle = os.open(path, _FLAGS)  # which does not wait for the writer of a pipe
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise PromptError(f"{what} {path} is not an ordinary file.", hint)
            with os.fdopen(handle, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:  # the latter for a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise PromptError(f"{what} {path} cannot be read: {reason}.", hint) from None
    if len(data) > most:
        raise PromptError(f"{what} {path} is larger than {most:,} bytes.", hint)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(
            f"{what} {path} is not UTF-8 text (byte {error.start:,}).",
            "iconv -f utf-16 -t utf-8 converts it." if data[:2] in _UTF_16 else hint,
        ) from None


def located(name: str, what: str, beside: Path | None = None) -> Path:
    """The absolute path of a file that a user or a text names, relative to the folder `beside`.
    Raises PromptError for a name that cannot be a file's."""
    if len(name) > MAX_NAME:  # which nobody wants to read in an error, either
        raise PromptError(f"{what} has a name of {len(name):,} characters.", "Check the path.")
    try:
        return ((beside or Path()) / Path(name).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a loop of links, a NUL
        raise PromptError(
            f"{what} {name!r} cannot be found: {str(error).rstrip('.')}.", "Check the path."
        ) from None
