"""Models in several files (`…-00001-of-00003.gguf`): their headers as that of one model.

llama.cpp is given the first part and finds the others beside it by their names. Only the first part
has the settings and the vocabulary; any part may have weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from urial_local.base.errors import ModelError
from urial_local.base.gguf_header import GGUFHeader, read_header
from urial_local.base.no_model import not_there
from urial_local.base.registry import part_paths, parts


@dataclass(frozen=True, slots=True)
class SplitHeader(GGUFHeader):
    """The first part's header, but with the tensors and the size of all parts together."""

    parts: tuple[GGUFHeader, ...]  # each part's own


def read_model(path: Path) -> GGUFHeader:
    """Read and check a model's header, those of all its parts where it has several.

    Raises ModelError where one is missing or malformed, or is not the part that its name says.
    """
    names = parts(path.name)
    if path.name != names[0] and path.is_file():
        raise ModelError(
            f"{path} is part {names.index(path.name) + 1} of {len(names)} of a model.",
            f"Name the first part: {path.with_name(names[0])}",
        )
    first = read_header(path)
    count = first.metadata.get("split.count")
    if type(count) is not int or count < 2:
        return first
    if count != len(names):
        raise ModelError(
            f"{path} is one of {count} parts of a model, but its name does not say so.",
            f"llama.cpp finds the parts by their names: …-00001-of-{count:05}.gguf and so on.",
        )
    found = [first]
    for number, name in enumerate(names[1:], 1):
        if path.with_name(name).is_symlink() and not path.with_name(name).exists():
            raise not_there(path.with_name(name))
        if not path.with_name(name).exists():
            raise ModelError(
                f"Of the {count} parts of {path}, {name} is missing.",
                "All parts belong in one folder; `urial-local models pull` fetches all.",
            )
        part = read_header(path.with_name(name), whole=False)
        if part.metadata.get("split.no") != number:
            raise ModelError(f"{path.with_name(name)} is not the part that its name says.")
        found.append(part)
    tensors = tuple(tensor for part in found for tensor in part.tensors)
    if not tensors or len({tensor.name for tensor in tensors}) < len(tensors):
        raise ModelError(f"The parts of {path} do not belong together: their tensors are wrong.")
    size = sum(part.file_size for part in found)
    return SplitHeader(first.version, first.metadata, tensors, first.data_start, size, tuple(found))


def files(path: Path, header: GGUFHeader) -> list[tuple[Path, GGUFHeader]]:
    """Each file of a model with its own header."""
    if not isinstance(header, SplitHeader):
        return [(path, header)]
    return list(zip(part_paths(path), header.parts, strict=True))
