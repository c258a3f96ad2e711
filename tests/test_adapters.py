"""Adapters change a model's numbers as arithmetic on its weights in float64 says, and nothing of
the unchanged model is taken for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.adapters import (
    ALL,
    forward,
    merged,
    weights,
    with_weights,
    write_lora,
    write_vector,
)
from tests.command import fails, urial
from tests.tiny_gguf import write_llama, write_mamba, write_windowed
from urial_local.records.runlog import latest_rows
from urial_local.runtime import weights as shared
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.tasks.model_file import model_file
from urial_local.tasks.shift.record import KEY

IDS = [1, *range(270, 300), 290, 280]
_MAMBA = ("in", "x", "dt", "out")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_llama(tmp_path_factory.mktemp("base") / "base.gguf", seed=5)


@pytest.fixture(scope="module")
def lora(base) -> Path:
    return write_lora(base.with_name("lora.gguf"), base)


@pytest.fixture(scope="module")
def other(base) -> Path:
    """A second adapter, of another rank, which names no alpha but 0: no factor alpha / rank."""
    return write_lora(base.with_name("other.gguf"), base, alpha=0.0, rank=2, seed=2, names=ALL[3:9])


def logits(name: str, ids=IDS) -> np.ndarray:
    with model_file(name).load(0) as model:
        return decoded(model, ids)


def decoded(model, ids=IDS) -> np.ndarray:
    sequences = Sequences(model, cells=64, n_seq=1, batch=64, threads=1, kv_type="f32")
    try:
        tokens = [BatchToken(token, at, 0, True) for at, token in enumerate(ids)]
        return sequences.decode(tokens).astype(np.float64)
    finally:
        sequences.close()


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def near(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for float32's rounding, in logits of a size of some tens."""
    assert np.abs(found - expected).max() < 2e-4 * np.abs(expected).max()


def test_the_reference_computes_what_llama_cpp_does(base):
    near(logits(str(base)), forward(weights(base), IDS))


@pytest.mark.parametrize("scale", [1.0, 0.5, -0.7, 2.0])
def test_an_adapter_equals_merged_weights(base, lora, tmp_path, scale):
    expected = merged(weights(base), (lora, scale))
    found = logits(f"{base}+{lora}@{scale}")
    near(found, forward(expected, IDS))
    near(found, logits(str(with_weights(base, tmp_path / "merged.gguf", expected))))
    unchanged = logits(str(base))
    assert np.abs(found - unchanged).max() > 0.05 * np.abs(unchanged).max(), "it does something"


@pytest.mark.parametrize(
    ("made", "architecture", "names"),
    [
        (write_windowed, "gemma3", ALL[:-1]),
        (write_mamba, "mamba", [f"blk.{i}.ssm_{n}.weight" for i in (0, 1) for n in _MAMBA]),
    ],
)
def test_other_architectures_equal_merged_weights(made, architecture, names, tmp_path):
    model = made(tmp_path / "m.gguf")
    path = write_lora(tmp_path / "a.gguf", model, architecture=architecture, names=names)
    changed = merged(weights(model), (path, 0.7))
    found = logits(f"{model}+{path}@0.7")
    near(found, logits(str(with_weights(model, tmp_path / "merged.gguf", changed))))
    assert np.abs(found - logits(str(model))).max() > 0.05


def test_embeddings(base, lora, tmp_path):
    changed = with_weights(base, tmp_path / "m.gguf", merged(weights(base), (lora, 0.5)))

    def embedded(name: str) -> np.ndarray:
        with model_file(name).embedder() as embedder:
            return embedder.embed("the rain in the hat")

    found = embedded(f"{base}+{lora}@0.5")
    near(found, embedded(str(changed)))
    assert found @ embedded(str(base)) < 0.99


