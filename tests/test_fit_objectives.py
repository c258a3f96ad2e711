"""What a prompt is scored by: likelihoods against raw logits in float64, probes by their rules."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import FakeDecoder, FakeModel, script
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Turn
from urial_local.runtime import teacher_forced
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.sequences import Aborted, BatchToken, Sequences
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.benchmark.probes import Probe
from urial_local.tasks.benchmark.rules import Rule
from urial_local.tasks.fit import objectives
from urial_local.tasks.fit.objectives import WORST, Likelihood, Probes, Scored

ANSWERS = {
    "a": ("the hat?", "then he ate the rest, as the others there"),
    "b": ("an ant?", "it is another"),
    "c": ("the hat?", "x"),
}
ONE = replace(
    load_prompt("zero-shot"), system="the rain\n", examples=(Turn("the sea?", "an answer"),)
)
PROMPTS = [load_prompt("zero-shot"), ONE, load_prompt("zero-shot-paper")]


@contextlib.contextmanager
def opened(path, answers=ANSWERS, batch=64):
    with Model(path) as model:
        sequences = Sequences(
            model, cells=512, n_seq=1, batch=batch, threads=1, flash_attention=False, kv_type="f32"
        )
        try:
            yield Likelihood(model, TeacherForced(sequences, None, 512), answers)
        finally:
            sequences.close()


def oracle(path, prompt, query: str, answer: str) -> float:
    """Plain decoding in a context of its own: all logits copied out, softmax in float64."""
    with Model(path) as model:
        text = prompt.render(query).text
        before = model.vocab.tokenize(text).tolist()
        ids = model.vocab.continuation(text, answer).tolist()[: objectives.LONGEST]
        sequences = Sequences(model, cells=512, n_seq=1, batch=512, threads=1, kv_type="f32")
        tokens = [BatchToken(t, i, 0, True) for i, t in enumerate([*before, *ids])]
        rows = sequences.decode(tokens)[len(before) - 1 : -1].astype(np.float64)
        sequences.close()
    top = rows.max(1, keepdims=True)
    logs = rows - top - np.log(np.exp(rows - top).sum(1, keepdims=True))
    return float(logs[np.arange(len(ids)), ids].mean())


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_mamba", "tiny_hybrid", "tiny_windowed"])
def test_likelihoods_equal_plain_decoding(kind, request):
    """Under one prompt after another, each answer after others."""
    path = request.getfixturevalue(kind)
    with opened(path) as objective:
        for prompt in [*PROMPTS, PROMPTS[0]]:
            for found in objective.score(prompt, list(ANSWERS)):
                want = oracle(path, prompt, *ANSWERS[found.item])
                assert found.score == pytest.approx(want, abs=2e-4), (prompt.name, found.item)
                assert not found.error
                assert found.score < 0


def test_chunks_change_nothing(tiny_llama, monkeypatch):
    found = []
    for most in (1, 3, 1000):
        vocabulary = 4 * 512  # bytes of a row of logits, about
        monkeypatch.setattr(teacher_forced, "LOGITS_BYTES", most * vocabulary)
        with opened(tiny_llama) as objective:
            found.append([s.score for s in objective.score(ONE, list(ANSWERS))])
            chunks = objective.forced.chunk
        assert chunks <= max(most, 1) * 2
    np.testing.assert_allclose(found[0], found[2], atol=2e-4)
    np.testing.assert_allclose(found[1], found[2], atol=2e-4)


def test_the_shared_prefix_is_decoded_once(tiny_llama):
    with opened(tiny_llama) as objective:
        list(objective.score(ONE, ["a"]))
        once = objective.forced.prefix_tokens_decoded
        list(objective.score(ONE, ["b", "c"]))
        assert objective.forced.prefix_tokens_decoded == once > 0


def test_of_a_long_answer_the_beginning_counts(tiny_llama, monkeypatch):
    monkeypatch.setattr(objectives, "LONGEST", 4)
    with opened(tiny_llama) as objective:
        (found,) = objective.score(ONE, ["a"])
    assert found.tokens == 4
    assert found.score == pytest.approx(oracle(tiny_llama, ONE, *ANSWERS["a"]), abs=2e-4)


def test_an_answer_that_cannot_be_read_has_the_worst_score_and_costs_no_other(tiny_llama):
    answers = {**ANSWERS, "long": ("the " * 600, "an answer"), "none": ("why?", "")}
    with opened(tiny_llama, answers) as objective:
        found = {s.item: s for s in objective.score(ONE, ["a", "long", "none", "b"])}
    assert found["long"].score == found["none"].score == WORST
    assert "do not fit" in found["long"].error
    assert found["none"].error == "The answer is empty."
    for name in "ab":
        want = oracle(tiny_llama, ONE, *answers[name])
        assert found[name].score == pytest.approx(want, abs=2e-4)


def test_a_likelihood_is_never_below_the_worst(tiny_llama, monkeypatch):
    monkeypatch.setattr(objectives, "WORST", -0.5)
    with opened(tiny_llama) as objective:
        assert [s.score for s in objective.score(ONE, ["a"])] == [-0.5]


def test_a_likelihood_that_is_stopped(tiny_llama):
    with opened(tiny_llama) as objective:
        asked = objective.score(ONE, list(ANSWERS))
        next(asked)
        objective.stop()
        assert list(asked) == []
    with opened(tiny_llama) as objective:
        assert len(list(objective.score(ONE, list(ANSWERS), lambda: True))) == 1
        objective.abort()
        with pytest.raises(Aborted):
            list(objective.score(ONE, list(ANSWERS)))


def probe(name: str, *turns: str, rule=None) -> Probe:
    return Probe(name, "facts", turns, rule or Rule(any=("yes",)), 40, 0)


def probes(answers: dict[str, str], *asked: Probe, cells: int = 4096) -> Probes:
    model = FakeModel()
    engine = Engine(model.vocab, FakeDecoder(script(answers), cells=cells), ctx_size=cells)
    return Probes(model, engine, {p.id: p for p in asked})


FENCED = "\n```\n\n# Answer:\n```\n"


def scores(answers: dict[str, str], *asked: Probe, cells: int = 4096) -> dict[str, Scored]:
    said = {f"{query}{FENCED}": answer for query, answer in answers.items()}
    objective = probes(said, *asked, cells=cells)
    prompt = load_prompt("zero-shot")
    return {s.item: s for s in objective.score(prompt, [p.id for p in asked])}


def test_a_probe_is_right_by_its_rule_and_without_fault():
    found = scores(
        {
            "One?": "yes, it is\n```",
            "Two?": "no, it is not\n```",
            "Three?": "yes " * 12 + "\n```",
            "Four?": "yes and so on and on, one two three four five six seven",
        },
        *(probe(f"p{i}", q) for i, q in enumerate(("One?", "Two?", "Three?", "Four?"))),
    )
    assert [found[f"p{i}"].score for i in range(4)] == [1.0, 0.0, 0.0, 1.0]
    assert found["p1"].why
    assert "repetitive" in found["p2"].flags, "right by its rule, and no answer"
    assert "truncated" in found["p3"].flags, "which is not a fault where answers are kept short"
    assert found["p0"].answer == "yes, it is"
    assert found["p0"].tokens > 0


def test_of_a_dialogue_the_last_answer_counts():
    found = scores({"First?": "no\n```", "Second?": "yes\n```"}, probe("d", "First?", "Second?"))
    assert found["d"].score == 1.0
    assert found["d"].answer == "yes"


def test_a_probe_that_cannot_be_asked_is_wrong_and_costs_no_other():
    found = scores({"One?": "yes\n```"}, probe("long", "x" * 300), probe("p", "One?"), cells=128)
    assert found["long"].score == 0.0
    assert found["long"].error
    assert found["p"].score == 1.0


def test_probes_that_are_enough():
    """Those in flight are finished, and no more are begun; the next prompt is asked again."""
    asked = [probe(f"p{i}", f"Is it {i}?") for i in range(9)]
    objective = probes({}, *asked)
    prompt = load_prompt("zero-shot")
    names = [p.id for p in asked]
    assert 1 <= len(list(objective.score(prompt, names, lambda: True))) < 9
    assert len(list(objective.score(prompt, names))) == 9
    objective.stop()
    assert list(objective.score(prompt, names)) == []
