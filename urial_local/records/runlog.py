"""A run is a folder: `run.json` says what was asked, `rows.jsonl` holds one whole row a line.

Opening it again goes on: rows that are there are not made again. A torn last line (the process was
killed, the disk was full) is cut off and kept aside in `rows.torn`. One process writes at a time.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from urial_local import __version__
from urial_local.base.addresses import told_argument, without_secrets
from urial_local.base.errors import RunError, UsageError
from urial_local.base.files import replacing

FORMAT = 1
# The same file under another name is the same model: its fingerprint says so.
UNCOMPARED = ("model.name", "model.file", "model.title")
Row = dict[str, Any]
Key = tuple[str, ...]


class RunLog:
    """An open run folder; a context manager. `key` names the fields that tell rows apart."""

    def __init__(self, folder: Path, config: Mapping[str, Any], key: tuple[str, ...]) -> None:
        """Create the folder, or go on with it.

        Raises UsageError where the folder holds a run of another configuration (saying what
        differs) or something else; RunError where another process has it or the disk refuses.
        """
        self.folder, self.key = folder, key
        self.config = json.loads(json.dumps(config))
        self.keys: dict[Key, str] = {}  # of finished rows; the value is an error row's message
        self.asked: dict[Key, str] = {}  # of finished rows, what `asked_sha` says of the question
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(folder / "run.lock")
            self._take_lock()
            try:
                self._open()
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise RunError(
                f"The run folder {folder} cannot be written: {error.strerror or error}."
            ) from None

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Safe to call twice."""
        if not self._rows.closed:
            self._rows.close()
        with contextlib.suppress(OSError):
            (self.folder / "run.owner").unlink()
        self._lock.release()

    @property
    def rows_path(self) -> Path:
        return self.folder / "rows.jsonl"

    def _take_lock(self) -> None:
        owner = self.folder / "run.owner"
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            who = ""
            with contextlib.suppress(OSError):
                who = f" ({owner.read_text().strip()})"
            raise RunError(
                f"Another process is writing to {self.folder}{who}.",
                "Wait for it, or choose another folder with -o.",
            ) from None
        owner.write_text(f"process {os.getpid()} on {platform.node()}")

    def _open(self) -> None:
        path = self.folder / "run.json"
        if path.exists():
            self._info = read_run(self.folder)
            refuse_other(self._info["config"], self.config, self.folder)
        else:
            if self.rows_path.exists():
                raise UsageError(
                    f"{self.folder} holds rows but no run.json, so they cannot be told apart.",
                    "Choose another folder with -o.",
                )
            self._info = {"format": FORMAT, "config": self.config, "sessions": []}
        self._info["sessions"].append(session())
        write_json(path, self._info)
        cut_torn_tail(self.rows_path)
        for row in read_rows(self.rows_path):
            self.keys[self._key(row)] = str(row.get("error") or "")
            self.asked[self._key(row)] = str(row.get("asked_sha") or "")
        self._rows: BinaryIO = self.rows_path.open("ab", buffering=0)

    def _key(self, row: Mapping[str, Any]) -> Key:
        return tuple(str(row.get(name, "")) for name in self.key)

    def has(self, *key: str) -> bool:
        """Whether this row is done. Error rows are not: the next run tries them again."""
        return self.keys.get(key, "error") == ""

    def append(self, row: Row) -> None:
        """Write one row in one piece. Raises RunError, with the file as it was, if it cannot."""
        key, error = self._key(row), str(row.get("error") or "")
        if error and self.keys.get(key) == error:
            return  # tried again, and nothing has changed
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        try:
            data = line.encode("utf-8") + b"\n"
        except UnicodeEncodeError:  # half a character, from a stranger's file: spelled in ASCII
            data = json.dumps(row, allow_nan=False).encode("ascii") + b"\n"
        size = os.fstat(self._rows.fileno()).st_size
        try:
            written = 0
            while written < len(data):
                written += self._rows.write(data[written:]) or 0
        except OSError as failure:
            with contextlib.suppress(OSError):
                os.ftruncate(self._rows.fileno(), size)
            raise RunError(
                f"A row could not be written to {self.folder}: {failure.strerror or failure}.",
                f"All {len(self.keys):,} rows before it are safe. Make room; then the same command"
                " goes on.",
            ) from None
        self.keys[key] = error

    def end_session(self, **figures: float) -> None:
        """Keep what this start did (rows, tokens, seconds) beside when and how it was made."""
        self._info["sessions"][-1].update(figures)
        write_json(self.folder / "run.json", self._info)

    def add_sessions(self, sessions: Sequence[Mapping[str, Any]], shards: Sequence[str]) -> None:
        """Take over the provenance of runs that are merged into this one."""
        # Runs of earlier releases have addresses as they were typed.
        sessions = [
            {**s, "command": without_secrets(str(s["command"]))} if "command" in s else s
            for s in sessions
        ]
        own = self._info["sessions"].pop()
        known = self._info["sessions"]
        known += [s for s in sessions if s not in known]
        known.append(own)
        self._info["merged"] = sorted({*self._info.get("merged", []), *shards})
        write_json(self.folder / "run.json", self._info)

    @property
    def merged_shards(self) -> list[str]:
        return list(self._info.get("merged", []))

    def count_errors(self) -> int:
        return sum(1 for error in self.keys.values() if error)


