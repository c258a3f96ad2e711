"""`urial-local shift` whole: what ends up in the run folder, resumed, sharded, shuffled."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.command import fails, urial
from tests.crafted_runs import VOCABULARY, shift_run
from tests.shifted_runs import CONTEXTS, PAIR, QUESTIONS, rows_of, summary_of
from tests.tiny_gguf import PLAIN_CHAT, write_llama
from urial_local.records.runlog import latest_rows
from urial_local.tasks.shift.record import KEY
from urial_local.tasks.shift.results import ShiftRun
from urial_local.tasks.shift.summary import summarise


def test_what_a_run_prints_and_leaves(shifted):
    done = urial("shift", shifted / "q.json", *PAIR, "-o", shifted / "run")
    assert "6 of 6 rows are there already." in done.stderr
    assert "report.html" in done.stderr
    assert "zero-shot" in done.stdout
    assert "urial-demo" in done.stdout
    names = {p.name for p in (shifted / "run").iterdir()}
    assert {"run.json", "rows.jsonl", "summary.json", "report.html", "positions.csv"} <= names
    rows = rows_of(shifted / "run")
    assert set(rows) == {f"q{i}" for i in range(6)}
    for row in rows.values():
        n = len(row["answer_ids"])
        assert row["ended"]
        assert row["finish_reason"] == "eos"
        assert tuple(row["contexts"]) == CONTEXTS
        assert len(row["aligned_rank"]) == n
        assert set(row["aligned_rank"]) == {1}, "greedy answers are the aligned's first choice"
        for context in row["contexts"].values():
            for name in ("base_rank", "base_logprob", "kl_base_aligned", "js", "base_top_ids"):
                assert len(context[name]) == n
            assert min(context["base_rank"]) >= 1
            assert min(context["kl_base_aligned"]) >= 0
            assert max(context["js"]) <= np.log(2) + 1e-6


def test_the_summary_follows_from_the_rows(shifted):
    """Recounted here from rows.jsonl with plain loops."""
    rows, found = rows_of(shifted / "run"), summary_of(shifted / "run")["demo-aligned"]
    assert found["answers"] == 6
    assert found["positions"] == sum(len(r["answer_ids"]) for r in rows.values())
    for name in CONTEXTS:
        context = found["contexts"][name]
        ranks = [x for r in rows.values() for x in r["contexts"][name]["base_rank"]]
        kl = [x for r in rows.values() for x in r["contexts"][name]["kl_base_aligned"]]
        shares = context["classes"]
        assert shares["unshifted"]["count"] == sum(r == 1 for r in ranks)
        assert shares["marginal"]["count"] == sum(r in (2, 3) for r in ranks)
        assert shares["shifted"]["count"] == sum(r > 3 for r in ranks)
        assert shares["shifted"]["share"] == pytest.approx(
            np.mean([r > 3 for r in ranks]), rel=1e-5
        )
        assert shares["shifted"]["low"] <= shares["shifted"]["share"] <= shares["shifted"]["high"]
        assert context["kl_base_aligned"]["mean"] == pytest.approx(np.mean(kl), rel=1e-5)
        assert context["kl_base_aligned"]["median"] == pytest.approx(np.median(kl), rel=1e-5)
        assert context["base_rank"]["mean"] == pytest.approx(np.mean(ranks), rel=1e-6)
        ends = [r["contexts"][name]["base_rank"][-1] for r in rows.values()]
        assert context["classes_of_end"]["shifted"]["count"] == sum(r > 3 for r in ends)
        without = context["classes_without_end"]
        assert without["positions"] == len(ranks) - 6
        tops = [
            a[0] == b[0]
            for r in rows.values()
            for a, b in zip(r["contexts"][name]["base_top_ids"], r["aligned_top_ids"], strict=True)
        ]
        assert context["top1_agreement"] == pytest.approx(np.mean(tops))
        first = [r["contexts"][name]["kl_base_aligned"][0] for r in rows.values()]
        assert context["curves"]["kl_base_aligned"]["mean"][0] == pytest.approx(
            np.mean(first), rel=1e-4
        )
        safety = context["tags"]["category"]["safety"]
        assert safety["answers"] == 1
        own = rows["q2"]["contexts"][name]["base_rank"]
        assert safety["shifted"]["share"] == pytest.approx(np.mean([r > 3 for r in own]), rel=1e-5)


def test_repairs_follow_from_the_rows(shifted):
    rows, found = rows_of(shifted / "run"), summary_of(shifted / "run")["demo-aligned"]
    shifted = repaired = damaged = 0
    for row in rows.values():
        before, after = (row["contexts"][c]["base_rank"][:-1] for c in CONTEXTS)
        for a, b in zip(before, after, strict=True):
            shifted += a > 3
            repaired += a > 3 >= b
            damaged += b > 3 >= a
    repairs = found["contexts"]["urial-demo"]["repairs"]
    assert (repairs["shifted_there"], repairs["repaired"]) == (shifted, repaired)
    assert repairs["damaged"] == damaged
    assert repairs["share"] == pytest.approx(repaired / shifted)
    assert sum(t["count"] for t in repairs["tokens"]) == repaired
    assert found["contexts"]["zero-shot"]["repairs"] is None
    assert repairs["share"] > 0.5, "the examples bring the style that alignment brought"


def test_order_batches_and_shards_change_nothing(shifted, tmp_path):
    whole = rows_of(shifted / "run")
    questions = json.loads((shifted / "q.json").read_text())
    random.Random(1).shuffle(questions)
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, questions)))
    for i in (1, 2, 3):
        args = ("shift", tmp_path / "q.jsonl", *PAIR, "-o", tmp_path / str(i), "-np", str(i))
        assert urial(*args, "--shard", f"{i}/3").returncode == 0
    parts = [tmp_path / str(i) for i in (1, 2, 3)]
    done = urial("merge", *parts, "-o", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "merged") == whole
    assert summary_of(tmp_path / "merged") == summary_of(shifted / "run")


def test_half_a_character_in_a_given_answer_costs_its_row(shifted, tmp_path):
    answers = [
        {"query": QUESTIONS[0], "answer": "In a \ud83e."},
        {"query": QUESTIONS[1], "answer": "-1"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(answers))
    args = ("--ids", "q0,q1", "--answers", tmp_path / "a.json", "--csv", "-o", tmp_path / "r")
    done = urial("shift", shifted / "q.json", *PAIR, "--base-prompt", "zero-shot", *args)
    assert done.returncode == 3, done.stderr
    rows = rows_of(tmp_path / "r")
    assert "half a character" in rows["q0"]["error"]
    assert rows["q1"]["answer"] == "-1"
    with (tmp_path / "r" / "positions.csv").open(newline="") as file:
        positions = list(csv.DictReader(file))
    assert all(float(row["base_logprob"]) < 0 for row in positions), "numbers stay numbers"


def test_given_answers_get_the_same_scores(shifted, tmp_path):
    """The model's own answers, given as text, are tokenised back to its own tokens."""
    rows = rows_of(shifted / "run")
    answers = [{"id": i, "query": r["query"], "output": r["answer"]} for i, r in rows.items()]
    (tmp_path / "a.json").write_text(json.dumps(answers))
    args = ("shift", shifted / "q.json", *PAIR, "--answers", tmp_path / "a.json")
    assert urial(*args, "-o", tmp_path / "run").returncode == 0
    given = rows_of(tmp_path / "run")
    for i, row in rows.items():
        assert given[i]["answer_ids"] == row["answer_ids"]
        assert given[i]["contexts"] == row["contexts"]
        assert given[i]["finish_reason"] == "given"
    # Other answers are refused in the same folder; a run folder gives its answers, too.
    answers[0]["output"] = "Something else."
    (tmp_path / "c.json").write_text(json.dumps(answers))
    said = fails(1, *args[:-1], tmp_path / "c.json", "-o", tmp_path / "run")
    assert "The answer to 'q0' is not the one" in said or "is not the one" in said
    assert urial(*args[:-1], shifted / "run", "-o", tmp_path / "again").returncode == 0
    assert rows_of(tmp_path / "again")["q1"]["contexts"] == rows["q1"]["contexts"]
    # By question, where ids differ; one without an answer is an error row.
    for n, answer in enumerate(answers):
        answer["id"] = 1000 + n
    (tmp_path / "b.json").write_text(json.dumps(answers[1:]))
    args = ("shift", shifted / "q.json", *PAIR, "--answers", tmp_path / "b.json")
    done = urial(*args, "-o", tmp_path / "other")
    assert done.returncode == 3
    assert "There is no answer to this question" in done.stderr
    assert sum("error" not in r for r in rows_of(tmp_path / "other").values()) == 5