def test_two_adapters_add_up(base, lora, other):
    expected = merged(weights(base), (lora, 0.5), (other, -1.5))
    near(logits(f"{base}+{lora}@0.5+{other}@-1.5"), forward(expected, IDS))
    twice = merged(weights(base), (lora, 0.75), (other, 0.5))
    near(logits(f"{base}+{lora}@0.5+{other}@0.5+{lora}@0.25"), forward(twice, IDS))


def test_the_table_of_embeddings(base, tmp_path):
    table = write_lora(tmp_path / "e.gguf", base, names=("token_embd.weight",), size=0.5)
    near(logits(f"{base}+{table}@0.8"), forward(merged(weights(base), (table, 0.8)), IDS))


def test_a_scale_of_nothing_is_the_base_bit_by_bit(base, lora):
    assert np.array_equal(logits(f"{base}+{lora}@0"), logits(str(base)))


def test_control_vectors(base, lora, tmp_path):
    """Added to what a layer hands on, from the second layer on; they add up, also with a LoRA."""
    rng = np.random.default_rng(3)
    first, second = (10 * rng.normal(size=64).astype(np.float32) for _ in range(2))
    one = write_vector(tmp_path / "one.gguf", {1: first})
    two = write_vector(tmp_path / "two.gguf", {1: second}, hint="")
    plain = weights(base)
    steered = forward(plain, IDS, {1: 0.5 * first.astype(np.float64)})
    near(logits(f"{base}+cvec:{one}@0.5"), steered)
    assert np.abs(steered - forward(plain, IDS)).max() > 1
    both = {1: first.astype(np.float64) - 2 * second.astype(np.float64)}
    expected = forward(merged(plain, (lora, 1.0)), IDS, both)
    near(logits(f"{base}+cvec:{one}+{lora}+cvec:{two}@-2"), expected)


def test_one_model_in_memory_serves_base_and_adapters(base, lora, loaded):
    """At the same time, each with its own numbers; the last to leave frees it."""
    alone = {name: logits(name) for name in (str(base), f"{base}+{lora}", f"{base}+{lora}@0.5")}
    before = len(loaded)
    models = {name: model_file(name).load(0) for name in alone}
    assert loaded[before:] == [bytes(base)]
    for name, model in (*models.items(), *reversed(models.items())):
        assert np.array_equal(decoded(model), alone[name]), name
    first, *rest = models.values()
    first.close()
    assert np.array_equal(decoded(rest[0]), alone[f"{base}+{lora}"])
    rest[0].close()
    assert np.array_equal(decoded(rest[1]), alone[f"{base}+{lora}@0.5"])
    rest[1].close()
    assert not shared._open


def test_a_file_that_has_changed_is_loaded_anew(base, tmp_path, loaded):
    copy = tmp_path / "m.gguf"
    copy.write_bytes(base.read_bytes())
    with model_file(str(copy)).load(0):
        with_weights(base, tmp_path / "n.gguf", {k: 2 * v for k, v in weights(base).items()})
        (tmp_path / "n.gguf").replace(copy)
        with model_file(str(copy)).load(0) as second:
            near(decoded(second), forward(weights(copy), IDS))
    assert loaded == [bytes(copy)] * 2


def test_several_rows_at_a_time_answer_as_one_by_one(base, lora):
    name = f"{base}+{lora}"
    requests = [Request([1, *range(270 + i, 290)], max_tokens=12, shared=1) for i in range(6)]

    def answers(parallel: int) -> list[list[int]]:
        options = RuntimeOptions(ctx_size=64, parallel=parallel, threads=1, disk_cache=False)
        with model_file(name).open(options) as (_, engine):
            return [done.tokens for done in engine.complete(requests)]

    together = answers(3)
    assert together == answers(1)
    for request, answer in zip(requests, together, strict=True):
        w = merged(weights(base), (lora, 1.0))
        row = forward(w, [*request.tokens, *answer])[len(request.tokens) - 1 : -1]
        chosen = row[np.arange(len(answer)), answer]
        assert (row.max(-1) - chosen < 1e-2).all(), "greedy by the float64 arithmetic"


