"""All models that can be named: embedded, of the registry, and others in the hub's cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from urial_local.base import gguf_facts, hub
from urial_local.base.gguf_header import read_header
from urial_local.base.registry import EMBEDDED, Registry, find_model

Row = dict[str, Any]
_NOTHING: Row = {"repo": None, "file": None, "quant": None, "sha256": None, "size": None,
                 "context": None, "licence": None, "role": None, "pair": None}  # fmt: skip


def catalog(known: Registry) -> list[Row]:
    """A row for each model: the columns of the registry, with `path` where it is on this machine.

    A model that is here and has no line is named `hf:user/repo:file`.
    """
    rows = [_embedded(name) for name in EMBEDDED]
    listed: set[Path] = set()
    for entry in known.entries.values():
        path = hub.cached_files(entry.repo).get(entry.file)
        row = {**asdict(entry), "path": str(path) if path else None}
        if path:
            listed.add(path)
            row["size"] = path.stat().st_size
        rows.append(row)
    for repo in cached_repositories():
        for file, path in hub.cached_files(repo).items():
            if path not in listed:
                name = f"hf:{repo}:{file}"
                size = path.stat().st_size
                rows.append({"name": name, **_NOTHING, "repo": repo, "file": file, "size": size,
                             "path": str(path)})  # fmt: skip
    return rows


def cached_repositories() -> Iterator[str]:
    """Model repositories in the hub's cache."""
    with contextlib.suppress(OSError):
        for folder in sorted(hub.cache_folder().glob("models--*--*")):
            yield folder.name.removeprefix("models--").replace("--", "/", 1)


def _embedded(name: str) -> Row:
    path = find_model(name).path
    header = read_header(path)
    aligned = name.endswith("aligned")
    return {
        "name": name,
        **_NOTHING,
        "file": path.name,
        "quant": gguf_facts.quantisation(header),
        "size": path.stat().st_size,
        "context": gguf_facts.context(header),
        "licence": "apache-2.0",
        "role": "aligned" if aligned else "base",
        "pair": "demo" if aligned else "demo-aligned",
        "path": str(path),
    }
