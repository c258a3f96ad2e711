"""Reads run folders, which may have come from anywhere: what each holds, and its rows as records.

What is wrong is named with file, line and field. A file is read through `disk`, so links, pipes and
endless lines end nothing, and its values through `typed`.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Generic, TypeVar

from urial_local.base.errors import RunError, UsageError
from urial_local.records.disk import MAX_ROW, open_plain, parse, read_plain, whole_lines
from urial_local.records.known import key_digest
from urial_local.records.parts import run_lines
from urial_local.records.typed import LARGEST, Malformed, json_value, read_as

T = TypeVar("T")
R = TypeVar("R")
FORMAT = 1
IN_PARTS = 2  # the format of a run whose rows lie in several files; see `parts`
Row = dict[str, Any]
Key = tuple[str, ...]
DAMAGED = "The file was damaged from outside; remove that line and run the command again."
REDESCRIBE = (
    "The rows beside it are whole, but what they were made with is not known. If you know the"
    " command that made them: run it with --limit 1 and another -o, copy the run.json that it"
    " writes into this folder, and run it as it was."
)


def any_row(row: Row) -> Row:
    """A row of whatever fields."""
    json_value(row, "")
    return row


def _shard(text: str, at: str) -> str:
    i, _, n = text.partition("/")
    if not (text.isascii() and i.isdigit() and n.isdigit() and len(text) < 16):
        raise Malformed(f"{at} must be a shard such as 2/8, not {text[:40]!r}")
    if not 1 <= int(i) <= int(n):
        raise Malformed(f"{at} must be a shard such as 2/8, not {text!r}")
    return text


Shard = Annotated[str, _shard]


@dataclass(frozen=True, slots=True)
class Session:
    """One start of a run: when and how it was called, and what it did."""

    started: str = ""
    command: str = ""
    platform: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    rows: float = 0
    tokens: float = 0
    seconds: float = 0
    finished: bool | None = None  # whether all was made that it was to make; earlier releases: None


@dataclass(frozen=True, slots=True)
class _Described:
    """What every run.json holds."""

    config: Mapping[str, Any]
    sessions: tuple[Session, ...] = ()
    merged: tuple[Shard, ...] = ()


@dataclass(frozen=True, slots=True)
class _Config:
    """What every configuration holds."""

    task: str
    shard: Shard | None = None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run.json that was read. `raw` is all of it, to be written again."""

    folder: Path
    task: str
    shard: str | None
    config: Mapping[str, Any]
    sessions: tuple[Session, ...]
    raw: Mapping[str, Any]

    def config_as(self, cls: type[T]) -> T:
        """The configuration as a record. Raises UsageError that names the file and the field."""
        try:
            return read_as(cls, self.config, "config")
        except Malformed as error:
            raise UsageError(f"{self.folder / 'run.json'}: {error}.") from None


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that could not be made, of any kind of run."""

    id: str
    error: str
    aligned: str = ""


def is_run(folder: Path) -> bool:
    """Whether a folder says that it is a run, whatever its run.json is worth."""
    return os.path.lexists(folder / "run.json")


def read_run(folder: Path) -> RunInfo:
    """A folder's run.json. Raises UsageError where it is not one of ours, RunError where it is not
    a plain file."""
    path = folder / "run.json"
    try:
        data = read_plain(path)
        if not data:
            raise UsageError(f"{path} is empty.", REDESCRIBE)
        info = parse(data)
    except FileNotFoundError:
        raise UsageError(f"{folder} is not a run: it has no run.json.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise UsageError(f"{path} cannot be read, since {_reason(error)}.") from None
    if not isinstance(info, dict) or not isinstance(info.get("config"), dict):
        raise UsageError(f"{path} is not the description of a run.")
    if info.get("format") not in (FORMAT, IN_PARTS):
        raise UsageError(
            f"{path} has format {repr(info.get('format'))[:40]}; this version reads formats"
            f" {FORMAT} and {IN_PARTS}."
        )
    try:
        json_value(info, "")
        found = read_as(_Described, info)
        config = read_as(_Config, found.config, "config")
    except Malformed as error:
        raise UsageError(f"{path}: {error}.") from None
    return RunInfo(folder, config.task, config.shard, found.config, found.sessions, info)


class RunRows(Generic[T]):
    """The rows of a run as they stand at one moment: of rows with the same key the last, since an
    error row is followed by the row of a later try.

    Made by one pass over the files, after which some ten bytes a row are held; later passes read
    the chosen lines only, one at a time, and see nothing of what another process appends
    meanwhile. `read` makes a record of a row; rows that are none raise RunError, which names the
    line.
    """

    def __init__(
        self,
        folder: Path,
        key: tuple[str, ...],
        read: Callable[[Row], T] = any_row,  # type: ignore[assignment]
    ) -> None:
        self.folder, self._record = folder, read
        self._files: list[tuple[Path, int]] = []  # and the index of the first row in it
        self._at = array("Q")  # place of each row in its file
        self._state = bytearray()  # of each row, one of the next three
        last: dict[bytes, int] = {}
        for path, number, at, line in run_lines(folder):
            if not self._files or self._files[-1][0] != path:
                self._files.append((path, len(self._at)))
            with named(path, number):
                row = row_of(line)
                digest, error = key_digest(key_of(row, key)), error_of(row)
            if (before := last.get(digest)) is not None:
                self._state[before] = _REPLACED
            last[digest] = len(self._at)
            self._at.append(at)
            self._state.append(_ERROR if error else _ROW)

    def errors(self) -> list[FailedRow]:
        """The error rows."""
        return list(self._read((_ERROR,), lambda row: read_as(FailedRow, row)))

    def __iter__(self) -> Iterator[T]:
        """The rows that are no error rows."""
        return self._read((_ROW,), self._record)

    def every(self) -> Iterator[T]:
        return self._read((_ROW, _ERROR), self._record)

    def ordered(self, place: Callable[[T], Any], errors: bool = False) -> Iterator[T]:
        """The rows by their places, with the error rows or without; one in memory at a time."""
        wanted = (_ROW, _ERROR) if errors else (_ROW,)
        chosen = array("Q", (i for i, state in enumerate(self._state) if state in wanted))
        places = [place(one) for one in self._read(wanted, self._record)]
        order = array("Q", sorted(range(len(places)), key=places.__getitem__))
        del places
        return self._records((chosen[i] for i in order), self._record)

    def _read(self, wanted: tuple[int, ...], record: Callable[[Row], R]) -> Iterator[R]:
        return self._records((i for i, state in enumerate(self._state) if state in wanted), record)

    def _records(self, indices: Iterable[int], record: Callable[[Row], R]) -> Iterator[R]:
        starts = [first for _, first in self._files]
        with contextlib.ExitStack() as stack:
            opened: dict[int, BinaryIO] = {}
            for index in indices:
                nth = bisect_right(starts, index) - 1
                path, first = self._files[nth]
                if nth not in opened:
                    opened[nth] = stack.enter_context(open_plain(path, "rb"))
                with named(path, index - first + 1):
                    opened[nth].seek(self._at[index])
                    found = record(row_of(opened[nth].readline(MAX_ROW)))
                yield found


_REPLACED, _ROW, _ERROR = range(3)


def latest_rows(
    folder: Path,
    key: tuple[str, ...],
    read: Callable[[Row], T] = any_row,  # type: ignore[assignment]
) -> Iterator[T]:
    """All rows of a run, error rows included; see RunRows."""
    return RunRows(folder, key, read).every()


def read_rows(path: Path) -> Iterator[Row]:
    """The whole rows of one file. A line in the middle that is not a row raises RunError."""
    for number, _, line in whole_lines(path):
        with named(path, number):
            row = row_of(line)
        yield row


def row_of(line: bytes) -> Row:
    """Raises Malformed where a line is not an object."""
    try:
        row = parse(line)
    except ValueError as error:
        raise Malformed(f"this is not a row, since {_reason(error)}") from None
    if not isinstance(row, dict):
        raise Malformed("this is not a row, since it is not an object")
    return row


def _reason(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return f"it is not JSON: {error}"


@contextlib.contextmanager
def named(path: Path, number: int) -> Iterator[None]:
    """What is Malformed becomes a RunError that names file and line."""
    try:
        yield
    except Malformed as error:
        raise RunError(f"{path}, line {number}: {error}.", DAMAGED) from None


def key_of(row: Mapping[str, Any], key: tuple[str, ...]) -> Key:
    """What tells a row apart: its values of these fields as text. Raises Malformed."""
    return tuple(_key_text(name, row.get(name)) for name in key)


def _key_text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise Malformed.expected(name, "text or a whole number", value)
    if isinstance(value, int) and abs(value) > LARGEST:
        raise Malformed(f"{name} is too large a number")
    if name == "id" and not isinstance(value, str):
        raise Malformed.expected(name, "text", value)
    return "" if value is None else str(value)


def error_of(row: Mapping[str, Any]) -> str:
    """Why a row could not be made; empty for a row that was. Raises Malformed."""
    error = row.get("error")
    if error is not None and not isinstance(error, str):
        raise Malformed.expected("error", "text", error)
    return error or ""


def read_token_texts(path: Path) -> tuple[str, ...]:
    """A `tokens-NAME.json`: what the ids in an aligned model's rows stand for. Raises RunError."""
    hint = "It says what token ids stand for; copy it from another run of the same model."
    try:
        return read_as(_Tokens, {"tokens": parse(read_plain(path))}).tokens
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}.", hint) from None
    except Malformed as error:
        raise RunError(f"{path}: {error}.", hint) from None
    except ValueError as error:
        raise RunError(f"{path} cannot be read, since {_reason(error)}.", hint) from None


@dataclass(frozen=True, slots=True)
class _Tokens:
    tokens: tuple[str, ...]