def test_killed_at_random_and_resumed_gives_the_same_rows(shifted, tmp_path):
    command = [sys.executable, "-m", "urial_local", "shift", str(shifted / "q.json"), *PAIR]
    command += ["-o", str(tmp_path / "run")]
    moments = random.Random(2)
    for _ in range(12):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.2, 0.9))
        child.kill()
        child.wait()
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "run") == rows_of(shifted / "run")
    assert summary_of(tmp_path / "run") == summary_of(shifted / "run")


def test_other_options_on_the_same_folder_are_refused(shifted, tmp_path):
    args = ("shift", shifted / "q.json", *PAIR, "-o", shifted / "run")
    said = fails(2, *args, "-n", "100")
    assert "max_tokens: 512 there, 100 now" in said
    said = fails(2, *args, "--base-prompt", "zero-shot")
    assert "contexts.urial-demo.name" in said
    changed = json.loads((shifted / "q.json").read_text())
    changed[0]["query"] = "Where can I find a wolf?"
    (tmp_path / "q.json").write_text(json.dumps(changed))
    said = fails(1, "shift", tmp_path / "q.json", *PAIR, "-o", shifted / "run")
    assert "'q0' is not the one that this run holds" in said


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
        assert noise["kl_base_other"]["max"] == 0, "a model is no noise to itself"
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
    shape = found["batch_shape"]
    assert shape["positions"] == 4
    assert shape["base_logprob"]["max"] == pytest.approx(0.25)
    assert shape["base_logprob"]["mean"] == pytest.approx(0.25 / 4)
    assert shape["kl_base_aligned"]["max"] == 0
    assert shape["class_changed"] == 0.25


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
    assert "1 of the rows failed" in done.stderr
    assert "tokens hold" in done.stderr
    assert "error" in rows_of(tmp_path / "r")["1"]
    assert summary_of(tmp_path / "r")["tiny-aligned"]["answers"] == 1


