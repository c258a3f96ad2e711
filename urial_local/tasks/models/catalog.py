"""All models that can be named: embedded, of the registry, and others in the hub's cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from urial_local.base import gguf_facts, hub
from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import read_header
from urial_local.base.registry import EMBEDDED, HubName, Registry, find_model, part_paths, parts


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """A model as `models list` has it; None for what nobody says."""

    name: str
    file: str
    repo: str | None = None
    quant: str | None = None
    sha256: str | None = None
    size: int | None = None  # bytes
    context: int | None = None  # tokens trained on
    licence: str | None = None
    role: Literal["base", "aligned"] | None = None
    pair: str | None = None  # name of the counterpart
    source: str | None = None  # how the line was established
    path: str | None = None  # where it is on this machine

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def catalog(known: Registry) -> list[CatalogRow]:
    """A row for each model: the columns of the registry, with `path` where it is on this machine.

    A model that is here and has no line is named `hf:user/repo:file`. Of a model in parts the first
    stands for all; `path` is None until all are there.
    """
    rows = [_embedded(name) for name in EMBEDDED]
    listed: set[tuple[str, str]] = set()
    for entry in known.entries.values():
        size, path = _here(hub.cached_files(entry.repo), entry.file)
        row = CatalogRow(**asdict(entry))
        if path:
            listed.add((entry.repo, entry.file))
            row = replace(row, size=size, path=str(path))
        rows.append(row)
    for repo in cached_repositories():
        there = hub.cached_files(repo)
        for file in HubName(repo).choose(list(there)):
            if (repo, file) not in listed:
                size, path = _here(there, file)
                here = str(path) if path else None
                rows.append(CatalogRow(f"hf:{repo}:{file}", file, repo, size=size, path=here))
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


def _embedded(name: str) -> CatalogRow:
    path = find_model(name).path
    aligned = name.endswith("aligned")
    row = CatalogRow(
        name,
        path.name,
        licence="apache-2.0",
        role="aligned" if aligned else "base",
        pair="demo" if aligned else "demo-aligned",
    )
    with contextlib.suppress(ModelError, OSError):  # a torn installation has other models, too
        header = read_header(path)
        return replace(
            row,
            quant=gguf_facts.quantisation(header),
            size=header.file_size,
            context=gguf_facts.context(header),
            path=str(path),
        )
    return row