def session() -> dict[str, Any]:
    """Provenance of one start: when, how it was called, with which versions, on what."""
    versions = {"urial-local": __version__, "python": platform.python_version()}
    for package in ("llama-cpp-python", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(["urial-local", *map(told_argument, sys.argv[1:])]),
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def read_run(folder: Path) -> dict[str, Any]:
    """A folder's run.json. Raises UsageError where it is not one of ours."""
    path = folder / "run.json"
    try:
        info = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{folder} is not a run: it has no run.json.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(info, dict) or not isinstance(info.get("config"), dict):
        raise UsageError(f"{path} is not the description of a run.")
    if info.get("format") != FORMAT:
        raise UsageError(
            f"{path} has format {info.get('format')!r}; this version reads format {FORMAT}."
        )
    info.setdefault("sessions", [])
    return info


class RunRows:
    """The rows of a run as they stand at one moment: of rows with the same key the last, since an
    error row is followed by the row of a later try.

    Made by one pass over the file; later passes read the chosen lines only, one at a time, and see
    nothing of what another process appends meanwhile.
    """

    def __init__(self, folder: Path, key: tuple[str, ...]) -> None:
        self.folder, self._path = folder, folder / "rows.jsonl"
        places: dict[Key, tuple[int, str]] = {}
        at = 0
        for row, size in _sized_rows(self._path):
            names = tuple(str(row.get(name, "")) for name in key)
            places.pop(names, None)  # so that the order is that of the last ones
            places[names] = (at, str(row.get("error") or ""))
            at += size
        self._places = places

    def errors(self) -> list[Row]:
        """The error rows."""
        return list(self._read(lambda error: bool(error)))

    def __iter__(self) -> Iterator[Row]:
        """The rows that are no error rows."""
        return self._read(lambda error: not error)

    def every(self) -> Iterator[Row]:
        return self._read(lambda error: True)

    def _read(self, wanted: Callable[[str], bool]) -> Iterator[Row]:
        if not self._places:
            return
        with self._path.open("rb") as file:
            for at, error in self._places.values():
                if wanted(error):
                    file.seek(at)
                    yield json.loads(file.readline())


def latest_rows(folder: Path, key: tuple[str, ...]) -> Iterator[Row]:
    """All rows of a run, error rows included; see RunRows."""
    return RunRows(folder, key).every()


def read_rows(path: Path) -> Iterator[Row]:
    """The whole rows of a file. A line in the middle that is no row raises RunError."""
    for row, _ in _sized_rows(path):
        yield row


def _sized_rows(path: Path) -> Iterator[tuple[Row, int]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn: the writer was stopped here
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise RunError(
                    f"Line {number} of {path} is not a row.",
                    "The file was damaged from outside; remove that line, and the same command"
                    " makes the row again.",
                )
            yield row, len(line)


def cut_torn_tail(path: Path) -> None:
    """Cut an unfinished last line off and keep it in `rows.torn`."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        at = end
        while at > 0:
            step = min(1 << 16, at)
            file.seek(at - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                at = at - step + found + 1
                break
            at -= step
        if at == end:
            return
        file.seek(at)
        with path.with_suffix(".torn").open("ab") as aside:
            aside.write(file.read() + b"\n")
        file.truncate(at)


def refuse_other(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Raises UsageError, with each difference on a line, unless the configurations are equal."""
    flat_old, flat_new = dict(_flat(old)), dict(_flat(new))
    lines = []
    for name in sorted(flat_old.keys() | flat_new.keys()):
        if name in UNCOMPARED:
            continue
        before, after = flat_old.get(name, "(none)"), flat_new.get(name, "(none)")
        if before != after:
            lines.append(f"{name}: {before} there, {after} now")
    if lines:
        raise UsageError(
            f"{folder} holds a run of another configuration.",
            "\n".join([*lines, "Choose another folder with -o, or the options it was made with."]),
        )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{name}[{i}]")
    else:
        yield name, json.dumps(value, ensure_ascii=False)


def write_json(path: Path, value: Any) -> None:
    """Write under another name, then rename: a reader sees the old file or the new one."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    with replacing(path) as file:
        file.write(text + "\n")
