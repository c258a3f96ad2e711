"""What was pulled, with the sha256 it had: a JSON file in the user's state folder.

A registry line without a checksum is trusted on first use: the first pull records what came, and a
later one that brings something else says so.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from urial_local.base.errors import UrialError
from urial_local.base.files import private_folder, replacing
from urial_local.base.paths import state_dir


def _file() -> Path:
    return state_dir() / "pulled.json"


def records() -> dict[str, dict[str, Any]]:
    """By `repo/file`: sha256, size in bytes, commit and time. What is no such record is left out.
    Raises UrialError where the file cannot be read."""
    try:
        found = json.loads(_file().read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise UrialError(
            f"{_file()} cannot be read: {error}",
            "It holds the checksums of pulled models; remove it, and the next pull starts over.",
        ) from None
    if not isinstance(found, dict):
        return {}
    return {key: entry for key, entry in found.items() if key.count("/") >= 2 and _sound(entry)}


def _sound(entry: Any) -> bool:
    sha256 = entry.get("sha256") if isinstance(entry, dict) else None
    return isinstance(sha256, str) and bool(re.fullmatch("[0-9a-f]{64}", sha256))


def check_writable() -> None:
    """Raises UrialError where nothing can be recorded: better known before a long download."""
    folder = state_dir()
    try:
        private_folder(folder)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UrialError(
            f"{folder} cannot be written ({error.strerror}), and the checksums of pulled models"
            " belong there.",
            "URIAL_STATE_DIR names another folder.",
        ) from None


def record(repo: str, file: str, sha256: str, size: int, commit: str) -> None:
    """Keep what a file was when it came."""
    entry = {
        "sha256": sha256,
        "size": size,
        "commit": commit,
        "pulled": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with _changing() as found:
        found[f"{repo}/{file}"] = entry


def forget(repo: str, file: str) -> None:
    with _changing() as found:
        found.pop(f"{repo}/{file}", None)


@contextlib.contextmanager
def _changing() -> Iterator[dict[str, dict[str, Any]]]:
    path = _file()
    private_folder(path.parent)
    with filelock.FileLock(path.with_suffix(".lock")):
        found = records()
        yield found
        with replacing(path) as out:
            json.dump(found, out, indent=1)
            out.write("\n")
