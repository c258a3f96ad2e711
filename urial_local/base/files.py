"""Files: written whole under another name, then renamed; private where they hold users' texts;
read only where they are ordinary files.

A power cut leaves the old file or the new one, too: what is written reaches the disk before it gets
its name, since some file systems would otherwise keep the name and lose the content.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from urial_local.base.errors import UrialError

PRIVATE = 0o600
_KEPT_NAME = 40  # letters of a file's name that its unfinished form begins with: names have limits


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[TextIO]:
    """A text file (UTF-8) that takes the place of `path` once it was written without an error.

    Two processes may do so at the same time: the last one's stays, whole. A link is replaced, not
    followed. What is there keeps its permissions; a `private` file is its owner's only. Raises
    OSError, and UrialError where something lies there that is not an ordinary file.
    """
    if not path.parent.is_dir():  # rather than the name of the other file
        raise FileNotFoundError(errno.ENOENT, "There is no such folder", str(path.parent))
    mode = PRIVATE if private else _permissions(path)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=path.name[:_KEPT_NAME] + ".", suffix=".part"
    )
    try:
        with os.fdopen(
            handle, "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where its file system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def holds_other(path: Path, ours: Callable[[bytes], bool]) -> bool:
    """Whether something is there that is not ours by the first 64 KiB of its content. An empty file
    is nobody's; a link is replaced, so what it leads to does not matter. Raises OSError where it
    cannot be read."""
    if path.is_symlink() or not path.is_file():
        return False  # `replacing` says what else it may be
    with open_regular(path) as file:
        head = file.read(1 << 16)
    return bool(head) and not ours(head)


def write_private(path: Path, *pieces: bytes | memoryview) -> None:
    """Bytes, for their owner only, in place of `path`: whole or not at all, but perhaps lost when
    the power fails, as a cache may be. A link is replaced. Raises OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(pieces)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def private_folder(folder: Path) -> Path:
    """The folder, made with those above it that are missing, all for their owner only. One that is
    there is left as it is: it may be a place that others use. Raises OSError."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    return folder


def remove_files(folder: Path, *patterns: str) -> int:
    """Remove what is named so in a folder of ours, as far as it can be; returns the bytes freed.
    A link goes, what it leads to stays."""
    freed = 0
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        with contextlib.suppress(OSError):
            size = path.lstat().st_size
            path.unlink()
            freed += size
    return freed


def open_regular(path: Path | str) -> io.BufferedReader:
    """An ordinary file for reading. Raises OSError for anything else: a pipe would wait for its
    writer, and a device may have no end."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.fdopen(_regular(handle, path), "rb")


def private_append(path: Path) -> io.FileIO:
    """A file of ours to add lines to, for its owner only. Raises OSError, also for a link and for
    what is not an ordinary file."""
    # Not waiting for the reader of a pipe: opening one fails then.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.fdopen(_regular(os.open(path, flags, PRIVATE), path), "ab", buffering=0)
    found = os.fstat(file.fileno())
    if found.st_mode & 0o077 and found.st_uid == os.geteuid():
        os.fchmod(file.fileno(), PRIVATE)  # as an earlier release made it
    return file


def _regular(handle: int, path: Path | str) -> int:
    """The open file. Raises OSError, with it closed, if it is not an ordinary one."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return handle


def _permissions(path: Path) -> int:
    """Those of the file that is there, or of a new one."""
    try:
        found = path.stat().st_mode
    except OSError:  # nothing, or a link that leads nowhere
        return 0o666 & ~_umask()
    if not stat.S_ISREG(found):
        raise UrialError(f"{path} is not a regular file, so nothing is written there.")
    return stat.S_IMODE(found) & 0o777


def _umask() -> int:
    mask = os.umask(0o077)  # what other threads make meanwhile is private rather than open to all
    os.umask(mask)
    return mask
