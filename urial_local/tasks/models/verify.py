"""Checks a model file before it is trusted: header, bytes, and a try in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from urial_local.base import gguf_facts, hub
from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import GGUFHeader
from urial_local.base.gguf_parts import read_model
from urial_local.base.model_names import parse_name
from urial_local.base.registry import (
    EMBEDDED,
    NamedModel,
    find_model,
    part_paths,
    registry,
    user_registry,
)
from urial_local.runtime.adapters import checked_adapters
from urial_local.runtime.probe import check_adapters, check_unknown
from urial_local.tasks.models import pulled
from urial_local.tasks.models.cached import place
from urial_local.tasks.models.pull import digest

Progress = Callable[[str, int, int], None]  # what, bytes done, bytes in all


@dataclass(frozen=True, slots=True)
class Check:
    """One check: whether it could be made, whether it failed, and what is to be said of it."""

    name: str
    made: bool
    said: str
    failed: bool = False


def verify(name: str, tell: Progress = lambda what, done, total: None) -> Iterator[Check]:
    """Header, sha256 of each file, try; in this order, each as it is made. The first that fails is
    followed by its ModelError."""
    named = find_model(name)
    path = named.path
    doing = "header"
    try:
        header = read_model(path)
        size = gguf_facts.parameters(header)
        yield Check("header", True, f"{header.architecture}, {size / 1e6:,.1f} M parameters,"
                    f" {len(header.tensors)} tensors")  # fmt: skip
        doing = "sha256"
        yield from checksums(
            parse_name(name).base, [file for file in part_paths(path) if file.exists()], tell
        )
        doing = "try"
        check_unknown(path, again=True)
        yield Check("try", True, "llama.cpp loads it, tokenises and decodes with it")
        doing = "adapter"
        yield from _adapters(named, header)
    except ModelError as error:
        yield Check(doing, True, error.message, failed=True)
        raise


def _adapters(named: NamedModel, header: GGUFHeader) -> Iterator[Check]:
    """The same of the adapters named with a model. Raises ModelError."""
    adapters = checked_adapters(named.adapters, header)
    for adapter in adapters:
        facts = adapter.facts
        count = len(adapter.header.tensors)
        yield Check("adapter", True, f"{adapter.path.name} fits: {facts.kind}, {count} tensors")
        yield Check("sha256", False, f"{adapter.sha256}; nobody vouches for this file")
    if adapters:
        check_adapters(named.path, header, adapters, again=True)
        yield Check("try", True, "llama.cpp decodes with all of it together")


def checksums(name: str, paths: list[Path], tell: Progress) -> Iterator[Check]:
    """Each file's sha256 against what is known of it. Raises ModelError at the first that is
    another."""
    for path in paths:
        size = path.stat().st_size
        sha256 = digest(path, lambda done: tell(f"Reading {path.name}", done, size))  # noqa: B023
        made, said = _compared(name, path, sha256)
        yield Check("sha256", made, said if len(paths) == 1 else f"{path.name} {said}")


def _compared(name: str, path: Path, sha256: str) -> tuple[bool, str]:
    """(whether there was something to compare with, what is to be said)."""
    if name in EMBEDDED:
        return False, f"{sha256}; it is part of urial-local, so there is nothing to compare with"
    listed, recorded = _known(path)
    if listed and listed[1] != sha256 and recorded == sha256:
        raise ModelError(
            f"{path} is what was pulled, but the registry's line {listed[0]} says another sha256:"
            f" {listed[1][:12]}… instead of {sha256[:12]}….",
            "Fetching it again would not help. If you trust its source, write the sha256"
            f" {sha256} into that line, or a line of your own into {user_registry()}.",
        )
    who = "the registry" if listed else "the record of its pull"
    known = listed[1] if listed else recorded
    if known is None:
        return False, f"{sha256}; nobody vouches for this file"
    if known != sha256:
        raise ModelError(
            f"{path} is not what {who} says: sha256 {sha256[:12]}… instead of {known[:12]}….",
            f"urial-local models rm {name}, then urial-local models pull {name}",
        )
    return True, f"{sha256}, as {who} says"


def _known(path: Path) -> tuple[tuple[str, str] | None, str | None]:
    """What is known of a file in the hub's cache: (name, sha256) of its line in the registry, and
    the sha256 that was recorded of its pull."""
    where = place(path)
    if where is None:
        return None, None
    repo, file = where
    if hub.cached_files(repo).get(file) != path:  # an older snapshot's: nobody said that of it
        return None, None
    lines = (e for e in registry().entries.values() if (e.repo, e.file) == where and e.sha256)
    entry = next(lines, None)
    record = pulled.records().get(f"{repo}/{file}", {}).get("sha256")
    return (entry.name, str(entry.sha256)) if entry else None, record
