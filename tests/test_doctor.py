"""`models show`, `doctor` and `completion`: what is said of models and of the machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.test_cli import fails, urial
from urial_local.base import gguf_facts
from urial_local.base.gguf_header import read_header
from urial_local.base.registry import find_model
from urial_local.tasks.doctor import examine, machine

# --- models show ---------------------------------------------------------------------------------


def test_facts_agree_with_llama_cpp(tiny_llama, tiny_hybrid, tiny_mamba):
    """An independent reader of the same numbers: llama.cpp itself, with the weights loaded."""
    from urial_local.runtime.model import Model
    from urial_local.runtime.sequences import BatchToken, Sequences

    for path in (tiny_llama, tiny_hybrid, tiny_mamba, find_model("demo").path):
        header = read_header(path)
        with Model(path, gpu_layers=0) as model:
            assert gguf_facts.parameters(header) == model.n_params
            assert gguf_facts.context(header) == model.ctx_train
            assert gguf_facts.vocabulary(header)[0] == model.vocab.size
            assert len(gguf_facts.layer_sizes(header)) == model.n_layer
            if model.recurrent:
                continue
            # The state of n tokens: their keys and values, and some bytes of bookkeeping each.
            sequences = Sequences(model, cells=64, n_seq=2, batch=64, threads=1)
            sizes = []
            for n in (16, 48):
                sequences.clear(1)
                sequences.decode([BatchToken(5, i, 1, i == n - 1) for i in range(n)])
                sizes.append(len(sequences.save(1)))
            sequences.close()
            each = (sizes[1] - sizes[0]) / 32
            assert gguf_facts.kv_bytes_per_token(header) <= each
            assert each <= gguf_facts.kv_bytes_per_token(header) + 24
    assert gguf_facts.kv_bytes_per_token(read_header(tiny_mamba)) == 0


def test_known_cache_sizes():
    """Bytes a token, as llama.cpp's users know them: Llama-2-7B 512 KiB, Mistral-7B 128 KiB."""
    from urial_local.base.gguf_header import GGUFHeader

    def header(kv_heads: int) -> GGUFHeader:
        numbers = {"block_count": 32, "embedding_length": 4096, "attention.head_count": 32}
        meta = {f"llama.{name}": n for name, n in numbers.items()}
        meta |= {"llama.attention.head_count_kv": kv_heads, "general.architecture": "llama"}
        return GGUFHeader(3, meta, (), 0, 0)

    assert gguf_facts.kv_bytes_per_token(header(32)) == 512 << 10
    assert gguf_facts.kv_bytes_per_token(header(8)) == 128 << 10
    assert gguf_facts.kv_bytes_per_token(header(8), "q8_0") == (64 << 10) * 34 // 32
    assert gguf_facts.memory(header(32), 4096).cache == 2 << 30


def test_layers_that_fit():
    header = read_header(find_model("demo").path)
    sizes = gguf_facts.layer_sizes(header)
    needed = gguf_facts.memory(header, 2048)
    assert gguf_facts.fitting_layers(header, 2048, needed.total) == len(sizes) + 1
    assert gguf_facts.fitting_layers(header, 2048, 0) == 0
    two = needed.compute + sum(sizes[-2:]) + 2 * needed.cache // len(sizes) + 2
    assert gguf_facts.fitting_layers(header, 2048, two) == 2
    counts = [gguf_facts.fitting_layers(header, 2048, int(f * needed.total)) for f in
              np.linspace(0, 1.1, 40)]  # fmt: skip
    assert counts == sorted(counts)


