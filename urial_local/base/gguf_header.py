"""A bounded walk over a GGUF file's header, made before any library reads the file.

Files come from strangers, and the libraries below us hang, abort or read out of bounds on some
malformed ones. This walk trusts no length or count: each is held against the bytes that remain and
against a limit, so that no file takes a second or 200 MB of memory.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gguf.constants import GGML_QUANT_SIZES

from urial_local.base.errors import ModelError
from urial_local.base.no_model import HEAD, not_there, other_format, other_kind

MAX_HEADER = 1 << 25  # bytes: the largest real ones, with 200,000 tokens, have some 15 MB
MAX_ENTRIES = 1 << 14  # metadata keys, or tensors: the largest real files have some thousands
MAX_TEXTS = 1 << 21  # in all arrays together: the largest vocabularies, with merges, have a million
MAX_NAME = 64  # ggml's own limit for a tensor's name, with its closing zero
MAX_KEPT = 1 << 22  # bytes of the names, texts and numbers that are kept, all together
KEPT_TEXT = 1 << 20  # bytes of one text: chat templates have some kilobytes
KEPT_ITEMS = 1024  # numbers of one array
MAX_REST = 1 << 20  # bytes behind the last tensor: real files have none but padding
_NUMBERS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))  # GGUF types
_U32, _BOOL, _STRING, _ARRAY, _U64 = 4, 7, 8, 9, 10
_F64 = 28  # of ggml's own types, for tensors
_BLOCKS = {int(kind): sizes for kind, sizes in GGML_QUANT_SIZES.items()}  # elements, bytes
_DAMAGED = "It may be cut off or damaged: compare its sha256 to the source's or download it again."
_OTHER = "Look for another conversion of the model: little-endian GGUF, version 3, Q8_0 or F16."


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
    metadata: dict[str, Any]  # numbers and texts as they are; arrays as ArrayInfo
    tensors: tuple[TensorInfo, ...]
    data_start: int  # bytes from the start of the file
    file_size: int  # bytes

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", "?"))


class _Reader:
    """A cursor over the file that refuses to step outside it."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path = data, path
        self.at, self.texts, self.kept = 4, 0, 0  # behind the magic

    def require(self, ok: object, what: str, hint: str = _DAMAGED) -> None:
        if not ok:
            raise ModelError(
                f"{self.path} is not a usable GGUF file: {what} (byte {self.at:,}).", hint
            )

    def step(self, n: int, what: str, kept: int = 0) -> int:
        """Step over n bytes, of which so many will be kept in memory. Returns where they start."""
        start, end = self.at, len(self.data)
        if n > end - start:
            self.require(False, f"the file ends at byte {end:,}, in the middle of {what}")
        self.at, self.kept = start + n, self.kept + kept
        self.require(self.at <= MAX_HEADER, "its header is longer than that of any real model")
        self.require(self.kept <= MAX_KEPT, "its names and settings are too long")
        return start

    def numbers(self, kind: int, count: int = 1) -> tuple[Any, ...]:
        """Numbers of one type, or none in place of more than are kept."""
        code = f"<{count if count <= KEPT_ITEMS else 0}{_NUMBERS[kind]}"
        n = count * struct.calcsize("<" + _NUMBERS[kind])
        start = self.step(n, "its numbers", struct.calcsize(code))
        truth = kind != _BOOL or not self.data[start : self.at].strip(b"\0\1")
        self.require(truth, "a boolean that is neither 0 nor 1")
        return struct.unpack_from(code, self.data, start)

    def text(self) -> str:
        """A text, or an empty one in place of one that is too long to keep."""
        (n,) = self.numbers(_U64)
        kept = n if n <= KEPT_TEXT else 0
        start = self.step(n, f"a text of {n:,} bytes", kept)
        return self.data[start : start + kept].decode("utf-8", "replace")

    def skip_texts(self, count: int) -> None:
        self.texts += count
        self.require(self.texts <= MAX_TEXTS, f"it claims {self.texts:,} texts in arrays")
        at, end, length = self.at, len(self.data), struct.Struct("<Q").unpack_from
        for _ in range(count):  # millions of them: no call of `step` for each
            if (at := at + 8) > end:
                break
            at += length(self.data, at - 8)[0]
        self.step(at - self.at, "an array of texts")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind in _NUMBERS:
            return self.numbers(kind)[0]
        self.require(kind == _ARRAY, f"metadata of an unknown type ({kind})")
        (item,), (count,) = self.numbers(_U32), self.numbers(_U64)
        if item in _NUMBERS:
            return ArrayInfo(item, count, self.numbers(item, count))
        self.require(item == _STRING, f"an array of arrays, or of an unknown type ({item})")
        self.skip_texts(count)
        return ArrayInfo(item, count)

    def tensor(self) -> TensorInfo:
        name, (n_dims,) = self.text(), self.numbers(_U32)
        self.require(0 < len(name.encode()) < MAX_NAME, f"a tensor's name of {len(name)} letters")
        self.require(1 <= n_dims <= 4, f"tensor {name!r} has {n_dims} dimensions")
        shape = self.numbers(_U64, n_dims)
        (kind,), (offset,) = self.numbers(_U32), self.numbers(_U64)
        self.require(kind in _BLOCKS, f"tensor {name!r} is of the unknown type {kind}", _OTHER)
        self.require(kind != _F64, f"tensor {name!r} is F64, which llama.cpp cannot run", _OTHER)
        (block, block_bytes), elements = _BLOCKS[kind], prod(shape)  # which does not overflow
        possible = elements and shape[0] % block == 0
        self.require(possible, f"tensor {name!r} has the shape {shape}, impossible for its type")
        return TensorInfo(name, shape, kind, offset, elements // block * block_bytes)


def read_header(path: Path, whole: bool = True, adapter: bool = False) -> GGUFHeader:
    """Read and check the header of a GGUF model; not `whole`: of a further part of one. `adapter`:
    of a file that changes a model, which has no vocabulary (base.adapter_file says what it has).

    Raises ModelError when the file is missing, not GGUF, malformed, cut off, without tensors or
    vocabulary, or holds tensor types that llama.cpp does not run.
    """
    try:
        if path.exists() and not path.is_file():  # before opening: a pipe would wait for a writer
            raise ModelError(f"{path} is a directory, pipe or device.", "Name a .gguf file.")
        with path.open("rb") as file:
            head = file.read(HEAD)
            if head[:4] != b"GGUF":
                raise other_format(path, head)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _walk(_Reader(data, path), whole and not adapter, adapter)
    except FileNotFoundError:
        raise not_there(path) from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None


def _walk(r: _Reader, whole: bool, adapter: bool) -> GGUFHeader:
    (version,), (n_tensors, n_keys) = r.numbers(_U32), r.numbers(_U64, 2)
    r.require(version < 1 << 16, f"it is big-endian or damaged (version {version:#x})", _OTHER)
    r.require(version in (2, 3), f"version {version} of the format; 2 and 3 are read", _OTHER)
    claim = f"it claims {n_keys:,} metadata entries and {n_tensors:,} tensors"
    r.require(max(n_tensors, n_keys) <= MAX_ENTRIES, claim)
    metadata: dict[str, Any] = {}
    for _ in range(n_keys):
        key, (kind,) = r.text(), r.numbers(_U32)
        r.require(key not in metadata, f"the metadata key {key[:80]!r} appears twice")
        metadata[key] = r.value(kind)
    if not adapter and (other := other_kind(r.path, metadata)):
        raise other
    name, tokens = metadata.get("general.architecture"), metadata.get("tokenizer.ggml.tokens")
    named = isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isascii()
    r.require(not whole or (named and str(name).isprintable()), "it names no architecture")
    listed = isinstance(tokens, ArrayInfo) and tokens.type == _STRING and tokens.count
    r.require(listed or not whole, "it has no vocabulary")
    tensors = tuple(r.tensor() for _ in range(n_tensors))
    some = tensors or "split.count" in metadata  # whose first part may hold no weights
    r.require(some, "it holds a vocabulary only, no weights", "Name the file with the weights.")
    r.require(len({t.name for t in tensors}) == len(tensors), "two tensors have the same name")
    alignment = metadata.get("general.alignment", 32)
    power = type(alignment) is int and 0 < alignment <= MAX_HEADER and alignment.bit_count() == 1
    r.require(power, f"alignment {str(alignment)[:80]!r} is not a power of two, or far too large")
    start, size = -(-r.at // alignment) * alignment, len(r.data)
    ends = [start + t.offset + t.size for t in tensors]
    for t, end in zip(tensors, ends, strict=True):
        r.require(t.offset % alignment == 0, f"tensor {t.name!r} starts at an unaligned offset")
        r.require(end <= size, f"tensor {t.name!r} should end at byte {end:,} of only {size:,}")
    rest = size - max(ends, default=start)
    r.require(
        rest <= MAX_REST, f"{rest:,} bytes follow its last tensor, and nothing accounts for them"
    )
    return GGUFHeader(version, metadata, tensors, start, size)