def test_a_cached_prefix_of_the_base_is_not_the_adapters(base, lora, tmp_path, monkeypatch):
    """Nor that of another scale, another adapter, or a control vector of the same bytes' sum."""
    monkeypatch.setenv("URIAL_CACHE_DIR", str(tmp_path / "cache"))
    vector = write_vector(tmp_path / "v.gguf", {1: np.ones(64)})
    prefix = [1, *range(270, 300)] * 3
    request = Request([*prefix, 265], max_tokens=1, shared=len(prefix))

    def cached(name: str) -> int:
        options = RuntimeOptions(ctx_size=256, threads=1)
        with model_file(name).open(options) as (_, engine):
            return engine.complete([request])[0].cached_tokens

    names = [str(base), f"{base}+{lora}", f"{base}+{lora}@0.5", f"{base}+{lora}+{lora}",
             f"{base}+cvec:{vector}", f"{base}+{lora}@0"]  # fmt: skip
    assert [cached(name) for name in names] == [0] * len(names)
    assert [cached(name) > 0 for name in names] == [True] * len(names), "each finds its own"
    assert len({model_file(name).fingerprint for name in names}) == len(names)


def test_the_fingerprint_is_of_the_adapters_bytes(base, lora, tmp_path):
    copy = tmp_path / "called otherwise.gguf"
    copy.write_bytes(lora.read_bytes())
    own, same = model_file(f"{base}+{lora}@0.5"), model_file(f"{base}+{copy}@.5")
    assert own.fingerprint == same.fingerprint
    assert own.about()["adapters"] == same.about()["adapters"]
    assert own.name == "base+lora@0.5"
    assert "adapters" not in model_file(str(base)).about()
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    assert model_file(f"{base}+{copy}@.5").fingerprint != own.fingerprint


def test_shift_of_a_base_and_itself_with_an_adapter(base, lora, tmp_path, loaded):
    """The weights are loaded once, for scoring and writing; what is said of the tokens is what the
    two models' logits in float64 say."""
    (tmp_path / "q.txt").write_text("the rain\nthe sea\n")
    run = tmp_path / "run"
    args = ("shift", tmp_path / "q.txt", "--base", base, "--aligned", f"{base}+{lora}@0.5",
            "-n", "12", "-t", "1", "--kv-type", "f32", "--base-prompt", "zero-shot",
            "--save-prompts", "-o", run)  # fmt: skip
    assert "--aligned-prompt" in fails(2, *args), "a plain base's adapter has no template"
    done = urial(*args, "--aligned-prompt", "vanilla")
    assert done.returncode == 0, done.stderr
    assert loaded == [bytes(base)]
    asked = json.loads((run / "run.json").read_text())["config"]["aligned"][0]
    assert asked["name"] == "base+lora@0.5"
    assert asked["adapters"][0]["scale"] == 0.5
    changed = merged(weights(base), (lora, 0.5))
    for row in latest_rows(run, KEY):
        answer = row["answer_ids"]
        prompt = row["prompts"]["aligned"]["ids"]
        rows = forward(changed, [*prompt, *answer])[len(prompt) - 1 : -1]
        assert (rows.max(-1) - rows[np.arange(len(answer)), answer] < 1e-2).all()
        context = row["contexts"]["zero-shot"]
        prompt = row["prompts"]["zero-shot"]["ids"]
        theirs = log_softmax(forward(weights(base), [*prompt, *answer])[len(prompt) - 1 : -1])
        expected = theirs[np.arange(len(answer)), answer]
        assert np.abs(np.array(context["base_logprob"]) - expected).max() < 5e-3
    again = urial(*args, "--aligned-prompt", "vanilla")
    assert again.returncode == 0, again.stderr
    other = (*args[:5], f"{base}+{lora}@0.6", *args[6:], "--aligned-prompt", "vanilla")
    said = fails(2, *other)
    assert "adapters" in said or "fingerprint" in said
