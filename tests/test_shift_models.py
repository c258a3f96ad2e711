"""`urial-local shift` over models that differ, small contexts, noise, and draws."""

from __future__ import annotations

import json
import random

import pytest

from tests.command import fails, urial
from tests.crafted_runs import VOCABULARY, shift_run
from tests.shifted_runs import PAIR, rows_of, summary_of
from tests.tiny_gguf import PLAIN_CHAT, write_llama
from urial_local.prompting.library import load_prompt
from urial_local.records.datasets import Item
from urial_local.records.runlog import latest_rows
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompted import PromptedModel
from urial_local.tasks.shift.lengths import SLACK, longest_prompt
from urial_local.tasks.shift.record import KEY
from urial_local.tasks.shift.results import ShiftRun
from urial_local.tasks.shift.summary import summarise


def test_what_cannot_be_compared_is_said_before_weights_are_loaded(tiny_llama, tmp_path):
    (tmp_path / "q.txt").write_text("hello\n")
    args = ("shift", tmp_path / "q.txt", "-o", tmp_path / "run")
    said = fails(2, *args, "--base", tiny_llama, "--aligned", tiny_llama)
    assert "carries no chat template" in said
    assert "--aligned-prompt" in said
    said = fails(2, *args, "--base", "demo", "--aligned", tiny_llama)
    assert "different vocabularies" in said
    assert "--allow-vocab-mismatch" in said
    said = fails(1, *args, "--base", "demo", "--aligned", "demo-aligned", "--base-prompt", "urail")
    assert "urial" in said
    assert not (tmp_path / "run").exists()
    assert "--sample" in fails(2, *args, *PAIR, "--temp", "1")
    assert "2/8" in urial(*args, *PAIR, "--shard", "9/8").stderr


def test_several_aligned_models_noise_and_missing_tokens(tiny_llama, tiny_aligned, tmp_path):
    more = write_llama(tmp_path / "more.gguf", seed=2, extra=64, chat_template=PLAIN_CHAT)
    (tmp_path / "q.txt").write_text("the rain\nthe sea\n")
    args = ("shift", tmp_path / "q.txt", "--base", tiny_llama, "-n", "20", "-t", "1")
    args = (*args, "--aligned", tiny_aligned, "--aligned", more, "--noise-floor", tiny_llama)
    said = fails(2, *args, "-o", tmp_path / "run")
    assert "'<|extra0|>'" in said
    args = (*args, "--allow-vocab-mismatch", "--save-prompts", "-o", tmp_path / "run")
    done = urial(*args, "--base-prompt", "zero-shot", "--json")
    assert done.returncode == 0, done.stderr
    assert "shared token ids" in done.stderr
    summary = json.loads(done.stdout)["aligned"]
    assert set(summary) == {"tiny-aligned", "more"}
    for found in summary.values():
        noise = found["noise_floor"]
        assert noise["kl_base_other"]["max"] == 0, "a model is not a noise to itself"
        assert noise["top1_agreement"] == 1
        assert noise["class_changed"] == 0
    rows = list(latest_rows(tmp_path / "run", KEY))
    assert len(rows) == 4
    assert rows[0]["prompts"]["zero-shot"]["text"].startswith("# Query:")
    assert rows[0]["prompts"]["aligned"]["ids"][0] == 1


def test_what_the_shape_of_a_batch_changes_is_measured(tiny_llama, tiny_aligned, tmp_path):
    """In the first four rows, over 32 positions at most; of float32 weights it is rounding."""
    (tmp_path / "q.txt").write_text("".join(f"the rain {i}\n" for i in range(6)))
    args = ("shift", tmp_path / "q.txt", "--base", tiny_llama, "--aligned", tiny_aligned)
    args = (*args, "-n", "40", "-t", "1", "--kv-type", "f32", "--base-prompt", "zero-shot")
    args = (*args, "-o", tmp_path / "run")
    done = urial(*args)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads((tmp_path / "run/summary.json").read_text())["aligned"].values()
    shape = found["batch_shape"]
    rows = {row["number"]: row for row in latest_rows(tmp_path / "run", KEY)}
    assert sorted(n for n, row in rows.items() if "batch_shape" in row) == [0, 1, 2, 3]
    lengths = [min(32, len(rows[n]["answer_ids"])) for n in range(4)]
    assert (shape["answers"], shape["positions"]) == (4, sum(lengths))
    assert 0 <= shape["base_logprob"]["max"] < 1e-3
    assert shape["class_changed"] == 0
    assert "batch shape alone: base log-probabilities by 0.000 nats" in done.stdout


