"""A bounded walk over a GGUF file's header, made before any library reads the file.

Files come from strangers, and the libraries below us hang, abort or read out of bounds on some
malformed ones. This walk trusts no length or count: each is held against the bytes that remain.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urial_local.base.errors import ModelError

MAX_ENTRIES = 1 << 17  # metadata keys, or tensors: the largest real files have some thousands
MAX_STRING = 1 << 24  # a chat template is some kilobytes; a merged tokenizer blob some megabytes
MAX_ARRAY = 1 << 26  # strings in one array: the largest vocabularies have a million
KEPT_ITEMS = 1024  # numbers of one array that are kept
MAX_NAME = 64  # ggml's own limit for a tensor's name, with its closing zero

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS[12] = "d"
_STRING, _ARRAY = 8, 9
_F64 = 28


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """An array in the metadata: its items' type number and their count. Only short arrays of
    numbers, such as one number a layer, keep their items."""

    type: int
    count: int
    items: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorInfo:
    name: str
    shape: tuple[int, ...]  # fastest dimension first, as ggml counts
    type: int  # ggml type number
    offset: int  # bytes, from the start of the data section
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    version: int
    metadata: dict[str, Any]  # scalars and strings as they are; arrays as ArrayInfo
    tensors: tuple[TensorInfo, ...]
    data_start: int  # bytes from the start of the file
    file_size: int  # bytes

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", "?"))


class _Reader:
    """A cursor over the file that refuses to step outside it."""

    def __init__(self, data: mmap.mmap, size: int, path: Path) -> None:
        self.data, self.size, self.path, self.at = data, size, path, 0

    def fail(self, what: str) -> ModelError:
        return ModelError(
            f"{self.path} is not a usable GGUF file: {what} (at byte {self.at:,}).",
            "It may be cut off or damaged: compare its size and sha256 with the source and"
            " download it again.",
        )

    def need(self, n: int) -> int:
        start = self.at
        if n < 0 or n > self.size - start:
            raise self.fail(f"the file ends at byte {self.size:,}, in the middle of its header")
        self.at = start + n
        return start

    def scalar(self, code: str) -> Any:
        start = self.need(struct.calcsize("<" + code))
        return struct.unpack_from("<" + code, self.data, start)[0]

    def string(self) -> str:
        n = self.scalar("Q")
        if n > MAX_STRING:
            raise self.fail(f"a text of {n:,} bytes in the header")
        start = self.need(n)
        return self.data[start : start + n].decode("utf-8", "replace")

    def skip_string(self) -> None:
        n = self.scalar("Q")
        if n > MAX_STRING:
            raise self.fail(f"a text of {n:,} bytes in the header")
        self.need(n)

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise self.fail(f"metadata of an unknown type ({kind})")
        item, count = self.scalar("I"), self.scalar("Q")
        items: tuple[Any, ...] = ()
        if item in _SCALARS:
            start = self.need(count * struct.calcsize("<" + _SCALARS[item]))
            if count <= KEPT_ITEMS:
                items = struct.unpack_from(f"<{count}{_SCALARS[item]}", self.data, start)
        elif item == _STRING:
            # Eight bytes of length are the least that each text takes, so the count is bounded.
            if count > min(MAX_ARRAY, (self.size - self.at) // 8):
                raise self.fail(f"an array that claims {count:,} texts")
            for _ in range(count):
                self.skip_string()
        else:
            raise self.fail(f"an array of an unknown type ({item})")
        return ArrayInfo(item, count, items)


def read_header(path: Path) -> GGUFHeader:
    """Read and check the header of a GGUF model.

    Raises ModelError when the file is missing, not GGUF, malformed, cut off, without tensors or
    vocabulary, or holds tensor types that llama.cpp does not run.
    """
    if path.is_dir():
        raise ModelError(f"{path} is a directory, not a GGUF file.", "Name a .gguf file inside it.")
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if head[:4] != b"GGUF":
                raise ModelError(
                    f"{path} is not a GGUF file: it starts with {head[:4]!r} instead of b'GGUF'.",
                    "Name a model in GGUF format; llama.cpp's convert_hf_to_gguf.py makes one from"
                    " Hugging Face weights.",
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _walk(_Reader(data, len(data), path))
    except FileNotFoundError:
        raise ModelError(f"There is no model file {path}.", _missing_hint(path)) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from None


def _missing_hint(path: Path) -> str:
    there = sorted(p.name for p in path.parent.glob("*.gguf"))[:5] if path.parent.is_dir() else []
    return f"In {path.parent} there is {', '.join(there)}." if there else "Check the path."


def _walk(r: _Reader) -> GGUFHeader:
    r.need(4)
    version = r.scalar("I")
    if version not in (2, 3):
        raise r.fail(f"version {version} of the format; 2 and 3 are read")
    n_tensors, n_entries = r.scalar("Q"), r.scalar("Q")
    if n_entries > MAX_ENTRIES or n_tensors > MAX_ENTRIES:
        raise r.fail(f"it claims {n_entries:,} metadata entries and {n_tensors:,} tensors")
    metadata: dict[str, Any] = {}
    for _ in range(n_entries):
        key = r.string()
        metadata[key] = r.value(r.scalar("I"))
    tensors = [_tensor(r) for _ in range(n_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise r.fail(f"alignment {alignment!r} is not a power of two")
    data_start = -(-r.at // alignment) * alignment
    _check(r, metadata, tensors, data_start, alignment)
    return GGUFHeader(version, metadata, tuple(tensors), data_start, r.size)


def _tensor(r: _Reader) -> TensorInfo:
    name = r.string()
    if not name or len(name.encode()) >= MAX_NAME:
        raise r.fail(f"a tensor's name of {len(name)} characters")
    n_dims = r.scalar("I")
    if not 1 <= n_dims <= 4:
        raise r.fail(f"tensor {name!r} has {n_dims} dimensions")
    shape = tuple(r.scalar("Q") for _ in range(n_dims))
    kind, offset = r.scalar("I"), r.scalar("Q")
    block, block_bytes = _block(r, name, kind)
    elements = 1
    for n in shape:  # Python's integers do not overflow, so neither does this product
        elements *= n
    if elements == 0 or shape[0] % block:
        raise r.fail(f"tensor {name!r} has the shape {shape}, which its type cannot have")
    return TensorInfo(name, shape, kind, offset, elements // block * block_bytes)


def _block(r: _Reader, name: str, kind: int) -> tuple[int, int]:
    """Elements and bytes of one block of a ggml type."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        known = GGMLQuantizationType(kind)
        block, size = GGML_QUANT_SIZES[known]
    except (ValueError, KeyError):
        raise r.fail(f"tensor {name!r} is of type {kind}, which is not known here") from None
    if kind == _F64:
        raise r.fail(f"tensor {name!r} is of type F64, which llama.cpp cannot run")
    return int(block), int(size)


def _check(
    r: _Reader, metadata: dict[str, Any], tensors: list[TensorInfo], start: int, alignment: int
) -> None:
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise r.fail("it names no architecture")
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(vocabulary, ArrayInfo) or vocabulary.count == 0:
        raise r.fail("it has no vocabulary")
    if not tensors:
        raise ModelError(
            f"{r.path} holds a vocabulary only, no weights.", "Name the file with the weights."
        )
    if len({t.name for t in tensors}) != len(tensors):
        raise r.fail("two tensors have the same name")
    for t in tensors:
        if t.offset % alignment:
            raise r.fail(f"tensor {t.name!r} starts at an unaligned offset")
        if start + t.offset + t.size > r.size:
            raise r.fail(
                f"tensor {t.name!r} should end at byte {start + t.offset + t.size:,},"
                f" but the file has only {r.size:,}"
            )
