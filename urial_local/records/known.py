"""Which rows a run has, in little memory; and what was read of a file of rows, kept for the next
start, so that a run of a million rows is not parsed again each time.

What is kept lies in our cache, not beside the rows: a stranger's run could bring along a list that
names rows which it lacks. It holds for a beginning of a file, by its bytes' SHA-256, and for one
release of this program and one kind of row, since these decide what is a row.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

from urial_local import __version__
from urial_local.base.files import open_regular, private_folder, write_private
from urial_local.base.paths import cache_dir
from urial_local.records.disk import open_plain

KEY_BYTES, ASKED_BYTES = 12, 8
_ASKED = re.compile(r"[0-9a-f]{16}")
_MAGIC = b"urial rows 1\n"
_HEAD = struct.Struct("<QQ32s32s")  # bytes of the file, its rows, their SHA-256, what they are of
_ROW = struct.Struct(f"<{KEY_BYTES}s{ASKED_BYTES}s")
_PIECE = 1 << 16
MOST_KEPT = 256 << 20  # bytes of all that is kept


def rows_dir() -> Path:
    """Of what was read of runs: digests of ids and questions."""
    return cache_dir() / "rows"


def key_digest(key: tuple[str, ...]) -> bytes:
    """12 bytes that stand for a key: of a million keys two are the same with p < 10⁻¹⁶."""
    return hashlib.blake2b(
        repr(key).encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES
    ).digest()


def asked_bytes(asked: str) -> bytes:
    """The digest of a question in 8 bytes; none for none. Equal where the texts are."""
    if not asked:
        return b"\0" * ASKED_BYTES
    if _ASKED.fullmatch(asked):
        return bytes.fromhex(asked)
    text = asked.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=ASKED_BYTES).digest()


class Known:
    """The keys of a run's rows, with what was asked, and error rows with their reasons: some 150
    bytes a row."""

    def __init__(self) -> None:
        self._asked: dict[bytes, bytes] = {}
        self._errors: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def put(self, key: bytes, asked: bytes, error: str = "") -> None:
        """A row; of rows with the same key the last one counts."""
        self._asked[key] = asked
        if error:
            self._errors[key] = error
        elif self._errors:
            self._errors.pop(key, None)

    def done(self, key: bytes) -> bool:
        return key in self._asked and key not in self._errors

    def asked(self, key: bytes) -> bytes:
        """What was asked; zeros where the row does not say."""
        return self._asked[key]

    def error(self, key: bytes) -> str | None:
        return self._errors.get(key)

    @property
    def errors(self) -> int:
        return len(self._errors)


class Kept:
    """What was read of one file of rows: a row at a time, as it stands in the file, and the digest
    of all bytes so far."""

    def __init__(self, path: Path, kind: str) -> None:
        """`kind`: what checks a row."""
        self._path = path
        self._of = hashlib.sha256(f"{__version__}\0{kind}".encode()).digest()
        name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
        self._kept = rows_dir() / f"{name}.rows"
        self.begin()

    def begin(self) -> None:
        self.size = self.rows = 0
        self._saved = 0  # bytes that the file in the cache covers
        self._digest = hashlib.sha256()
        self._lines = bytearray()
        # Of each error row its number, place and length: its reason is read again.
        self._errors: array[int] = array("Q")

    def add(self, line: bytes, key: bytes, asked: bytes, error: str) -> None:
        """A row that was read from the file, or written to its end."""
        self._digest.update(line)
        self.size += len(line)
        self.rows += 1
        self._lines += _ROW.pack(key, asked)
        if error:
            self._errors.append(self.rows - 1)
            self._errors.append(self.size - len(line))
            self._errors.append(len(line))

    @property
    def unsaved(self) -> int:
        """Bytes since it was saved last."""
        return self.size - self._saved

    def save(self) -> None:
        """Keep it for the next start, where the disk takes it."""
        head = _HEAD.pack(self.size, self.rows, self._digest.digest(), self._of)
        with contextlib.suppress(OSError):
            private_folder(self._kept.parent)
            write_private(self._kept, _MAGIC, head, memoryview(self._lines), self._errors.tobytes())
            _make_room(self._kept)
        self._saved = self.size

    def load(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(key, asked, the line if it is an error row) of the rows at the file's beginning that are
        known from an earlier start, after which `size` and `rows` say how far that is. None where
        nothing is kept, or the file is not what it was."""
        self.begin()
        try:
            self._load()
        except (OSError, struct.error, ValueError):
            self.begin()
        yield from self._rows()

    def _load(self) -> None:
        with open_regular(self._kept) as file:
            if not _only_ours(file.fileno()) or file.read(len(_MAGIC)) != _MAGIC:
                return
            size, rows, digest, of = _HEAD.unpack(file.read(_HEAD.size))
            if of != self._of or self._path.stat().st_size < size:
                return
            self._lines = bytearray(file.read(rows * _ROW.size))
            self._errors.frombytes(file.read())
            whole = len(self._lines) == rows * _ROW.size and len(self._errors) % 3 == 0
            if not whole or not self._begins_with(size, digest):
                raise ValueError("it is not what it was")
            self.size, self.rows, self._saved = size, rows, size

    def _begins_with(self, size: int, digest: bytes) -> bool:
        with open_plain(self._path, "rb") as file:
            left = size
            while left and (piece := file.read(min(left, _PIECE))):
                self._digest.update(piece)
                left -= len(piece)
        return not left and self._digest.digest() == digest

    def _rows(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        if not self.rows:
            return
        found = self._errors
        errors = {found[i]: found[i + 1 : i + 3] for i in range(0, len(found), 3)}
        with open_plain(self._path, "rb") as file:
            for number, (key, asked) in enumerate(_ROW.iter_unpack(bytes(self._lines))):
                line = b""
                if number in errors:
                    at, length = errors[number]
                    file.seek(at)
                    line = file.read(length)
                yield key, asked, line


def _only_ours(handle: int) -> bool:
    found = os.fstat(handle)
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _make_room(newest: Path) -> None:
    """Remove what was written longest ago, as far as all of it is too much."""
    files = sorted(
        ((f.stat().st_mtime, f.stat().st_size, f) for f in newest.parent.glob("*.rows")),
        reverse=True,
    )
    total = 0
    for _, size, path in files:
        total += size
        if total > MOST_KEPT and path != newest:
            path.unlink()
