"""Models named together with adapters: what a name means, and what commands make of it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.adapters import write_lora, write_vector
from tests.command import fails, urial
from tests.tiny_gguf import write_llama
from urial_local.base.errors import UsageError
from urial_local.base.model_names import parse_name


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("base") / "base.gguf", seed=5)


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def parsed(name: str) -> tuple:
        found = parse_name(name)
        return found.base, *((str(a.path), a.kind, a.scale) for a in found.adapters)

    assert parsed("mistral-7b") == ("mistral-7b",)
    assert parsed("demo+a.gguf") == ("demo", ("a.gguf", "lora", 1))
    assert parsed("m.gguf+a.gguf@0.5+cvec:d/v.gguf@-2") == (
        "m.gguf",
        ("a.gguf", "lora", 0.5),
        ("d/v.gguf", "cvec", -2),
    )
    assert parsed("hf:u/r:Q4_K_M+a.gguf@1e-2") == ("hf:u/r:Q4_K_M", ("a.gguf", "lora", 0.01))
    assert parsed("hf:u/r:f/m.gguf+a.gguf") == ("hf:u/r:f/m.gguf", ("a.gguf", "lora", 1))
    assert parsed("hf:u/r:a+b.gguf") == ("hf:u/r:a+b.gguf",)
    for name in ("a+b.gguf", "x@2.gguf", "c+d@3", "m.gguf"):
        (tmp_path / name).touch()
    assert parsed("a+b.gguf") == ("a+b.gguf",)
    assert parsed("a+b.gguf+a+b.gguf@0.5") == ("a+b.gguf", ("a+b.gguf", "lora", 0.5))
    assert parsed("m.gguf+m.gguf@2+cvec:m.gguf@3") == (
        "m.gguf",
        ("m.gguf", "lora", 2),
        ("m.gguf", "cvec", 3),
    )
    assert parsed("m.gguf+x@2.gguf") == ("m.gguf", ("x@2.gguf", "lora", 1))
    assert parsed("m.gguf+c+d@3") == ("m.gguf", ("c+d@3", "lora", 1))
    assert parsed("m.gguf+c+d@3@.25") == ("m.gguf", ("c+d@3", "lora", 0.25))
    assert parse_name("d/m.gguf+d/a.gguf@0.50+cvec:v.gguf").label == "m+a@0.5+v"
    assert parse_name("m.gguf+a.gguf@0.5+cvec:v.gguf").scaled(0.5) == (
        "m.gguf+a.gguf@0.25+cvec:v.gguf@0.5"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("demo+", "without a file"),
        ("demo+a.gguf+", "without a file"),
        ("demo+cvec:", "without a file"),
        ("demo+a.gguf@", "scale"),
        ("demo+a.gguf@x", "scale"),
        ("demo+a.gguf@nan", "scale"),
        ("demo+a.gguf@inf", "scale"),
        ("demo+a.gguf@1e9", "scale"),
        ("demo+a.gguf@101", "scale"),
        ("demo+a.gguf@٣", "scale"),
        ("demo" + "+a.gguf" * 17, "more than 16"),
    ],
)
def test_names_that_make_no_sense(name, message):
    with pytest.raises(UsageError, match=message) as caught:
        parse_name(name)
    assert caught.value.hint or "more than" in message


def test_what_is_for_one_file_only_says_so(tmp_path, base):
    adapter = write_lora(tmp_path / "a.gguf", base)
    for command in (("models", "rm", "-y"), ("models", "pull")):
        assert f"Name the model alone: {base}" in fails(2, *command, f"{base}+{adapter}")
    assert base.exists()
    paths = urial("models", "path", f"{base}+{adapter}@2").stdout.splitlines()
    assert paths == [str(base), str(adapter)]
    assert "There is no model file" in fails(1, "ask", "-m", f"{base}+{tmp_path}/no.gguf", "Hi")


def test_what_is_shown(tmp_path, base):
    adapter = write_lora(tmp_path / "a.gguf", base, rank=3, alpha=6.0)
    vector = write_vector(tmp_path / "v.gguf", {1: np.ones(64)})
    shown = urial("models", "show", adapter).stdout
    assert "LoRA" in shown
    assert "3, alpha 6" in shown
    assert "attn_q (2 tensors)" in shown
    done = urial("models", "show", f"{base}+{adapter}@0.5+cvec:{vector}")
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert "LoRA, scale 0.5" in shown
    assert "1, each of the width 64" in shown
    verified = urial("models", "verify", f"{base}+{adapter}").stdout
    assert "a.gguf fits: lora" in verified
