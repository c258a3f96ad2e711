"""Adapters' files that are damaged, made up, or for another model: refused by their headers, in
words, before llama.cpp sees them; and what only llama.cpp can see, in a child process."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import crafted_gguf as crafted
from tests.adapters import lora_metadata, lora_tensors, write, write_lora, write_vector
from tests.crafted_gguf import F32, STRING, build, kv, string, tensor
from tests.tiny_gguf import write_llama, write_windowed
from urial_local.base.adapter_file import check_fits, read_adapter
from urial_local.base.errors import ModelError, UrialError
from urial_local.base.gguf_header import read_header
from urial_local.runtime import probe
from urial_local.tasks.model_file import model_file

Q, DOWN, TABLE = "blk.0.attn_q.weight", "blk.1.ffn_down.weight", "token_embd.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_llama(tmp_path_factory.mktemp("base") / "base.gguf", seed=5)


def refused(path: Path, message: str, kind="lora", base: Path | None = None) -> UrialError:
    """By its header, in words that name the file, with what to do next."""

    def checked() -> None:
        _, facts = read_adapter(path, kind)
        if base:
            check_fits(path, facts, read_header(base))

    with pytest.raises(ModelError, match=message) as caught:
        checked()
    assert str(path) in caught.value.message
    assert caught.value.message.isprintable()
    assert caught.value.message.endswith(".")
    assert len(caught.value.message) < len(str(path)) + 400
    assert caught.value.hint
    return caught.value


# --- headers, byte by byte ------------------------------------------------------------------------


def entry(key: str, value: str | float) -> bytes:
    if isinstance(value, str):
        return kv(key, STRING, string(value))
    return kv(key, F32, struct.pack("<f", value))


def header(changes: dict[str, str | float | bytes | None] | None = None) -> list[bytes]:
    """The metadata of an adapter, with some entries changed, raw, or left out."""
    found = {**lora_metadata(), **(changes or {})}
    return [
        value if isinstance(value, bytes) else entry(key, value)
        for key, value in found.items()
        if value is not None
    ]


A, B = tensor(f"{Q}.lora_a", (64, 4)), tensor(f"{Q}.lora_b", (4, 64), offset=1024)


def made(changes=None, tensors=(A, B), data: int = 2048) -> bytes:
    return build(header(changes), list(tensors), data)


def pair(a: tuple[int, ...], b: tuple[int, ...], name: str = Q, kind: int = 0) -> bytes:
    tensors = tensor(f"{name}.lora_a", a, kind), tensor(f"{name}.lora_b", b, kind)
    return made(tensors=tensors, data=1 << 16)


ALPHA = "adapter.lora.alpha"
CRAFTED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a GGUF file"),
    "cut in its tensors": (made()[:-1500], "should end at byte"),
    "cut in its header": (made()[:100], "ends at byte"),
    "a model": (build(crafted.BOTH, [tensor()]), "not an adapter"),
    "of another type": (made({"general.type": "mmproj"}), "not an adapter"),
    "a type that is a number": (made({"general.type": 1.0}), "not an adapter"),
    "of no kind": (made({"adapter.type": None}), "adapter.type is 'None'"),
    "of another kind": (made({"adapter.type": "ia3"}), "adapter.type is 'ia3'"),
    "a kind that is a number": (made({"adapter.type": 1.0}), "adapter.type is"),
    "without an architecture": (made({"general.architecture": None}), "architecture"),
    "an empty architecture": (made({"general.architecture": ""}), "architecture"),
    "alpha is a text": (made({ALPHA: "8"}), "alpha is 8"),
    "alpha is a whole number": (
        made({ALPHA: kv(ALPHA, crafted.U32, crafted.u32(8))}),
        "alpha is 8",
    ),
    "alpha is not a number": (made({ALPHA: float("nan")}), "alpha is nan"),
    "alpha without end": (made({ALPHA: float("inf")}), "alpha is inf"),
    "an activated LoRA": (
        made({"x": crafted.array("adapter.alora.invocation_tokens", 4, 1, crafted.u32(7))}),
        "aLoRA",
    ),
    "no second half": (made(tensors=[A]), "lora_b' is missing"),
    "no first half": (made(tensors=[B]), "lora_a' is missing"),
    "nothing but norms": (made(tensors=[tensor("blk.0.attn_norm.weight")]), "changes no matrix"),
    "nothing": (made(tensors=[]), "no weights"),
    "a half twice": (made(tensors=[A, A, B]), "same name"),
    "a whole matrix": (made(tensors=[A, B, tensor("output.weight")]), "modules_to_save"),
    "a bias": (made(tensors=[A, B, tensor("blk.0.attn_q.bias")]), "modules_to_save"),
    "a suffix of another kind": (made(tensors=[tensor(f"{Q}.loraA")]), "modules_to_save"),
    "a name of the suffix twice": (
        made(tensors=[tensor("w.lora_a.lora_a"), tensor("w.lora_a.lora_b")]),
        "lora twice",
    ),
    "a rank of 0": (pair((64, 0), (0, 64)), "impossible for its type"),
    "no matrix": (pair((64,), (64,)), "not a matrix"),
    "ranks that differ": (pair((64, 4), (8, 64)), "do not fit together"),
    "a table the way of a matrix": (pair((416, 4), (4, 64), TABLE), "do not fit together"),
    "experts that differ": (pair((64, 4, 2), (4, 64, 3)), "do not fit together"),
    "whole numbers": (pair((64, 4), (4, 64), kind=26), "whole numbers"),
    "F64": (pair((64, 4), (4, 64), kind=28), "F64"),
    "an unknown type": (pair((64, 4), (4, 64), kind=99), "unknown type"),
    "a type without blocks of 4": (pair((64, 4), (4, 64), kind=8), "impossible for its type"),
    "larger than its file": (made(tensors=[A, tensor(f"{Q}.lora_b", (4, 1 << 40))]), "should end"),
    "more tensors than real": (crafted.start(1 << 20, 4) + bytes(99), "claims"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_adapters(name, tmp_path):
    data, message = CRAFTED[name]
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    refused(path, message)


def test_the_crafted_ones_are_all_but_good(tmp_path, base):
    path = tmp_path / "a.gguf"
    path.write_bytes(made())
    _, facts = read_adapter(path)
    check_fits(path, facts, read_header(base))
    assert (facts.alpha, facts.ranks, facts.modules) == (8, (4,), {"attn_q": 1})
    path.write_bytes(made({ALPHA: None}))
    assert read_adapter(path)[1].alpha == 0


OTHERS: dict[str, tuple[dict, str]] = {
    "a tensor that the base has not": ({"blk.2.attn_q.weight": ((64, 4), (4, 64))}, "no tensor"),
    "halves the wrong way round": ({Q: ((4, 64), (64, 4))}, r"shape \(4, 4\)"),
    "an input of another size": ({Q: ((32, 4), (4, 64))}, r"shape \(32, 64\).*\(64, 64\)"),
    "an output of another size": ({DOWN: ((128, 4), (4, 32))}, r"shape \(128, 32\)"),
    "another vocabulary": ({TABLE: ((4, 99), (4, 64))}, r"shape \(64, 99\)"),
    "experts of a model without": ({Q: ((64, 4, 2), (4, 64, 2))}, r"shape \(64, 64, 2\)"),
    "a norm": ({"output_norm.weight": ((64, 4), (4, 1))}, "is a vector"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_adapters_for_other_models(name, tmp_path, base):
    shapes, message = OTHERS[name]
    path = tmp_path / "a.gguf"
    ((changed, (a, b)),) = shapes.items()
    path.write_bytes(pair(a, b, changed))
    refused(path, message, base=base)


def test_another_architecture(tmp_path, base):
    path = write_lora(tmp_path / "a.gguf", base, architecture="qwen2")
    refused(path, "architecture 'qwen2', but the model's is llama", base=base)
    with pytest.raises(ModelError, match="qwen2"):
        model_file(f"{base}+{path}")


def test_tied_embeddings_cannot_be_changed(tmp_path):
    """llama.cpp would take the halves of the input's table for the output's, and abort."""
    model = write_windowed(tmp_path / "m.gguf")
    path = write_lora(tmp_path / "a.gguf", model, architecture="gemma3", names=(TABLE,))
    refused(path, "also uses for its output", base=model)


VECTORS: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "layer 0": ({"direction.0": np.ones(64, np.float32)}, "direction.N"),
    "no number": ({"direction.x": np.ones(64, np.float32)}, "direction.N"),
    "another name": ({"blk.1.weight": np.ones(64, np.float32)}, "direction.N"),
    "a matrix": ({"direction.1": np.ones((2, 64), np.float32)}, "not a vector in F32"),
    "in F16": ({"direction.1": np.ones(64, np.float16)}, "not a vector in F32"),
    "two widths": (
        {"direction.1": np.ones(64, np.float32), "direction.2": np.ones(32, np.float32)},
        "different widths",
    ),
    "of another width": ({"direction.1": np.ones(32, np.float32)}, "width 32, but the model's"),
    "of more layers": ({"direction.2": np.ones(64, np.float32)}, "layers are 0 to 1"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_crafted_control_vectors(name, tmp_path, base):
    tensors, message = VECTORS[name]
    path = write(tmp_path / "v.gguf", {"general.architecture": "controlvector"}, tensors)
    refused(path, message, "cvec", base)


def test_each_kind_by_its_name(tmp_path, base):
    lora = write_lora(tmp_path / "a.gguf", base)
    vector = write_vector(tmp_path / "v.gguf", {1: np.ones(64)}, hint="")
    assert f"cvec:{vector}" in refused(vector, "is a control vector").hint
    assert f"Write {lora} after the plus" in refused(lora, "is a LoRA adapter", "cvec").hint
    hinted = write_vector(tmp_path / "h.gguf", {1: np.ones(64)}, hint="qwen2")
    refused(hinted, "architecture 'qwen2'", "cvec", base)
    for path, how in ((lora, "MODEL+"), (vector, "MODEL+cvec:")):
        with pytest.raises(ModelError, match="is not a model but") as caught:
            model_file(str(path))
        assert f"{how}{path}" in caught.value.hint


def test_what_is_not_a_number_is_found_in_a_child(tmp_path, base, untried):
    tensors = lora_tensors(base, names=(Q,))
    tensors[f"{Q}.lora_b"][3, 1] = np.nan
    path = write(tmp_path / "a.gguf", lora_metadata(), tensors)
    with pytest.raises(ModelError, match=r"base.gguf \+ a computes what is not a number"):
        model_file(f"{base}+{path}")
    path = write_vector(tmp_path / "v.gguf", {1: np.full(64, np.inf)})
    with pytest.raises(ModelError, match="not finite"):
        model_file(f"{base}+cvec:{path}")


def test_an_adapter_is_tried_once_with_its_model(tmp_path, base, untried, monkeypatch):
    path = write_lora(tmp_path / "a.gguf", base)
    tried = []
    run = probe.subprocess.run

    def listed(command, **more):
        tried.append(command)
        return run(command, **more)

    monkeypatch.setattr(probe.subprocess, "run", listed)
    for _ in range(2):
        model_file(f"{base}+{path}@0.5")
    assert [f"{path}@0.5" in command for command in tried] == [False, True]
    model_file(str(base))
    assert len(tried) == 2
    write_lora(path, base, seed=9)
    model_file(f"{base}+{path}@0.5")
    assert len(tried) == 3, "another content is another adapter"


def test_an_adapter_that_breaks_llama_cpp_down_does_no_harm(tmp_path, base, untried, monkeypatch):
    """What its header does not show ends a child process, and is said here."""
    path = write_lora(tmp_path / "a.gguf", base)
    breaks = "import os, signal; os.kill(os.getpid(), signal.SIGABRT)"
    model_file(str(base))
    monkeypatch.setattr(probe.child, "command", lambda *args: [probe.sys.executable, "-c", breaks])
    with pytest.raises(ModelError, match=r"\(SIGABRT\) when it loads .*\+ a"):
        model_file(f"{base}+{path}")


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.integers(0, 10**6))
def test_a_changed_byte_is_refused_in_words_or_harmless(tmp_path_factory, at, value, cut):
    data = bytearray(made())
    data[at % len(data)] = value
    path = tmp_path_factory.mktemp("changed") / "a.gguf"
    path.write_bytes(data[: len(data) - (cut % len(data) if cut % 3 == 0 else 0)])
    said = "."
    try:
        read_adapter(path)
    except UrialError as error:
        said = error.message
    assert said.isprintable()
