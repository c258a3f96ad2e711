"""A run is a folder: `run.json` says what was asked, `rows.jsonl` holds one whole row a line, and
where it grows large, so do further files (see `parts`).

Opening it again goes on: rows that are there are not made again. A torn last line (the process was
killed, the disk was full) is cut off and kept aside in `rows.torn`. One process writes at a time.
What a folder holds may have come from anywhere: it is read by `runs`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import filelock

from urial_local.base.addresses import without_secrets
from urial_local.base.errors import RunError, UsageError
from urial_local.base.files import sync_folder
from urial_local.base.terminal import printable
from urial_local.records.described import (
    asked_digest,
    differences,
    refuse_other,
    session,
    write_json,
)
from urial_local.records.disk import MAX_ROW, open_plain, read_plain, whole_lines
from urial_local.records.known import Kept, Known, asked_bytes, key_digest
from urial_local.records.parts import FIRST, LATER, PART, part_path, parts
from urial_local.records.runs import (
    FORMAT,
    IN_PARTS,
    REDESCRIBE,
    Key,
    Row,
    RunRows,
    any_row,
    error_of,
    is_run,
    key_of,
    latest_rows,
    named,
    read_rows,
    read_run,
    row_of,
)

__all__ = [
    "RunLog",
    "RunRows",
    "asked_digest",
    "cut_torn_tail",
    "differences",
    "latest_rows",
    "read_rows",
    "read_run",
    "refuse_other",
    "session",
    "write_json",
]
# What commands write into a run's folder, besides its lock.
MADE = ("run.json", "rows.jsonl", "rows.torn", LATER, "summary.json", "report.html",
        "positions.csv", "tokens-*.json")  # fmt: skip
KEEP = 64 << 20  # bytes of rows after which what was read and written is kept for the next start
SYNC_SECONDS = 1.0  # a power cut costs the rows of so long at most


class RunLog:
    """An open run folder; a context manager. `key` names the fields that tell rows apart, `read`
    makes a record of a row that is not an error row, and raises Malformed where it is none."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        key: tuple[str, ...],
        read: Callable[[Row], object] = any_row,
    ) -> None:
        """Create the folder, or go on with it.

        Raises UsageError where the folder holds a run of another configuration (saying what
        differs) or something else; RunError where another process has it, a row is none, or the
        disk refuses.
        """
        self.folder, self.key, self._read = folder, key, read
        self.config = json.loads(json.dumps(config))
        self._known = Known()
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
            self._lock = filelock.FileLock(folder / "run.lock")
            self._take_lock()
            try:
                self._open()
            except BaseException:
                self._release()
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
        """Safe to call twice. Raises RunError where the last rows do not reach the disk."""
        try:
            if not self._rows.closed:
                with self._rows:
                    self._sync()
                if self._kept.unsaved >= KEEP // 4:
                    self._kept.save()
        finally:
            self._release()

    def _release(self) -> None:
        with contextlib.suppress(OSError):
            (self.folder / "run.owner").unlink()
        self._lock.release()

    @property
    def rows_path(self) -> Path:
        """The file that rows are written to."""
        return part_path(self.folder, self._part)

    def _take_lock(self) -> None:
        owner = self.folder / "run.owner"
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            who = ""
            with contextlib.suppress(OSError, RunError):
                said = read_plain(owner).decode("utf-8", "replace").strip()
                who = f" ({printable(said[:200])})"
            raise RunError(
                f"Another process is writing to {self.folder}{who}.",
                "Wait for it, or choose another folder with -o.",
            ) from None
        with contextlib.suppress(FileNotFoundError):
            owner.unlink()  # a link of this name is not followed
        with owner.open("x", encoding="utf-8") as file:
            file.write(f"process {os.getpid()} on {platform.node()}")

    def _open(self) -> None:
        path = self.folder / "run.json"
        if _is_new(self.folder):
            _refuse_files_of_others(self.folder)
            self._info: dict[str, Any] = {"format": FORMAT, "config": self.config, "sessions": []}
        else:
            found = read_run(self.folder)
            refuse_other(found.config, self.config, self.folder)
            self._info = {**found.raw, "sessions": list(found.raw.get("sessions") or [])}
        self._info["sessions"].append(session())
        write_json(path, self._info)
        there = parts(self.folder)
        self._part = max(1, len(there))
        cut_torn_tail(self.rows_path)
        for file in there or [self.rows_path]:
            self._kept = Kept(file, getattr(self._read, "__qualname__", ""))
            self._read_part(file)
        self._rows: BinaryIO = open_plain(self.rows_path, "ab")
        sync_folder(self.folder)
        self._synced = time.monotonic()

    def _read_part(self, path: Path) -> None:
        """What a file of rows holds: as an earlier start left it, then the rest of it."""
        for digest, asked, line in self._kept.load():
            self._known.put(digest, asked, error_of(row_of(line)) if line else "")
        after = self._kept.rows, self._kept.size
        for number, _, line in whole_lines(path, after=after):
            with named(path, number):
                row = row_of(line)
                key, error = key_of(row, self.key), error_of(row)
                if not error:
                    self._read(row)
            self._note(line, key, str(row.get("asked_sha") or ""), error)
        if self._kept.unsaved >= KEEP // 4:
            self._kept.save()

    def _note(self, line: bytes, key: Key, asked: str, error: str) -> None:
        """A row that is in the file."""
        digest, what = key_digest(key), asked_bytes(asked)
        self._known.put(digest, what, error)
        self._kept.add(line, digest, what, error)

    def has(self, *key: str) -> bool:
        """Whether this row is done. Error rows are not: the next run tries them again."""
        return self._known.done(key_digest(key))

    def lacks(self, *key: str, asked: str, what: str) -> bool:
        """Whether this row is still to be made. `asked` tells what is asked now: a run may grow,
        but not change. Raises UsageError, with `what` that is, where the run holds a row of
        something else by this key."""
        digest = key_digest(key)
        if not self._known.done(digest):
            return True
        # Rows of earlier releases say nothing of it.
        if self._known.asked(digest) not in (asked_bytes(""), asked_bytes(asked)):
            raise UsageError(
                f"{what} differs from the one in this run.",
                "The data has changed; choose another folder with -o.",
            )
        return False

    def append(self, row: Row) -> None:
        """Write one row in one piece. Raises RunError, with the file as it was, if it cannot."""
        key, error = key_of(row, self.key), error_of(row)
        if error and self._known.error(key_digest(key)) == error:
            return  # tried again, and nothing has changed
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        try:
            data = line.encode("utf-8") + b"\n"
        except UnicodeEncodeError:  # half a character, from a stranger's file: spelled in ASCII
            data = json.dumps(row, allow_nan=False).encode("ascii") + b"\n"
        if len(data) > MAX_ROW:
            raise RunError(f"A row of {len(data):,} bytes is more than a run can hold.")
        size = os.fstat(self._rows.fileno()).st_size
        if size and size + len(data) > PART:
            self._begin_part()
            size = 0
        try:
            written = 0
            while written < len(data):
                written += self._rows.write(data[written:]) or 0
        except OSError as failure:
            with contextlib.suppress(OSError):
                os.ftruncate(self._rows.fileno(), size)
            raise RunError(
                f"A row could not be written to {self.folder}: {failure.strerror or failure}.",
                f"All {len(self._known):,} rows before it are safe. Make room, then run the"
                " same command again to resume.",
            ) from None
        self._note(data, key, str(row.get("asked_sha") or ""), error)
        if self._kept.unsaved >= KEEP:
            self._kept.save()
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _begin_part(self) -> None:
        """Go on in a new file. Raises RunError where the disk refuses."""
        self._sync()
        self._kept.save()
        try:
            if self._info["format"] != IN_PARTS:  # before a release that reads one file alone could
                self._info["format"] = IN_PARTS
                write_json(self.folder / "run.json", self._info)
            path = part_path(self.folder, self._part + 1)
            rows = open_plain(path, "ab")
            sync_folder(self.folder)
        except OSError as failure:
            raise RunError(
                f"A new file of rows cannot be made in {self.folder}:"
                f" {failure.strerror or failure}."
            ) from None
        self._rows.close()
        self._rows, self._part = rows, self._part + 1
        self._kept = Kept(path, getattr(self._read, "__qualname__", ""))

    def _sync(self) -> None:
        """Bring the rows to the disk. Raises RunError."""
        try:
            os.fsync(self._rows.fileno())
        except OSError as failure:
            raise RunError(
                f"The rows of {self.folder} do not reach the disk: {failure.strerror or failure}.",
                "Check the disk, then run the same command again to make what is missing.",
            ) from None
        self._synced = time.monotonic()

    def end_session(self, *, finished: bool = True, **figures: float) -> None:
        """Keep what this start did (rows, tokens, seconds) beside when and how it was made.
        `finished`: nothing is left to be made."""
        self._info["sessions"][-1].update(figures, finished=finished)
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
        self._info["merged"] = sorted({*self.merged_shards, *shards})
        write_json(self.folder / "run.json", self._info)

    @property
    def merged_shards(self) -> list[str]:
        return list(self._info.get("merged") or [])

    def count_done(self) -> int:
        return len(self._known) - self._known.errors

    def count_errors(self) -> int:
        return self._known.errors


