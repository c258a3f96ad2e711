"""`models show`, `doctor` and `completion`: what is said of models and of the machine."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.command import fails, process, urial
from urial_local.base import gguf_facts
from urial_local.base.errors import UrialError
from urial_local.base.gguf_header import read_header
from urial_local.base.registry import find_model
from urial_local.runtime import llama_api
from urial_local.runtime.model import Model
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


@pytest.mark.parametrize(
    ("arch", "numbers", "expected", "at_most"),
    [
        # Gemma 3n E2B: the last 15 of 35 layers use the caches of earlier ones.
        ("gemma3n", {"block_count": 35, "head_count_kv": 2, "shared_kv_layers": 15}, 20, False),
        # Qwen3-Next: every fourth layer has attention.
        ("qwen3next", {"block_count": 48, "head_count_kv": 2, "full_attention_interval": 4}, 12,
         False),
        ("gemma3", {"block_count": 48, "head_count_kv": 8, "sliding_window": 1024}, 48, True),
        ("glm4moe", {"block_count": 47, "head_count_kv": 8, "nextn_predict_layers": 1}, 47, True),
        ("deepseek2", {"block_count": 61, "head_count_kv": 1, "kv_lora_rank": 512}, 61, True),
        ("odd", {"block_count": 3, "head_count_kv": 1, "shared_kv_layers": 9}, 0, False),
        ("odd", {"block_count": 3, "head_count_kv": 1, "full_attention_interval": 9}, 0, False),
    ],
)  # fmt: skip
def test_layers_without_a_cache_of_their_own(arch, numbers, expected, at_most):
    from urial_local.base.gguf_header import GGUFHeader

    meta = {"general.architecture": arch, f"{arch}.embedding_length": 2048}
    meta |= {f"{arch}.attention.head_count": 8}
    meta |= {f"{arch}.attention.key_length": 256, f"{arch}.attention.value_length": 256}
    plain = ("block_count", "full_attention_interval", "nextn_predict_layers")
    for name, n in numbers.items():
        meta[f"{arch}.{name}" if name in plain else f"{arch}.attention.{name}"] = n
    header = GGUFHeader(3, meta, (), 0, 0)
    heads = numbers["head_count_kv"]
    assert gguf_facts.kv_bytes_per_token(header) == expected * heads * 512 * 2
    assert gguf_facts.kv_at_most(header) == at_most


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
    for absurd in ("nan", "inf", "0", "-1", "1e7"):
        said = fails(2, "models", "show", "demo", "--gpu-memory", absurd)
        assert "not a number of gigabytes" in said
    assert "ctx-size" in fails(2, "models", "show", "demo", "-c", str(2**31))


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
    folder = Path(os.environ["URIAL_CONFIG_DIR"])
    (folder / "prompts").mkdir(parents=True)
    (folder / "models.txt").write_text("broken\n")
    (folder / "prompts" / "mine.toml").write_text("system = 3\n")
    done = urial("doctor", "--no-measure")
    assert done.returncode == 1
    assert "Broken: " in done.stdout
    assert "1 columns instead of 11" in done.stdout
    assert "mine.toml is malformed" in done.stdout


def test_a_torn_installation_is_said(tmp_path, monkeypatch):
    """Without the embedded models, and with a damaged record of pulls, all else is there still."""

    from urial_local.base import registry
    from urial_local.cli.plumbing.options import complete_models
    from urial_local.tasks.doctor.measure import measure
    from urial_local.tasks.models.catalog import catalog

    shipped = registry.shipped
    monkeypatch.setattr(registry, "shipped", lambda n: tmp_path if n == "demo" else shipped(n))
    (tmp_path / "demo-base-q8_0.gguf").write_bytes(b"GGUF torn")
    folder = Path(os.environ["URIAL_STATE_DIR"])
    folder.mkdir(parents=True)
    (folder / "pulled.json").write_text("{torn")
    found = examine.examine()
    assert sum("embedded model" in sentence for sentence in found.broken) == 2
    assert any("pulled.json cannot be read" in sentence for sentence in found.broken)
    rows = {row.name: row for row in catalog(registry.registry())}
    assert rows["demo"].path is None
    assert "mistral-7b" in rows
    assert any(item.value == "demo" for item in complete_models(None, None, "de"))
    with pytest.raises(UrialError):
        measure(0.1)


def test_a_llama_cpp_that_does_not_import(tmp_path):
    (tmp_path / "llama_cpp").mkdir()
    (tmp_path / "llama_cpp" / "__init__.py").write_text("from nowhere_at_all import x")
    done = process("doctor", "--no-measure", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "Broken: llama.cpp's library does not load: No module named 'nowhere" in done.stdout


@pytest.mark.slow
def test_the_measurement():
    from urial_local.tasks.doctor.measure import measure

    rates = measure(0.5)
    assert min(rates.prefill, rates.decode, rates.batch) > 0
    assert rates.seconds < 60


def test_advice_names_the_line_that_closes_the_gap():
    advise = examine.build_advice
    assert advise(["AVX2", "FMA"], ["AVX2", "FMA", "AVX"], [], [], "1.0") == ()
    (one,) = advise(["AVX2", "AVX512"], ["AVX2"], ["CUDA"], [], "1.0")
    assert "AVX512" in one.why
    assert "CUDA" in one.why
    assert '"-DGGML_NATIVE=ON -DGGML_CUDA=on"' in one.command
    assert one.command.endswith("llama-cpp-python==1.0")
    assert advise([], [], ["CUDA"], ["CUDA0"], "1.0") == ()


def test_amx_is_never_advised_and_a_build_with_it_is_told_of():
    advise = examine.build_advice
    assert advise(["AVX2", "AMX_INT8"], ["AVX2"], [], [], "1.0") == ()
    (one,) = advise(["AVX2", "AMX_INT8"], ["AVX2", "AMX_INT8"], [], [], "1.0")
    assert "built for AMX" in one.why
    flags = shlex.split(shlex.split(one.command)[0].partition("=")[2])
    assert flags[0] == "-DCMAKE_C_FLAGS=-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


def test_a_build_for_amx_is_used_without_it(monkeypatch, tiny_llama):
    """Its code ends the process with SIGILL; weights in ordinary buffers never reach it."""
    asked = []
    load = llama_api.lib.llama_model_load_from_file

    def loaded(path, params):
        asked.append(params.use_extra_bufts)
        return load(path, params)

    monkeypatch.setattr(llama_api.lib, "llama_model_load_from_file", loaded)
    for built in (True, False):
        monkeypatch.setattr(llama_api, "amx_built", lambda built=built: built)
        Model(tiny_llama).close()
    assert asked == [False, True]


def test_threads_are_told_with_the_reason(monkeypatch):
    from urial_local.cli.doctor import screen
    from urial_local.tasks.doctor.findings import Threads

    found = examine.examine()
    cores = Threads(affinity=8, quota=3.5, usable=4, others=1.1, now=3, waiting={})
    lines = screen(replace(found, threads=cores))
    (line,) = (line for line in lines if line.startswith("threads"))
    assert line.split(maxsplit=1)[1] == (
        "4 (8 cores, a quota of 3.5); others keep 1.1 cores busy now, so 3 of them work"
    )


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


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the loader of Linux")
def test_another_library_that_is_found_first_is_named(tmp_path):
    (tmp_path / "libggml-base.so.0").write_bytes(b"no library")
    said = fails(1, "ask", "-n", "1", "hi", run=process, LD_LIBRARY_PATH=str(tmp_path))
    assert "library does not load" in said
    assert "LD_LIBRARY_PATH may name a folder with another llama.cpp" in said
    assert said.index("-u LD_LIBRARY_PATH") < said.index("pip install")
    assert (
        "LD_LIBRARY_PATH" in process("doctor", "--no-measure", LD_LIBRARY_PATH=str(tmp_path)).stdout
    )
    said = fails(1, "ask", "hi", run=process, LLAMA_CPP_LIB_PATH=str(tmp_path))
    assert "LLAMA_CPP_LIB_PATH may name a folder" in said
