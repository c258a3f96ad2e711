"""The header check on files that are cut, crafted or no models at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.tiny_gguf import write_llama
from urial_local.base.errors import ModelError, UrialError
from urial_local.base.gguf_header import read_header


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def kv(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


ARCH = kv("general.architecture", 8, string("llama"))
VOCAB = kv("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + string("a") + string("b"))


def tensor(
    name: str = "t", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0
) -> bytes:
    head = string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    return head + struct.pack("<IQ", kind, offset)


def build(entries: list[bytes], tensors: list[bytes], data: int = 128, version: int = 3) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries))
    body = head + b"".join(entries) + b"".join(tensors)
    return body + b"\0" * (-len(body) % 32) + b"\0" * data


def test_a_good_file(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(build([ARCH, VOCAB], [tensor()]))
    header = read_header(path)
    assert (header.version, header.architecture, len(header.tensors)) == (3, "llama", 1)
    assert header.tensors[0].size == 128


BIG = struct.pack("<Q", 2**63)
CRAFTED = {
    "empty": (b"", "not a GGUF"),
    "text": (b"Once upon a time", "not a GGUF"),
    "magic only": (b"GGUF", "ends"),
    "version 1": (build([ARCH, VOCAB], [tensor()], version=1), "version 1"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + b"\0" * 99, "version"),
    "huge key count": (b"GGUF" + struct.pack("<IQ", 3, 1) + BIG, "claims"),
    "huge tensor count": (b"GGUF" + struct.pack("<I", 3) + BIG + struct.pack("<Q", 1), "claims"),
    "huge key": (build([BIG + b"x"], []), "text of"),
    "huge string": (build([kv("k", 8, BIG)], []), "text of"),
    "key past the end": (build([struct.pack("<Q", 4000) + b"x"], [], 0), "ends"),
    "huge array": (build([kv("k", 9, struct.pack("<I", 4) + BIG)], []), "ends"),
    "huge array of strings": (build([kv("k", 9, struct.pack("<I", 8) + BIG)], []), "claims"),
    "array of arrays": (build([kv("k", 9, struct.pack("<IQ", 9, 1))], []), "unknown type"),
    "unknown value type": (build([kv("k", 99, b"")], []), "unknown type"),
    "unknown array type": (build([kv("k", 9, struct.pack("<IQ", 77, 1))], []), "unknown type"),
    "no architecture": (build([VOCAB], [tensor()]), "architecture"),
    "architecture a number": (
        build([kv("general.architecture", 4, b"\1\0\0\0"), VOCAB], [tensor()]),
        "architecture",
    ),
    "no vocabulary": (build([ARCH], [tensor()]), "no vocabulary"),
    "empty vocabulary": (
        build([ARCH, kv("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 0))], [tensor()]),
        "no vocabulary",
    ),
    "vocabulary only": (build([ARCH, VOCAB], []), "vocabulary only"),
    "no dimensions": (build([ARCH, VOCAB], [tensor(shape=())]), "dimensions"),
    "five dimensions": (build([ARCH, VOCAB], [tensor(shape=(1,) * 5)]), "dimensions"),
    "a zero dimension": (build([ARCH, VOCAB], [tensor(shape=(0,))]), "shape"),
    "overflowing shape": (build([ARCH, VOCAB], [tensor(shape=(2**32, 2**32))]), "should end"),
    "half a block": (build([ARCH, VOCAB], [tensor(shape=(33,), kind=8)]), "shape"),
    "F64": (build([ARCH, VOCAB], [tensor(kind=28)], 256), "F64"),
    "unknown tensor type": (build([ARCH, VOCAB], [tensor(kind=4)]), "type 4"),
    "far tensor type": (build([ARCH, VOCAB], [tensor(kind=2**31)]), "type"),
    "past the end": (build([ARCH, VOCAB], [tensor(shape=(64,))]), "should end"),
    "offset past the end": (build([ARCH, VOCAB], [tensor(offset=2**62)]), "should end"),
    "unaligned offset": (build([ARCH, VOCAB], [tensor(offset=8)]), "unaligned"),
    "alignment 0": (
        build([ARCH, VOCAB, kv("general.alignment", 4, b"\0" * 4)], [tensor()]),
        "power",
    ),
    "alignment 3": (
        build([ARCH, VOCAB, kv("general.alignment", 4, b"\3\0\0\0")], [tensor()]),
        "power",
    ),
    "alignment text": (
        build([ARCH, VOCAB, kv("general.alignment", 8, string("x"))], [tensor()]),
        "power",
    ),
    "long tensor name": (build([ARCH, VOCAB], [tensor("n" * 64)]), "name"),
    "empty tensor name": (build([ARCH, VOCAB], [tensor("")]), "name"),
    "same name twice": (build([ARCH, VOCAB], [tensor(), tensor()]), "same name"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_files(name, tmp_path):
    data, message = CRAFTED[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_header(path)


def test_cut_at_every_byte_of_its_header(tmp_path):
    whole = build([ARCH, VOCAB, kv("k", 9, struct.pack("<IQ", 4, 3) + b"\0" * 12)], [tensor()])
    path = tmp_path / "m.gguf"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelError):
            read_header(path)


def test_what_is_no_file(tmp_path):
    (tmp_path / "other.gguf").write_bytes(b"x")
    with pytest.raises(ModelError, match="no model file") as error:
        read_header(tmp_path / "m.gguf")
    assert "other.gguf" in error.value.hint
    with pytest.raises(ModelError, match="directory"):
        read_header(tmp_path)


def test_a_real_writer_agrees(tmp_path):
    header = read_header(write_llama(tmp_path / "m.gguf"))
    names = {t.name for t in header.tensors}
    assert "blk.1.ffn_down.weight" in names
    assert header.metadata["llama.block_count"] == 2


def test_a_good_header_over_nonsense_is_still_a_clear_error(tmp_path):
    # Well-formed, but no Llama: llama.cpp refuses it, and what it said is passed on.
    from urial_local.runtime.model import Model

    path: Path = tmp_path / "m.gguf"
    path.write_bytes(build([ARCH, VOCAB], [tensor()]))
    with pytest.raises(UrialError, match="cannot load"):
        Model(path)
