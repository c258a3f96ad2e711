"""Opens the files of a run folder, which may have come from anywhere, and parses what they hold.

A run's files are plain files in its folder. A symbolic link would lead a writer or a copy to files
that are none of the run's; a pipe or a device has no end. Neither is ever opened.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

from urial_local.base.errors import RunError

MAX_FILE = 64 << 20  # bytes of a file that is read whole: run.json, tokens-NAME.json
MAX_ROW = 64 << 20  # bytes of a line of rows.jsonl
_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def open_plain(path: Path, mode: Literal["rb", "r+b", "ab"]) -> BinaryIO:
    """A plain file, unbuffered where it is written; `ab` makes it where it is missing.

    Raises RunError for a link and for what is not a file, OSError as `open` does.
    """

    def opener(name: str, flags: int) -> int:
        _refuse_other_kinds(path)
        # Without O_NONBLOCK a pipe that took the file's place meanwhile would never open.
        handle = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            _refuse_other_kinds(path)
        return handle

    return open(path, mode, -1 if mode == "rb" else 0, opener=opener)


def _refuse_other_kinds(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "a device")
        raise RunError(
            f"{path} is {kind}; a run's files are plain files in its folder.",
            "Put the file itself in its place, or remove it.",
        )


def read_plain(path: Path, limit: int = MAX_FILE) -> bytes:
    """All of a plain file. Raises RunError as open_plain, and where it has more bytes than that."""
    data = bytearray()
    with open_plain(path, "rb") as file:
        # In pieces: a read of so many bytes would take memory for all of them.
        while len(data) <= limit and (piece := file.read(1 << 16)):
            data += piece
    if len(data) > limit:
        raise RunError(f"{path} has more than {limit >> 20} MB, so urial-local did not write it.")
    return bytes(data)


def whole_lines(
    path: Path, limit: int = MAX_ROW, after: tuple[int, int] = (0, 0)
) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, place in bytes, line) of a file's lines, none where it is missing. A last
    line without an end is left out: its writer was stopped there. `after`: so many lines, of so
    many bytes, are passed over.

    Raises RunError for a line of more than `limit` bytes, and as open_plain.
    """
    try:
        file = open_plain(path, "rb")
    except FileNotFoundError:
        return
    with file:
        number, place = after
        file.seek(place)
        while line := file.readline(limit + 1):
            number += 1
            if len(line) > limit:
                raise RunError(f"{path}, line {number}: more than {limit >> 20} MB in one row.")
            if not line.endswith(b"\n"):
                return
            yield number, place, line
            place += len(line)


def parse(data: bytes) -> Any:
    """JSON in UTF-8, without the NaN and Infinity that JSON lacks. Raises ValueError."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which JSON has no number for")