def _refuse_files_of_others(folder: Path) -> None:
    """Raises UsageError where a new run would come to replace files that no run has made."""
    for pattern in MADE[3:]:
        for path in folder.glob(pattern):
            raise UsageError(
                f"{folder} holds no run, but a {path.name}, which a run would replace.",
                "Choose another folder with -o, or move the file.",
            )


def _is_new(folder: Path) -> bool:
    """Whether there is nothing yet that a new run.json would be wrong about.

    An empty run.json is what a power cut may leave of a run that was about to begin. Raises
    UsageError where it is empty or missing beside rows."""
    path, rows = folder / "run.json", folder / FIRST
    empty = is_run(folder) and not read_plain(path)
    if is_run(folder) and not empty:
        return False
    if not os.path.lexists(rows) or (empty and not rows.lstat().st_size):
        return True
    if empty:
        raise UsageError(f"{path} is empty.", REDESCRIBE)
    raise UsageError(
        f"{folder} holds rows but no run.json, so what they belong to is unknown.",
        "Choose another folder with -o.",
    )


def cut_torn_tail(path: Path) -> None:
    """Cut an unfinished last line off and keep it in `rows.torn`."""
    try:
        file = open_plain(path, "r+b")
    except FileNotFoundError:
        return
    with file:
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
        with open_plain(path.with_name("rows.torn"), "ab") as aside:
            shutil.copyfileobj(file, aside)
            aside.write(b"\n")
            os.fsync(aside.fileno())  # before it is cut off here
        file.truncate(at)
