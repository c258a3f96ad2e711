"""What run.json says of a run: how each start was called, and with which configuration."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

from urial_local import __version__
from urial_local.base.addresses import told_argument
from urial_local.base.errors import UsageError
from urial_local.base.files import replacing

# The same file under another name is the same model: its fingerprint says so.
UNCOMPARED = ("model.name", "model.file", "model.title")


def asked_digest(*texts: str) -> str:
    """Tells whether what a row was made of is still the same when a run is resumed."""
    # As json.dumps(texts) has it, in half of the time: it is asked of every row there is.
    text = f"[{', '.join(map(encode_basestring_ascii, texts))}]"
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def session() -> dict[str, Any]:
    """Provenance of one start: when, how it was called, with which versions, on what."""
    versions = {"urial-local": __version__, "python": platform.python_version()}
    for package in ("llama-cpp-python", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "finished": False,  # until it is
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join(["urial-local", *map(told_argument, sys.argv[1:])]),
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def refuse_other(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Raises UsageError, with each difference on a line, unless the configurations are equal."""
    if lines := differences(old, new, "there", "now"):
        raise UsageError(
            f"{folder} holds a run of another configuration.",
            "\n".join([*lines, "Choose another folder with -o, or the options it was made with."]),
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any], one: str, other: str) -> list[str]:
    """What differs between two configurations in what decides a row; `one` and `other` say which is
    which."""
    flat_old, flat_new = dict(_flat(old)), dict(_flat(new))
    lines = []
    for name in sorted(flat_old.keys() | flat_new.keys()):
        if name in UNCOMPARED:
            continue
        before, after = flat_old.get(name, "(none)"), flat_new.get(name, "(none)")
        if before != after:
            lines.append(f"{name}: {before} {one}, {after} {other}")
    return lines


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