def test_show(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found = json.loads(urial("models", "show", "demo", "--json").stdout)
    assert found["architecture"] == "llama"
    assert found["quantisation"] == "Q8_0"
    assert found["chat_template"] is False
    assert found["memory"]["total"] == sum(
        found["memory"][k] for k in ("weights", "cache", "compute")
    )
    prompts = {p["name"]: p for p in found["prompts"]}
    assert prompts["urial-demo"]["fits"]
    assert not prompts["urial-8"]["fits"]
    text = urial("models", "show", "demo", "-c", "1024", "--gpu-memory", "8").stdout
    assert "--gpu-layers all fits 8.0 GB" in text
    assert "for 1,024 tokens" in text
    assert "yes, so it is probably aligned" in urial("models", "show", "demo-aligned").stdout
    done = urial("models", "show", "mistral-7b")
    assert done.returncode == 1
    assert "TheBloke/Mistral-7B-v0.1-GGUF" in done.stdout
    assert "models pull mistral-7b" in done.stderr
    assert "no model file" in fails(1, "models", "show", str(tmp_path / "none.gguf"))


# --- doctor --------------------------------------------------------------------------------------


def test_doctor(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    done = urial("doctor", "--no-measure", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == []
    assert found["versions"]["llama-cpp-python"]
    assert found["llama.cpp"]["devices"][0]["name"] == "CPU"
    assert found["memory"]["total"] >= found["memory"]["available"] > 0
    assert found["models"]["listed"] >= 24
    assert found["rates"] is None
    text = urial("doctor", "--no-measure").stdout
    assert "Nothing is broken." in text
    assert max(map(len, text.splitlines())) < 400


def test_doctor_says_what_is_broken(tmp_path, monkeypatch):
    import os

    folder = Path(os.environ["URIAL_CONFIG_DIR"])
    (folder / "prompts").mkdir(parents=True)
    (folder / "models.txt").write_text("broken\n")
    (folder / "prompts" / "mine.toml").write_text("system = 3\n")
    done = urial("doctor", "--no-measure")
    assert done.returncode == 1
    assert "Broken: " in done.stdout
    assert "1 columns instead of 11" in done.stdout
    assert "mine.toml is malformed" in done.stdout


def test_the_measurement():
    from urial_local.tasks.doctor.measure import measure

    rates = measure(0.5)
    assert min(rates.prefill, rates.decode, rates.batch) > 0
    assert rates.seconds < 60


def test_advice_names_the_line_that_closes_the_gap():
    advise = examine.build_advice
    assert advise(["AVX2", "FMA"], ["AVX2", "FMA", "AVX"], [], [], "1.0") == []
    (one,) = advise(["AVX2", "AVX512"], ["AVX2"], ["CUDA"], [], "1.0")
    assert "AVX512" in one["why"]
    assert "CUDA" in one["why"]
    assert '"-DGGML_NATIVE=ON -DGGML_CUDA=on"' in one["command"]
    assert one["command"].endswith("llama-cpp-python==1.0")
    assert advise([], [], ["CUDA"], ["CUDA0"], "1.0") == []


def test_what_processors_say_of_themselves():
    x86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu ssse3 avx avx2 avx512f bmi2\n"
    assert machine.parse_cpuinfo(x86 + x86)[0] == "Some CPU"
    assert machine.features(machine.parse_cpuinfo(x86)[1]) == (
        *("SSSE3", "AVX", "AVX2", "BMI2", "AVX512"),
    )
    arm = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp i8mm sve\n"
    assert set(machine.features(machine.parse_cpuinfo(arm)[1])) == {
        *("NEON", "DOTPROD", "MATMUL_INT8", "SVE", "FP16_VA"),
    }
    assert machine.parse_cpuinfo("") == ("", set())


def test_what_fits():
    fits = examine.largest(16 << 30)
    assert fits == {"Q4_K_M": 13, "Q8_0": 7, "F16": 3}
    assert examine.largest(0) == {"Q4_K_M": 0, "Q8_0": 0, "F16": 0}


# --- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    script = urial("completion", shell).stdout
    assert "_URIAL_LOCAL_COMPLETE" in script


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ("urial-local ", "ch", ["chat"]),
        ("urial-local models ", "pu", ["pull"]),
        ("urial-local ask -m ", "mistral-7b-i", ["mistral-7b-instruct", "mistral-7b-instruct-q4"]),
        ("urial-local ask -p ", "urial-d", ["urial-demo"]),
        ("urial-local models show ", "llama-2-70b-", ["llama-2-70b-chat"]),
    ],
)
def test_completion_of_words(words, begun, expected, tmp_path):
    import os

    count = len(words.split())
    env = {"_URIAL_LOCAL_COMPLETE": "bash_complete", "COMP_WORDS": words + begun,
           "COMP_CWORD": str(count), "HF_HOME": str(tmp_path)}  # fmt: skip
    done = subprocess.run(
        [Path(sys.executable).with_name("urial-local")],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert [line.split(",", 1)[1] for line in done.stdout.splitlines()] == expected, done.stderr
