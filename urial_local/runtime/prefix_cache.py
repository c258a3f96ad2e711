"""States of prompt prefixes on disk, so that a second start need not decode them again.

An entry is one file: a magic line, the sha256 of the rest, the number of tokens, their ids, and the
state as llama.cpp wrote it. Its name is a hash of all that the state depends on, so a stale entry
is never found. A missing, torn, corrupt or foreign entry only costs time. Files are written under
another name and renamed, and the least recently used go first when the folder grows over its cap.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.files import open_regular, private_folder, remove_files, write_private
from urial_local.base.paths import prefix_cache_dir
from urial_local.runtime.vocabulary import Ids

MAGIC = b"urial-local prefix 1\n"
DEFAULT_CAP = 4 << 30  # bytes
_SUFFIX = ".prefix"
_HEAD = len(MAGIC) + 36  # bytes before the token ids
_BESIDES = 64 << 20  # bytes that a state may have besides what it has for each token
_STALE_SECONDS = 3600  # an unfinished file this old was left by a process that died


@dataclass(frozen=True, slots=True)
class Entry:
    path: Path
    size: int  # bytes
    tokens: int
    used: float  # seconds since the epoch


class PrefixCache:
    """A folder of states. `key` names what besides the token ids a state depends on; `per_token`
    is what the state of one token takes at most, in bytes, where that is known."""

    def __init__(
        self,
        key: str = "",
        folder: Path | None = None,
        cap: int | None = None,
        per_token: int | None = None,
    ) -> None:
        self.key, self.per_token = key, per_token
        self.folder = folder or prefix_cache_dir()
        self.cap = cap if cap is not None else _cap()
        self.warning = ""  # why the latest entry could not be kept, for the user to hear once

    def path(self, tokens: Ids) -> Path:
        digest = hashlib.sha256(MAGIC + self.key.encode() + b"\0")
        digest.update(np.ascontiguousarray(tokens, "<i4").tobytes())
        return self.folder / (digest.hexdigest() + _SUFFIX)

    def load(self, tokens: Ids) -> memoryview | None:
        """The state for exactly these tokens, or None. An unusable entry is removed."""
        path, state = self.path(tokens), None
        try:
            with open_regular(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size <= self._largest(len(tokens)):
                    data = bytearray(size)
                    file.readinto(data)
                    state = _unpack(data, tokens)
                if state is not None:
                    os.utime(file.fileno())  # recently used
        except OSError:
            pass
        if state is None:
            with contextlib.suppress(OSError):
                path.unlink()
        return state

    def _largest(self, n: int) -> int:
        """Bytes that an entry of n tokens may have: a file that claims more takes no memory."""
        if self.per_token is None:
            return self.cap
        return min(self.cap, _HEAD + 4 * n + self.per_token * n + _BESIDES)

    def store(self, tokens: Ids, state: bytes) -> bool:
        """Keep a state. False, with the reason in `warning`, where the disk does not take it."""
        head = struct.pack("<I", len(tokens)) + np.ascontiguousarray(tokens, "<i4").tobytes()
        size = len(MAGIC) + 32 + len(head) + len(state)
        if size > self.cap:
            self.warning = (
                f"The prompt's state ({size / 1e6:.0f} MB) is larger than the cache may be"
                f" ({self.cap / 1e6:.0f} MB); the next start decodes it again."
            )
            return False
        digest = hashlib.sha256(head)
        digest.update(state)
        try:
            private_folder(self.folder)
            write_private(self.path(tokens), MAGIC + digest.digest() + head, state)
        except OSError as error:
            remedy = (
                "`urial-local cache clear` makes room."
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
                else "URIAL_CACHE_DIR names another folder."
            )
            self.warning = (
                f"The prompt's state could not be kept in {self.folder} ({error.strerror}); the"
                f" next start decodes it again. {remedy}"
            )
            return False
        self._evict()
        return True

    def entries(self) -> list[Entry]:
        """All entries, the least recently used first."""
        found = []
        for path in self.folder.glob("*" + _SUFFIX):
            with contextlib.suppress(OSError), open_regular(path) as file:
                head = file.read(_HEAD)
                tokens = struct.unpack_from("<I", head, _HEAD - 4)[0] if len(head) == _HEAD else 0
                stat = os.fstat(file.fileno())
                found.append(Entry(path, stat.st_size, tokens, stat.st_mtime))
        return sorted(found, key=lambda e: e.used)

    def clear(self) -> int:
        """Remove every entry; returns the bytes freed."""
        return remove_files(self.folder, "*" + _SUFFIX, "*.part")

    def _evict(self) -> None:
        entries = self.entries()
        total = sum(e.size for e in entries)
        for entry in entries[:-1]:
            if total <= self.cap:
                break
            with contextlib.suppress(OSError):
                entry.path.unlink()
                total -= entry.size
        for part in self.folder.glob("*.part"):
            with contextlib.suppress(OSError):
                if time.time() - part.lstat().st_mtime > _STALE_SECONDS:
                    part.unlink()


def _unpack(data: bytearray, tokens: Ids) -> memoryview | None:
    """The state inside an entry, not copied: states of long prompts have hundreds of megabytes."""
    start = len(MAGIC) + 32
    if data[: len(MAGIC)] != MAGIC or len(data) < start + 4 + 4 * len(tokens):
        return None
    view = memoryview(data)
    if hashlib.sha256(view[start:]).digest() != data[len(MAGIC) : start]:
        return None
    ids = np.ascontiguousarray(tokens, "<i4").tobytes()
    if struct.unpack_from("<I", data, start)[0] != len(tokens):
        return None
    if view[start + 4 : start + 4 + len(ids)] != ids:
        return None
    return view[start + 4 + len(ids) :]


def _cap() -> int:
    text = os.environ.get("URIAL_PREFIX_CACHE_MB", "")
    if not text:
        return DEFAULT_CAP
    megabytes = limits.count(text, limits.MEGABYTES)
    if megabytes is None:
        raise UsageError(
            f"URIAL_PREFIX_CACHE_MB is {text[:20]!r}; it must be a number of megabytes, at most"
            f" {limits.MEGABYTES:,}."
        )
    return megabytes * 1_000_000
