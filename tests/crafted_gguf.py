"""Malformed GGUF headers, built byte by byte, with a part of what is to be said of each."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

U8, U32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 6, 7, 8, 9, 10
Q8_0, F64 = 8, 28
GIB = 1 << 30


def u32(n: int) -> bytes:
    return struct.pack("<I", n)


def u64(n: int) -> bytes:
    return struct.pack("<Q", n)


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return u64(len(data)) + data


def kv(key: str | bytes, kind: int, value: bytes) -> bytes:
    return string(key) + u32(kind) + value


def array(key: str, kind: int, count: int, items: bytes = b"") -> bytes:
    return kv(key, ARRAY, u32(kind) + u64(count) + items)


def tensor(
    name: str = "t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0
) -> bytes:
    return string(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)


def start(tensors: int, entries: int, version: int = 3) -> bytes:
    return b"GGUF" + u32(version) + u64(tensors) + u64(entries)


def build(
    entries: list[bytes], tensors: list[bytes], data: int = 128, version: int = 3, align: int = 32
) -> bytes:
    body = start(len(tensors), len(entries), version) + b"".join(entries) + b"".join(tensors)
    return body + bytes(-len(body) % align) + bytes(data)


def minimal(path: Path) -> Path:
    """The smallest model that the usual writer makes; its last tensor reaches to the end."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([b"a", b"b"])
    writer.add_bool("yes", True)
    writer.add_array("numbers", [1, 2, 3])
    writer.add_string("tokenizer.chat_template", "{{ messages }}")
    writer.add_tensor("one", np.ones(32, np.float32))
    writer.add_tensor("two", np.ones((2, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


ARCH = kv("general.architecture", STRING, string("llama"))
VOCAB = array("tokenizer.ggml.tokens", STRING, 2, string("a") + string("b"))
BOTH = [ARCH, VOCAB]


def arch(value: str | bytes) -> bytes:
    return build([kv("general.architecture", STRING, string(value)), VOCAB], [tensor()])


def alignment(kind: int, value: bytes) -> bytes:
    return build([*BOTH, kv("general.alignment", kind, value)], [tensor()])


def with_entry(entry: bytes) -> bytes:
    return build([*BOTH, entry], [tensor()])


def with_tensor(**changes: object) -> bytes:
    return build(BOTH, [tensor(**changes)])  # type: ignore[arg-type]


BIG = u64(2**63)
SMALL: dict[str, tuple[bytes, str]] = {
    # The first bytes
    "empty": (b"", "not a GGUF file: it is empty"),
    "text": (b"Once upon a time", "not a GGUF"),
    "half a magic": (b"GG", "not a GGUF"),
    "magic in small letters": (b"gguf" + bytes(99), "not a GGUF"),
    "magic only": (b"GGUF", "ends"),
    "no counts": (b"GGUF" + u32(3), "ends"),
    "version 0": (build(BOTH, [tensor()], version=0), "version 0"),
    "version 1": (build(BOTH, [tensor()], version=1), "version 1"),
    "version 4": (build(BOTH, [tensor()], version=4), "version 4"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + bytes(99), "big-endian .*version"),
    # Counts and lengths
    "huge key count": (b"GGUF" + u32(3) + u64(1) + BIG, "claims"),
    "huge tensor count": (b"GGUF" + u32(3) + BIG + u64(1), "claims"),
    "many keys": (start(1, 1 << 17) + bytes(99), "claims 131,072 metadata entries"),
    "one key too many": (build(BOTH, [tensor()]).replace(u64(2), u64(3), 1), "name"),
    "huge key": (build([BIG + b"x"], []), "text of"),
    "largest key": (build([u64(2**64 - 1) + b"x"], []), "text of"),
    "huge string": (build([kv("k", STRING, BIG)], []), "text of"),
    "key past the end": (build([u64(4000) + b"x"], [], 0), "ends"),
    "a length cut in two": (start(0, 1) + b"\1\0\0\0", "ends"),
    "huge array": (build([array("k", U32, 2**63)], []), "ends"),
    "array of 2**64 bytes": (build([array("k", U64, 2**61)], []), "ends"),
    "array of most bytes": (build([array("k", U8, 2**64 - 1)], []), "ends"),
    "huge array of strings": (build([array("k", STRING, 2**63)], []), "claims"),
    "array of strings past the end": (build([array("k", STRING, 1000)], [], 0), "ends"),
    "array with a huge string": (build([array("k", STRING, 2, BIG)], []), "ends"),
    "array with the largest string": (build([array("k", STRING, 2, u64(2**64 - 1))], []), "ends"),
    # Types and values
    "array of arrays": (build([array("k", ARRAY, 1, u32(U32) + u64(0))], []), "arrays"),
    "unknown value type": (build([kv("k", 99, b"")], []), "unknown type"),
    "unknown array type": (build([array("k", 77, 1)], []), "unknown type"),
    "an empty array of an unknown type": (build([array("k", 13, 0)], []), "unknown type"),
    "a yes or no of 2": (with_entry(kv("k", BOOL, b"\2")), "neither 0 nor 1"),
    "yeses and noes of 255": (with_entry(array("k", BOOL, 3, b"\0\1\xff")), "neither 0 nor 1"),
    "many yeses and a 2": (with_entry(array("k", BOOL, 5000, b"\1" * 4999 + b"\2")), "neither"),
    "a key twice": (with_entry(ARCH), "'general.architecture' appears twice"),
    "no key twice": (build([*BOTH, *[kv("", U8, b"\1")] * 2], [tensor()]), "twice"),
    "no architecture": (build([VOCAB], [tensor()]), "architecture"),
    "architecture a number": (
        build([kv("general.architecture", U32, u32(1)), VOCAB], [tensor()]),
        "architecture",
    ),
    "architecture an array": (
        build([array("general.architecture", U8, 1, b"a"), VOCAB], [tensor()]),
        "architecture",
    ),
    "architecture empty": (arch(""), "architecture"),
    "architecture long": (arch("a" * 65), "architecture"),
    "architecture of megabytes": (arch("a" * (2 << 20)), "architecture"),
    "architecture that drives a terminal": (arch("\x1b]0;x\x07"), "architecture"),
    "architecture no UTF-8": (arch(b"llama\xff"), "architecture"),
    "no vocabulary": (build([ARCH], [tensor()]), "no vocabulary"),
    "empty vocabulary": (
        build([ARCH, array("tokenizer.ggml.tokens", STRING, 0)], [tensor()]),
        "no vocabulary",
    ),
    "vocabulary of numbers": (
        build([ARCH, array("tokenizer.ggml.tokens", U32, 2, bytes(8))], [tensor()]),
        "no vocabulary",
    ),
    "vocabulary a text": (
        build([ARCH, kv("tokenizer.ggml.tokens", STRING, string("a b"))], [tensor()]),
        "no vocabulary",
    ),
    "vocabulary only": (build(BOTH, []), "vocabulary only"),
    # Alignment
    "alignment 0": (alignment(U32, u32(0)), "power"),
    "alignment 3": (alignment(U32, u32(3)), "power"),
    "alignment -32": (alignment(5, struct.pack("<i", -32)), "power"),
    "alignment 2**31": (alignment(U32, u32(2**31)), "power of two, or far too large"),
    "alignment 2**63": (alignment(U64, u64(2**63)), "power of two, or far too large"),
    "alignment 32.0": (alignment(F32, struct.pack("<f", 32)), "power"),
    "alignment yes": (alignment(BOOL, b"\1"), "power"),
    "alignment text": (alignment(STRING, string("x")), "power"),
    "alignment numbers": (
        with_entry(array("general.alignment", U32, 1, u32(32))),
        "power",
    ),
    "unaligned offset": (with_tensor(offset=8), "unaligned"),
    "offset of another alignment": (
        build([*BOTH, kv("general.alignment", U32, u32(64))], [tensor(offset=32)], 256, align=64),
        "unaligned",
    ),
    # Tensors
    "no dimensions": (with_tensor(shape=()), "dimensions"),
    "five dimensions": (with_tensor(shape=(1,) * 5), "dimensions"),
    "most dimensions": (
        build(BOTH, [string("t") + u32(2**32 - 1)]),
        "4,?294,?967,?295 dimensions",
    ),
    "a zero dimension": (with_tensor(shape=(0,)), "shape"),
    "zero times the largest": (with_tensor(shape=(2**64 - 1, 0)), "shape"),
    "overflowing shape": (with_tensor(shape=(2**32, 2**32)), "should end"),
    "shape that overflows to 32": (with_tensor(shape=(32, 2**62, 4, 1)), "should end"),
    "largest shape": (with_tensor(shape=(2**64 - 1,) * 4), "should end"),
    "half a block": (with_tensor(shape=(33,), kind=Q8_0), "shape"),
    "F64": (build(BOTH, [tensor(kind=F64)], 256), "F64"),
    "unknown tensor type": (with_tensor(kind=4), "type 4"),
    "far tensor type": (with_tensor(kind=2**31), "type"),
    "past the end": (with_tensor(shape=(64,)), "should end"),
    "offset past the end": (with_tensor(offset=2**62), "should end"),
    "offset that overflows": (with_tensor(offset=2**64 - 32), "should end"),
    "data before the alignment": (
        build([*BOTH, kv("general.alignment", U32, u32(4096))], [tensor()]),
        "should end",
    ),
    "long tensor name": (with_tensor(name="n" * 64), "name"),
    "tensor name of megabytes": (with_tensor(name="n" * (2 << 20)), "name"),
    "empty tensor name": (with_tensor(name=""), "name"),
    "same name twice": (build(BOTH, [tensor(), tensor()]), "same name"),
}

# The bytes that follow up to a size of gigabytes are all zero, and take no room on the disk.
SPARSE: dict[str, tuple[bytes, int, str]] = {
    "nothing but zeros": (b"", 5 * GIB, "not a GGUF"),
    "no version": (b"GGUF", 5 * GIB, "version 0"),
    "keys without names": (start(1, 1 << 14), 5 * GIB, "twice"),
    "tensors without names": (
        build(BOTH, [b""] * 9000, 0, align=1),
        5 * GIB,
        "a tensor's name of 0",
    ),
    "67 million texts": (start(1, 1) + array("k", STRING, 1 << 26), 5 * GIB, "claims"),
    "600 million texts": (start(1, 1) + array("k", STRING, 5 * GIB // 8), 5 * GIB, "claims"),
    "arrays that are many together": (
        start(1, 2) + array("k", STRING, 1000, bytes(8000)) + array("l", STRING, 1 << 21),
        5 * GIB,
        "claims",
    ),
    "a text of gigabytes": (start(1, 1) + kv("k", STRING, u64(4 * GIB)), 5 * GIB, "longer than"),
    "a key of gigabytes": (start(1, 1) + u64(4 * GIB), 5 * GIB, "longer than"),
    "an item of gigabytes": (start(1, 1) + array("k", STRING, 1, u64(GIB)), 5 * GIB, "longer than"),
    "an array of gigabytes": (start(1, 1) + array("k", U8, 4 * GIB), 5 * GIB, "longer than"),
    "noes of gigabytes": (start(1, 1) + array("k", BOOL, 4 * GIB), 5 * GIB, "longer than"),
    "a tensor of terabytes": (
        build(BOTH, [tensor(shape=(1 << 20, 1 << 20, 1 << 10))]),
        900 * GIB,
        "should end",
    ),
    "data that start late": (alignment(U32, u32(1 << 30)), 5 * GIB, "far too large"),
}


def _texts(i: int, count: int) -> bytes:
    return array(f"k{i}", STRING, count, bytes(8 * count))


_MANY = 1 << 14
# Built when they are needed: megabytes that come close to every limit, and end in an error.
HEAVY: dict[str, tuple[Callable[[], bytes], str]] = {
    "many long texts": (
        lambda: build([kv(f"k{i}", STRING, string("x" * 1000)) for i in range(_MANY)], []),
        "too long",
    ),
    "many long keys": (
        lambda: build([kv(f"{i:01000}", U8, b"\0") for i in range(_MANY)], []),
        "too long",
    ),
    "wide characters": (
        lambda: build([kv(f"k{i}", STRING, string("\U0001f600" * 250_000)) for i in range(5)], []),
        "too long",
    ),
    "bytes that are no text": (
        lambda: build([kv(f"k{i}", STRING, string(b"\xff" * 1_000_000)) for i in range(5)], []),
        "too long",
    ),
    "many short arrays of numbers": (
        lambda: build(
            [array(f"k{i}", 2, 1024, bytes(range(128)) * 16) for i in range(_MANY // 4)], []
        ),
        "too long",
    ),
    "as many tensors as there may be": (
        lambda: build(
            [*BOTH, *(_texts(i, 120) for i in range(_MANY - 2))],
            [tensor(f"{i}", (1, 1, 1, 32)) for i in range(_MANY - 1)] + [tensor("x", (2**40,))],
        ),
        "should end",
    ),
    "yeses and a no of 2": (
        lambda: with_entry(array("k", BOOL, 30 << 20, b"\1" * (15 << 20) + b"\2" * (15 << 20))),
        "neither",
    ),
}
