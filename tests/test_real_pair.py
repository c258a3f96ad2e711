"""tools/real_pair on a tiny Gemma 3 with random weights: its forward pass is llama.cpp's, it
learns, and llama.cpp computes with its adapter what it computes itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.tiny_gguf import write_llama, write_windowed
from tools.real_pair.data import Example, is_held_out, split
from tools.real_pair.places import lines
from urial_local.prompting.library import load_prompt
from urial_local.runtime.model import Model
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.tasks.model_file import model_file

torch = pytest.importorskip("torch", reason="the [train] extra is not installed")

from tools.real_pair.__main__ import PROMPT  # noqa: E402
from tools.real_pair.gemma import Gemma, load  # noqa: E402
from tools.real_pair.lora import fresh, write_gguf  # noqa: E402
from tools.real_pair.loss import CHUNK, answer_loss  # noqa: E402
from tools.real_pair.train import Recipe, Trainer, mean_loss  # noqa: E402

IDS = [1, *np.random.default_rng(5).integers(3, 350, 79).tolist()]  # longer than two windows
RECIPE = Recipe(rank=4, alpha=8.0, epochs=1, batch=3, rate=2e-2, warmup=2, rows=24)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Two queries to a key, gains that are not one, another base of the global layers' turns."""
    path = tmp_path_factory.mktemp("pair") / "base.gguf"
    return write_windowed(path, kv_heads=2, any_gains=True)


@pytest.fixture(scope="module")
def base(file) -> Gemma:
    return load(file)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Every answer says the same after a prompt at random: that can be learnt."""
    rng = np.random.default_rng(2)
    answer = (70, 71, 72, 73, 74, 75, 2)
    return [Example(str(i), (1, *rng.integers(3, 350, 9).tolist()), answer) for i in range(24)]


def llama_logits(model: Model) -> np.ndarray:
    sequences = Sequences(model, cells=128, n_seq=1, threads=1, kv_type="f32")
    try:
        tokens = [BatchToken(token, at, 0, True) for at, token in enumerate(IDS)]
        return sequences.decode(tokens).copy()
    finally:
        sequences.close()


def near(found: np.ndarray, expected: np.ndarray) -> None:
    """llama.cpp's gelu is a table in half precision, which is most of the difference."""
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
    assert (found.argmax(-1) == expected.argmax(-1)).mean() >= 0.98


def test_the_loss_is_the_cross_entropy():
    drawn = torch.Generator().manual_seed(1)
    hidden = torch.randn(2 * CHUNK + 9, 24, generator=drawn, requires_grad=True)
    matrix = torch.randn(300, 24, generator=drawn)
    targets = torch.randint(300, (len(hidden),), generator=drawn)
    found = []
    for loss in (
        answer_loss(hidden, matrix, targets),
        torch.nn.functional.cross_entropy(hidden @ matrix.T, targets, reduction="sum"),
    ):
        (gradient,) = torch.autograd.grad(3 * loss, hidden)
        found.append((loss.item(), gradient.numpy()))
    ours, oracle = found
    assert ours[0] == pytest.approx(oracle[0], rel=1e-5)
    np.testing.assert_allclose(ours[1], oracle[1], atol=2e-5)


def test_the_forward_pass_is_that_of_llama_cpp(file, base):
    with Model(file) as model, torch.no_grad():
        near(base.logits(torch.tensor(IDS)).numpy(), llama_logits(model))


def test_windows_and_turns_matter_here(base):
    """Else the test above would not see a wrong one."""
    with torch.no_grad():
        right = base.logits(torch.tensor(IDS)).numpy()
        for change in ({"window": 33}, {"rope_base": 1e4}, {"pattern": 5}, {"eps": 1e-1}):
            wrong = Gemma(replace(base.shape, **change), base.weights, base.dtype)
            with pytest.raises(AssertionError):
                near(wrong.logits(torch.tensor(IDS)).numpy(), right)


def test_it_learns_and_llama_cpp_agrees(file, base, examples, tmp_path):
    trainer = Trainer(base, examples, RECIPE, tmp_path / "work", "tiny")
    before = mean_loss(base, examples, trainer.lora)
    assert before == pytest.approx(mean_loss(base, examples, None)), "B is zero to begin with"
    lora = trainer.run()
    assert trainer.done == 8
    assert mean_loss(base, examples, lora) < before - 1
    adapter = tmp_path / "adapter.gguf"
    write_gguf(lora, RECIPE.alpha, adapter, "tiny", {"seed": 7, "data": "x", "rate": 0.5})
    with torch.no_grad():
        plain, adapted = (base.logits(torch.tensor(IDS), x).numpy() for x in (None, lora))
    assert np.abs(adapted - plain).max() > 0.1 * np.abs(plain).max()
    for name, expected in ((f"{file}+{adapter}", adapted), (f"{file}+{adapter}@0", plain)):
        with model_file(name).load(0) as model:
            near(llama_logits(model), expected)
    fields = {f.name: f.contents() for f in gguf.GGUFReader(adapter).fields.values()}
    told = {"real_pair.seed": 7, "real_pair.data": "x", "real_pair.rate": 0.5}
    assert told.items() <= fields.items()
    assert not list(tmp_path.glob("*.unfinished"))