def test_the_change_by_a_batchs_shape_is_reckoned_by_its_definition(tmp_path):
    shift_run(tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run/rows.jsonl").read_text().splitlines()]
    again = rows[0]["batch_shape"]
    again["base_logprob"] = [x - 0.25 * (i == 1) for i, x in enumerate(again["base_logprob"])]
    again["base_rank"][0] = 1 if again["base_rank"][0] > 3 else 9
    (tmp_path / "run/rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (found,) = summarise(ShiftRun(tmp_path / "run"), {"a": ["x"] * VOCABULARY}).values()
    shape = found.batch_shape
    assert shape.positions == 4
    assert shape.base_logprob.max == pytest.approx(0.25)
    assert shape.base_logprob.mean == pytest.approx(0.25 / 4)
    assert shape.kl.max == 0
    assert shape.class_changed == 0.25


@pytest.mark.parametrize("ctx", [1, 2, 7, 20, 60, 300])
def test_small_contexts_are_error_rows_and_no_abort(ctx, tiny_llama, tiny_aligned, tmp_path):
    """llama.cpp clamps its batch to the context and pads the context: both are asked of it."""
    (tmp_path / "q.txt").write_text("the rain\n" + "the sea and " * 40 + "\n")
    (tmp_path / "a.json").write_text(
        json.dumps([{"id": i, "answer": "an ant " * n} for i, n in enumerate((1, 60))])
    )
    args = ("shift", tmp_path / "q.txt", "--base", tiny_llama, "--aligned", tiny_aligned, "-c", ctx)
    args = (*args, "--base-prompt", "zero-shot", "-n", "6", "-t", "1")
    for name, more in (("made", ()), ("given", ("--answers", tmp_path / "a.json"))):
        done = urial(*args, *more, "-o", tmp_path / name)
        assert done.returncode in (0, 3), done.stderr
        rows = list(latest_rows(tmp_path / name, KEY))
        assert len(rows) == 2
        for row in rows:
            assert row.get("error") or len(row["answer_ids"]) <= ctx


@pytest.mark.parametrize("context", [1, 3, 7])
def test_models_of_a_context_of_few_tokens(context, tiny_aligned, tmp_path):
    small = write_llama(tmp_path / "small.gguf", context=context)
    (tmp_path / "q.txt").write_text("the rain\n")
    args = ("shift", tmp_path / "q.txt", "--base", small, "--aligned", tiny_aligned, "-n", "6")
    done = urial(*args, "--base-prompt", "zero-shot", "-o", tmp_path / "run")
    assert done.returncode == 3, done.stderr


def test_sampling_is_by_row(tiny_llama, tiny_aligned, tmp_path):
    (tmp_path / "q.txt").write_text("the rain\nthe sea\nan ant\n")
    args = ("shift", tmp_path / "q.txt", "--base", tiny_llama, "--aligned", tiny_aligned)
    args = (*args, "-n", "12", "--sample", "--temp", "1", "-t", "1", "--base-prompt", "zero-shot")
    ids = {}
    for name, more in {"a": ("-np", "1"), "b": ("-np", "3"), "c": ("-s", "7")}.items():
        assert urial(*args, *more, "-o", tmp_path / name).returncode == 0
        rows = rows_of(tmp_path / name)
        ids[name] = [rows[str(i)]["answer_ids"] for i in range(3)]
    assert ids["a"] == ids["b"]
    assert ids["a"] != ids["c"]


def test_a_row_that_does_not_fit_fails_alone(tiny_llama, tiny_aligned, tmp_path):
    (tmp_path / "q.txt").write_text("short\n" + "long " * 2000 + "\n")
    args = ("shift", tmp_path / "q.txt", "--base", tiny_llama, "--aligned", tiny_aligned)
    done = urial(*args, "-n", "8", "-t", "1", "-o", tmp_path / "r", "--base-prompt", "zero-shot")
    assert done.returncode == 3
    assert "1 row failed" in done.stderr
    assert "tokens hold" in done.stderr
    assert "error" in rows_of(tmp_path / "r")["1"]
    assert summary_of(tmp_path / "r")["tiny-aligned"]["answers"] == 1


@pytest.mark.slow
def test_the_shared_stories_pair(shared_file, tmp_path):
    """Near the figures in the models' README (60.4 / 16.3 / 23.3 %); its ten prompts are not
    known, so the bounds are wide."""
    base = shared_file("models/stories260K-base-f32.gguf")
    aligned = shared_file("models/stories260K-aligned-f32.gguf")
    (tmp_path / "q.txt").write_text(
        "Tell me a story about a dog.\nWhat did Lily do in the park?\nWho is Tim?\n"
        "Tell me about a big tree.\nWhat is a bird?\nTell me a story about a boat.\n"
        "Where did the cat go?\nWhy was Tom sad?\nWhat did mom say?\nTell me about the sun.\n"
    )
    args = ("shift", tmp_path / "q.txt", "--base", base, "--aligned", aligned)
    args = (*args, "--base-prompt", "raw", "--base-prompt", "zero-shot", "-n", "200")
    done = urial(*args, "-o", tmp_path / "run", "--kv-type", "f32")
    assert done.returncode == 0, done.stderr
    shares = summary_of(tmp_path / "run")["stories260K-aligned-f32"]["contexts"]["raw"]["classes"]
    assert 0.45 < shares["unshifted"]["share"] < 0.75
    assert 0.08 < shares["marginal"]["share"] < 0.25
    assert 0.12 < shares["shifted"]["share"] < 0.40


def test_a_frames_closing_is_no_part_of_the_answer(tmp_path):
    (tmp_path / "q.txt").write_text("Where can I find a fox?\n")
    args = ("shift", tmp_path / "q.txt", "--base", "demo", "--aligned", "demo")
    done = urial(*args, "--aligned-prompt", "urial-demo", "-o", tmp_path / "r")
    assert done.returncode == 0, done.stderr
    row = rows_of(tmp_path / "r")["0"]
    assert row["finish_reason"] == "frame"
    assert (row["ended"], row["end_token"]) == (True, False)
    texts = json.loads((tmp_path / "r" / "tokens-demo.json").read_text())
    assert "".join(texts[i] for i in row["answer_ids"]).strip() == row["answer"]
    found = summary_of(tmp_path / "r")["demo"]["contexts"]["urial-demo"]
    assert found["kl_base_aligned"]["max"] == 0, "the same model in the same prompt"
    assert found["classes"]["unshifted"]["share"] == 1
    assert found["classes_of_end"]["positions"] == 0


def test_noise_is_measured_over_the_bases_whole_vocabulary(tiny_llama, tmp_path):
    larger = write_llama(tmp_path / "larger.gguf", extra=512)
    aligned = write_llama(tmp_path / "aligned.gguf", seed=1, chat_template=PLAIN_CHAT)
    (tmp_path / "q.txt").write_text("the rain\n")
    args = ("shift", tmp_path / "q.txt", "--base", larger, "--aligned", aligned, "-n", "30")
    args = (*args, "--noise-floor", larger, "--allow-vocab-mismatch", "-t", "1")
    assert urial(*args, "--base-prompt", "zero-shot", "-o", tmp_path / "r").returncode == 0
    noise = summary_of(tmp_path / "r")["aligned"]["noise_floor"]
    assert (noise["top1_agreement"], noise["class_changed"]) == (1, 0)


AWKWARD = ("```", "~~~~~~~", "# Query:", "# Answer:", "\n", "\n\n  ", "é", "🦊", "<|user|>", "\t")


@pytest.mark.parametrize("prompt", ["chat", "zero-shot", "urial-demo", "vanilla"])
@pytest.mark.parametrize("more", [(), AWKWARD])
def test_few_prompts_are_laid_out_to_find_the_longest(prompt, more, monkeypatch):
    draw, asked = random.Random(prompt), []
    words = ("why", "does", "a", "fox", "sing?", *more)
    queries = [" ".join(draw.choices(words, k=draw.randint(1, 40))) for _ in range(80)]
    items = [Item(str(n), n, query) for n, query in enumerate(queries)]
    with model_file("demo-aligned").load() as model:
        asker = PromptedModel(model, load_prompt(prompt, None))
        longest = max(len(asker.request(query).tokens) for query in queries)
        request = asker.request
        monkeypatch.setattr(asker, "request", lambda query: asked.append(query) or request(query))
        assert longest - SLACK < longest_prompt(asker, items) <= longest
    assert len(asked) < 20
