"""Checks a model file before it is trusted: bytes, header, and a try in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from urial_local.base import gguf_facts, hub
from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import read_header
from urial_local.base.registry import find_model, parts, registry
from urial_local.runtime.probe import check_unknown
from urial_local.tasks.models import pulled
from urial_local.tasks.models.pull import digest


@dataclass(frozen=True, slots=True)
class Check:
    """One check that went well, or could not be made; one that fails raises ModelError."""

    name: str
    made: bool
    said: str


def verify(
    name: str, tell: Callable[[str, int, int], None] = lambda what, done, total: None
) -> Iterator[Check]:
    """sha256, header, try; in this order, each as it is made. Raises ModelError at the first that
    fails."""
    path = find_model(name).path
    yield _checksum(name, path, tell)
    header = read_header(path)
    size = gguf_facts.parameters(header)
    said = f"{header.architecture}, {size / 1e6:,.1f} M parameters, {len(header.tensors)} tensors"
    yield Check("header", True, said)
    check_unknown(path, again=True)
    yield Check("try", True, "llama.cpp loads it, tokenises and decodes with it")


def _checksum(name: str, path: Path, tell: Callable[[str, int, int], None]) -> Check:
    if not path.is_file():
        read_header(path)  # says what is wrong with it
    size = path.stat().st_size
    sha256 = digest(path, lambda done: tell(f"Reading {path.name}", done, size))
    known, who = _known(path)
    if known is None:
        return Check("sha256", False, f"{sha256}; nobody vouches for this file")
    if known != sha256:
        raise ModelError(
            f"{path} is not what {who} says: sha256 {sha256[:12]}… instead of {known[:12]}….",
            f"urial-local models rm {name}, then urial-local models pull {name}",
        )
    return Check("sha256", True, f"{sha256}, as {who} says")


def _known(path: Path) -> tuple[str | None, str]:
    """What is known of a file in the hub's cache, from the registry or from its pull."""
    for entry in registry().entries.values():
        if entry.sha256 and hub.cached_files(entry.repo).get(entry.file) == path:
            return entry.sha256, "the registry"
    for key, record in pulled.records().items():
        user, repo, file = key.split("/", 2)
        if hub.cached_files(f"{user}/{repo}").get(file) == path:
            return str(record["sha256"]), "the record of its pull"
    return None, ""


def all_parts(name: str) -> list[Path]:
    """The files that a name stands for, those of a model in parts, too. Raises ModelError."""
    first = find_model(name).path
    return [first.with_name(part) for part in parts(first.name)]
