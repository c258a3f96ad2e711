"""All models that can be named: embedded, of the registry, and others in the hub's cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from urial_local.base import gguf_facts, hub
from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import read_header
from urial_local.base.registry import EMBEDDED, HubName, Registry, find_model, part_paths, parts

Row = dict[str, Any]
_NOTHING: Row = {"repo": None, "file": None, "quant": None, "sha256": None, "size": None,
                 "context": None, "licence": None, "role": None, "pair": None}  # fmt: skip


def catalog(known: Registry) -> list[Row]:
    """A row for each model: the columns of the registry, with `path` where it is on this machine.

    A model that is here and has no line is named `hf:user/repo:file`. Of a model in parts the first
    stands for all; `path` is None until all are there.
    """
    rows = [_embedded(name) for name in EMBEDDED]
    listed: set[tuple[str, str]] = set()
    for entry in known.entries.values():
        size, path = _here(hub.cached_files(entry.repo), entry.file)
        row = {**asdict(entry), "path": str(path) if path else None}
        if path:
            listed.add((entry.repo, entry.file))
            row["size"] = size
        rows.append(row)
    for repo in cached_repositories():
        there = hub.cached_files(repo)
        for file in HubName(repo).choose(list(there)):
            if (repo, file) not in listed:
                size, path = _here(there, file)
                rows.append({"name": f"hf:{repo}:{file}", **_NOTHING, "repo": repo, "file": file,
                             "size": size, "path": str(path) if path else None})  # fmt: skip
    return rows


def _here(there: dict[str, Path], file: str) -> tuple[int, Path | None]:
    """Bytes of a model's files in the cache, and the first one's path if none is missing."""
    if file not in there:
        return 0, None
    found = [path for path in part_paths(there[file]) if path.exists()]
    size = sum(path.stat().st_size for path in found)
    return size, there[file] if len(found) == len(parts(file)) else None


def cached_repositories() -> Iterator[str]:
    """Model repositories in the hub's cache."""
    with contextlib.suppress(OSError):
        for folder in sorted(hub.cache_folder().glob("models--*--*")):
            yield folder.name.removeprefix("models--").replace("--", "/", 1)


def _embedded(name: str) -> Row:
    path = find_model(name).path
    aligned = name.endswith("aligned")
    row = {
        "name": name,
        **_NOTHING,
        "file": path.name,
        "licence": "apache-2.0",
        "role": "aligned" if aligned else "base",
        "pair": "demo" if aligned else "demo-aligned",
        "path": None,
    }
    with contextlib.suppress(ModelError, OSError):  # a torn installation has other models, too
        header = read_header(path)
        row["quant"] = gguf_facts.quantisation(header)
        row["size"] = header.file_size
        row["context"] = gguf_facts.context(header)
        row["path"] = str(path)
    return row