def test_a_stopped_training_goes_on(base, examples, tmp_path):
    """Three steps and then the others: the same numbers as all at once."""
    begun = Trainer(base, examples, RECIPE, tmp_path / "parts", "tiny")
    begun.run(3)
    resumed = Trainer(base, examples, RECIPE, tmp_path / "parts", "tiny")
    assert resumed.done == 3
    parts, whole = resumed.run(), Trainer(base, examples, RECIPE, tmp_path / "all", "tiny").run()
    for name, pair in whole.pairs.items():
        for a, b in zip(pair, parts.pairs[name], strict=True):
            np.testing.assert_allclose(b.detach(), a.detach(), atol=1e-6)
    lines = (tmp_path / "parts" / "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 9))
    for recipe, source in ((replace(RECIPE, rate=0.1), "tiny"), (RECIPE, "other data")):
        with pytest.raises(ValueError, match="another recipe, base or data"):
            Trainer(base, examples, recipe, tmp_path / "parts", source)


def test_rates_rise_and_fall():
    rates = [RECIPE.rate_at(step, 8) for step in range(8)]
    assert rates[0] == RECIPE.rate / 2
    assert max(rates) == rates[1] == rates[2] == RECIPE.rate
    assert 0 < rates[-1] < rates[-2] < RECIPE.rate


def test_other_architectures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not a Gemma 3"):
        load(write_llama(tmp_path / "llama.gguf"))


def test_answers_are_learnt_with_their_end_and_sevens_are_held_out(file, tmp_path):
    rows = [
        {"id": i, "instruction": f"What is {i}?", "output": f" the {i}\n"} for i in range(1, 21)
    ]
    rows[1]["output"], rows[2]["output"] = "  ", "long " * 200
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(rows))
    prompt = load_prompt(str(PROMPT))
    with Model(file) as model:
        found = split(path, model.vocab, prompt, 200)
        first = found.learnt[0]
        assert first.prompt == tuple(model.vocab.tokenize(prompt.render("What is 1?").text))
        assert first.answer[-1] == model.vocab.eos
        assert model.vocab.detokenize(list(first.answer[:-1])).strip() == "the 1"
        assert first.tokens == len(first.prompt) + len(first.answer)
    assert [e.id for e in found.held_out] == ["7", "17"]
    assert not {e.id for e in found.learnt} & {"2", "3", "7", "17"}
    assert len(found.learnt) == 16


def test_a_hundred_of_a_thousand_are_held_out():
    assert sum(is_held_out(str(i)) for i in range(1000)) == 100


@pytest.mark.real
@pytest.mark.slow
def test_the_forward_pass_on_the_real_base(real_base):
    """llama.cpp multiplies quantised weights by quantised activations, so that they are near only:
    0.005 nats; with its weights in float32 logits differ by 0.014 at most."""
    text = "# User:\nHow do I make soup?\n\n\n# Assistant:\nTo make soup, follow these steps:\n\n1."
    with Model(real_base) as model:
        ids = model.vocab.tokenize(text).tolist()
        sequences = Sequences(model, cells=128, n_seq=1, kv_type="f32")
        theirs = sequences.decode([BatchToken(t, i, 0, True) for i, t in enumerate(ids)]).copy()
        sequences.close()
    with torch.no_grad():
        ours = load(real_base).logits(torch.tensor(ids)).log_softmax(-1)
    wanted = torch.from_numpy(theirs).log_softmax(-1)
    kl = (wanted.exp() * (wanted - ours)).sum(-1)
    assert 0 < float(kl.mean()) < 0.02
    assert (ours.argmax(-1) == wanted.argmax(-1)).float().mean() > 0.85
    assert math.isfinite(float(kl.max()))


def test_the_first_matrices_are_those_of_the_seed(base):
    one, same, other = (fresh(base, 4, 8.0, seed) for seed in (1, 1, 2))
    name = next(iter(one.pairs))
    assert torch.equal(one.pairs[name][0], same.pairs[name][0])
    assert not torch.equal(one.pairs[name][0], other.pairs[name][0])
    assert set(one.pairs) == set(base.matrix_shapes())
    assert len(one.pairs) == 6 * 7


def test_where_the_shift_is():
    ranks, kls = [9, 1, 4, 3, 2] + [1] * 15 + [8], [2.0, 0.0, 1.0, 0.5, None] + [0.0] * 15 + [3.0]
    row = {"contexts": {"urial": {"base_rank": ranks, "kl_base_aligned": kls}}}
    *_, line = lines([row, {"error": "no room"}, row])
    assert line == "| urial | 4 of 10, KL 0.88 | 0 of 30, KL 0.00 | 2 of 2, KL 3.00 |"