def test_ctrl_c_keeps_the_rows_that_are_done(tiny_aligned, tiny_llama, tmp_path):
    import signal

    (tmp_path / "q.txt").write_text("".join(f"the rain {i}\n" for i in range(3000)))
    args = ["shift", str(tmp_path / "q.txt"), "--base", str(tiny_llama)]
    args += ["--aligned", str(tiny_aligned), "-o", str(tmp_path / "run"), "-t", "1"]
    args += ["--base-prompt", "zero-shot", "-n", "60"]
    child = subprocess.Popen([sys.executable, "-m", "urial_local", *args], stderr=subprocess.PIPE)
    rows = tmp_path / "run" / "rows.jsonl"
    deadline = time.monotonic() + 60
    while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    said = child.stderr.read().decode()
    child.stderr.close()
    assert child.wait(timeout=30) == 130, said
    assert "The same command goes on" in said
    assert "Traceback" not in said
    kept = rows.read_bytes()
    assert kept.endswith(b"\n")
    assert kept


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


def test_the_context_does_not_depend_on_which_rows_are_left(tmp_path):
    """A short-looking question of many tokens gets its whole answer, alone or among others."""
    rows = [{"id": i, "query": "a plain question " * 40} for i in range(3)]
    rows.append({"id": "emoji", "query": "🦊" * 150})
    (tmp_path / "q.json").write_text(json.dumps(rows))
    args = ("shift", tmp_path / "q.json", *PAIR, "-np", "1", "-n", "200")
    assert urial(*args, "-o", tmp_path / "all").returncode == 0
    assert urial(*args, "--ids", "emoji", "-o", tmp_path / "one").returncode == 0
    assert rows_of(tmp_path / "all")["emoji"] == rows_of(tmp_path / "one")["emoji"]


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


def test_an_empty_shard_is_a_run_like_the_others(shifted, tmp_path):
    (tmp_path / "q.txt").write_text("Where can I find a fox?\n")
    for i in (1, 2):
        args = ("shift", tmp_path / "q.txt", *PAIR, "--shard", f"{i}/2", "-o", tmp_path / str(i))
        assert urial(*args).returncode == 0
    done = urial("merge", tmp_path / "1", tmp_path / "2", "-o", tmp_path / "m")
    assert done.returncode == 0, done.stderr
    assert "Not among them" not in done.stderr
    assert len(rows_of(tmp_path / "m")) == 1
    sessions = json.loads((tmp_path / "m" / "run.json").read_text())["sessions"]
    assert [("--shard" in s["command"]) for s in sessions] == [True, True, False]


def test_the_demo_shows_what_a_prompt_repairs(tmp_path):
    done = urial("demo", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    for title in ("asked plainly", "under a URIAL prompt", "aligned counterpart", "How far"):
        assert title in done.stdout
    found = summary_of(tmp_path / "demo")["demo-aligned"]["contexts"]
    assert tuple(found) == ("zero-shot", "system-only", "urial-demo")
    assert found["urial-demo"]["repairs"]["share"] > 0.8
    assert (tmp_path / "demo" / "report.html").exists()
