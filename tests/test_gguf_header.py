"""Files that are cut, crafted or no models at all: the header check, and the try in a child."""

from __future__ import annotations

import contextlib
import math
import os
import random
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crafted_gguf import (
    ARCH,
    BOOL,
    BOTH,
    HEAVY,
    SMALL,
    SPARSE,
    STRING,
    U32,
    U64,
    VOCAB,
    array,
    build,
    kv,
    minimal,
    string,
    tensor,
    u32,
    u64,
)
from tests.tiny_gguf import write_llama
from urial_local.base import gguf_header
from urial_local.base.errors import ModelError, UrialError
from urial_local.base.gguf_header import ArrayInfo, read_header
from urial_local.runtime import probe

pytestmark = pytest.mark.usefixtures("untried")


def refused(path: Path, message: str) -> None:
    """The file is refused in under a second and with under 200 MB, in words and with a hint."""
    began = time.process_time()
    with pytest.raises(ModelError, match=message) as error:
        read_header(path)
    assert time.process_time() - began < 1
    assert str(path) in error.value.message
    assert error.value.message.endswith(".")
    assert error.value.message.isprintable()
    assert len(error.value.message) < len(str(path)) + 400
    assert error.value.hint
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def test_a_good_file(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(build(BOTH, [tensor()]))
    header = read_header(path)
    assert (header.version, header.architecture, len(header.tensors)) == (3, "llama", 1)
    assert header.tensors[0].size == 128


@pytest.mark.parametrize("name", SMALL)
def test_crafted_files(name, tmp_path):
    data, message = SMALL[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    refused(path, message)


@pytest.mark.parametrize("name", SPARSE)
def test_crafted_files_of_gigabytes(name, tmp_path):
    data, size, message = SPARSE[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    os.truncate(path, size)
    refused(path, message)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_crafted_files_near_the_limits(name, tmp_path):
    make, message = HEAVY[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(make())
    refused(path, message)


def test_what_a_real_file_may_hold(tmp_path):
    """Nothing here is usual, and all of it is read."""
    path = tmp_path / "m.gguf"
    template = "{{ messages }}" * 70_000  # close to a megabyte
    entries = [
        *BOTH,
        kv("tokenizer.chat_template", STRING, string(template)),
        kv("tokenizer.huggingface.json", STRING, string("{" * (5 << 20))),
        kv("general.name", STRING, string(b"caf\xe9")),
        kv("general.alignment", U32, u32(64)),
        kv("split.count", 2, struct.pack("<H", 3)),
        kv("yes", BOOL, b"\1"),
        array("few", 5, 3, struct.pack("<3i", -1, 0, 1)),
        array("many", U64, 1025, bytes(8 * 1025)),
        array("none", STRING, 0),
        array("texts", STRING, 3, string("a") + string("") + string("b" * 300)),
    ]
    path.write_bytes(build(entries, [tensor(), tensor("u", offset=128)], 256, 2, align=64))
    header = read_header(path)
    assert header.metadata["tokenizer.chat_template"] == template
    assert header.metadata["tokenizer.huggingface.json"] == ""
    assert header.metadata["general.name"] == "caf�"
    assert header.metadata["yes"] is True
    assert header.metadata["few"] == ArrayInfo(5, 3, (-1, 0, 1))
    assert header.metadata["many"] == ArrayInfo(U64, 1025)
    assert header.metadata["texts"] == ArrayInfo(STRING, 3)
    assert header.data_start % 64 == 0
    path.write_bytes(build([*BOTH, kv("split.count", 2, struct.pack("<H", 3))], []))
    assert read_header(path).tensors == ()


def test_a_large_vocabulary_fits(tmp_path):
    """A quarter of a million tokens and twice as many merges, as the largest models have."""
    path = tmp_path / "m.gguf"
    n = 1 << 18
    entries = [
        ARCH,
        array("tokenizer.ggml.tokens", STRING, n, string("tokenize") * n),
        array("tokenizer.ggml.merges", STRING, 2 * n, string("token ize") * 2 * n),
        array("tokenizer.ggml.scores", 6, n, bytes(4 * n)),
        array("tokenizer.ggml.token_type", 5, n, bytes(4 * n)),
    ]
    path.write_bytes(build(entries, [tensor()]))
    assert read_header(path).data_start < gguf_header.MAX_HEADER


def test_bytes_behind_the_last_tensor(tmp_path):
    path = tmp_path / "m.gguf"
    good = build(BOTH, [tensor()])
    path.write_bytes(good + bytes(gguf_header.MAX_REST))
    read_header(path)
    path.write_bytes(good + bytes(gguf_header.MAX_REST + 1))
    refused(path, "follow its last tensor")


def test_cut_at_every_byte(tmp_path):
    path = minimal(tmp_path / "m.gguf")
    read_header(path)
    for end in reversed(range(path.stat().st_size)):
        os.truncate(path, end)
        with pytest.raises(ModelError):
            read_header(path)


def test_a_real_model_that_is_cut(tiny_llama, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny_llama.read_bytes())
    size = path.stat().st_size
    for end in range(size - 1, 0, -size // 300):
        os.truncate(path, end)
        with pytest.raises(ModelError):
            read_header(path)


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """A small good file's bytes, and a path for what is made of them."""
    path = minimal(tmp_path_factory.mktemp("header") / "m.gguf")
    return path.read_bytes(), path


def survives(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        read_header(path)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=8))
def test_flipped_bytes(victim, flips):
    data, path = bytearray(victim[0]), victim[1]
    for at, mask in flips:
        data[at % len(data)] ^= mask
    survives(path, bytes(data))


NUMBERS = st.sampled_from([0, 1, 8, 9, 10, 28, 2**31, 2**32 - 1, 2**61, 2**63, 2**64 - 1])


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    at=st.integers(0, 10_000),
    cut=st.integers(0, 40),
    put=st.lists(
        st.one_of(
            st.binary(max_size=8),
            NUMBERS.map(lambda n: u32(n & 0xFFFFFFFF)),
            NUMBERS.map(u64),
            st.sampled_from([ARCH, VOCAB, tensor(), array("k", STRING, 2)]),
        ),
        max_size=4,
    ).map(b"".join),
)
def test_spliced_bytes(victim, at, cut, put):
    data, path = victim
    at %= len(data)
    survives(path, data[:at] + put + data[at + cut :])


def test_what_is_no_file(tmp_path):
    (tmp_path / "other.gguf").write_bytes(b"x")
    with pytest.raises(ModelError, match="no model file") as error:
        read_header(tmp_path / "m.gguf")
    assert "other.gguf" in error.value.hint
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    refused(tmp_path, "directory")
    refused(tmp_path / "pipe.gguf", "pipe")  # and does not wait for its writer
    refused(Path("/dev/zero"), "device")
    refused(tmp_path / "loop.gguf", "cannot be read")
    refused(tmp_path / "other.gguf" / "m.gguf", "cannot be read")
    with pytest.raises(ModelError, match="cannot be read"):
        read_header(tmp_path / ("x" * 300))


def test_a_real_writer_agrees(tmp_path):
    header = read_header(write_llama(tmp_path / "m.gguf"))
    names = {t.name for t in header.tensors}
    assert "blk.1.ffn_down.weight" in names
    assert header.metadata["llama.block_count"] == 2


def test_a_good_header_over_nonsense_is_still_a_clear_error(tmp_path):
    # Well-formed, but no Llama: llama.cpp refuses it, and what it said is passed on.
    from urial_local.runtime.model import Model

    path: Path = tmp_path / "m.gguf"
    path.write_bytes(build(BOTH, [tensor()]))
    with pytest.raises(UrialError, match="cannot load"):
        Model(path)


# What passes the header check and breaks llama.cpp is tried in a child process.


def tried(path: Path) -> str:
    """What is said of a file, or an empty text where it is found good. The header is good."""
    read_header(path)
    try:
        probe.check_unknown(path)
    except ModelError as error:
        return error.message
    return ""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The bytes of a tiny model that runs."""
    path = tmp_path_factory.mktemp("probe") / "m.gguf"
    return write_llama(path, width=32, layers=1).read_bytes()


LIMITED = "crashes|cannot load"
ABSURD = {  # settings of four bytes: where, what, and what is said
    "no layers": ("llama.block_count", u32(0), "crashes"),
    "most layers": ("llama.block_count", u32(2**32 - 1), LIMITED),
    "no heads": ("llama.attention.head_count", u32(0), LIMITED),
    "three heads": ("llama.attention.head_count", u32(3), LIMITED),
    "no KV heads": ("llama.attention.head_count_kv", u32(0), LIMITED),
    "another width": ("llama.embedding_length", u32(33), LIMITED),
    "largest width": ("llama.embedding_length", u32(2**31), LIMITED),
    "no context": ("llama.context_length", u32(0), "context length"),
    "a context of -1": ("llama.context_length", u32(2**32 - 1), "context length"),
    "rotation of all": ("llama.rope.dimension_count", u32(2**31 - 1), LIMITED),
    "epsilon NaN": ("llama.attention.layer_norm_rms_epsilon", b"\0\0\xc0\x7f", LIMITED),
    "BOS of another world": ("tokenizer.ggml.bos_token_id", u32(2**31 - 1), ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ABSURD)
def test_absurd_settings(name, model, tmp_path):
    key, value, message = ABSURD[name]
    at = model.index(string(key)) + len(string(key)) + 4
    path = tmp_path / "m.gguf"
    path.write_bytes(model[:at] + value + model[at + 4 :])
    said = tried(path)
    if message:
        assert any(part in said for part in message.split("|")), said
    else:
        assert not said


VOCABULARIES = {  # what becomes of what the writer was to write
    "types that are too few": ("add_token_types", lambda types: types[:1]),
    "types that are unknown": ("add_token_types", lambda types: [99] * len(types)),
    "scores that are too few": ("add_token_scores", lambda scores: scores[:1]),
    "scores NaN": ("add_token_scores", lambda scores: [math.nan] * len(scores)),
    "tokens that are empty": ("add_token_list", lambda tokens: [b""] * len(tokens)),
    "tokens that are no text": ("add_token_list", lambda tokens: [b"\xff"] * len(tokens)),
    "a single token": ("add_token_list", lambda tokens: tokens[:1]),
    "an unknown vocabulary": ("add_tokenizer_model", lambda model: "nonsense"),
    "another vocabulary": ("add_tokenizer_model", lambda model: "bert"),
    "no merges": ("add_tokenizer_model", lambda model: "gpt2"),
    "absurd merges": ("add_token_merges", lambda merges: [" ", "", "a", "a b c", "x" * 99_999]),
    "an unknown pre-tokeniser": ("add_tokenizer_pre", lambda pre: "nonsense"),
    "heads as a list": ("add_head_count", lambda heads: [heads] * 5000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VOCABULARIES)
def test_absurd_vocabularies(name, tmp_path, monkeypatch):
    method, change = VOCABULARIES[name]
    original = getattr(gguf.GGUFWriter, method)
    monkeypatch.setattr(gguf.GGUFWriter, method, lambda self, what: original(self, change(what)))
    bpe = "default" if method == "add_token_merges" else ""
    path = write_llama(tmp_path / "m.gguf", width=32, layers=1, bpe=bpe)
    said = tried(path)
    assert not said or "cannot load" in said or "crashes" in said


@pytest.mark.slow
def test_random_damage_to_the_metadata(model, tmp_path):
    """Whatever the damage, this process goes on: llama.cpp reads only what passed, in a child."""
    rng = random.Random(5)
    path = tmp_path / "m.gguf"
    path.write_bytes(model)
    assert not tried(path)
    # The settings and the tensors' table; the tokens between them are most of the header.
    end = read_header(path).data_start
    tokens = range(model.index(b"tokenizer.ggml.tokens") + 40, model.index(b"bos_token_id") - 40)
    places = [at for at in range(24, end) if at not in tokens]
    children = 0
    while children < 15:
        data = bytearray(model)
        for _ in range(rng.randint(1, 3)):
            data[rng.choice(places)] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            read_header(path)
        except ModelError:
            continue
        children += 1
        tried(path)


def test_a_child_that_hangs_is_ended(model, tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    path.write_bytes(model)
    monkeypatch.setattr(probe, "TIME_LIMIT", 0.01)
    assert "did not finish loading" in tried(path)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit holds on Linux only")
def test_a_child_has_a_limit_of_memory(model, tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    path.write_bytes(model)
    monkeypatch.setattr(probe, "MEMORY", 1 << 20)
    assert tried(path)
    ask = "from urial_local.base import child; child.limit_memory(1 << 30); bytearray(2 << 30)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert "MemoryError" in done.stderr
    # A model's file is mapped: it does not count.
    os.truncate(path, 4 << 30)
    see = (
        "import mmap, sys; from urial_local.base import child; child.limit_memory(1 << 30);"
        "f = open(sys.argv[1], 'rb'); mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)"
    )
    assert subprocess.run([sys.executable, "-c", see, path]).returncode == 0


def test_modules_beside_a_model_are_not_run(model, tmp_path, monkeypatch):
    """A folder of downloads may hold anything; the child must not take it for Python's own."""
    path = tmp_path / "m.gguf"
    path.write_bytes(model)
    for name in ("json", "numpy", "urial_local", "re"):
        (tmp_path / f"{name}.py").write_text("open('run', 'w').close()")
    monkeypatch.chdir(tmp_path)
    assert not tried(path)
    assert not (tmp_path / "run").exists()
