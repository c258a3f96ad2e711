"""`urial-local shift` whole: what ends up in the run folder, resumed, sharded, shuffled."""

from __future__ import annotations

import csv
import json
import random

import numpy as np
import pytest

from tests.command import fails, urial
from tests.shifted_runs import CONTEXTS, PAIR, QUESTIONS, rows_of, summary_of


def test_what_a_run_prints_and_leaves(shifted):
    done = urial("shift", shifted / "q.json", *PAIR, "-o", shifted / "run")
    assert "6 of 6 rows are already there." in done.stderr
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


def test_the_rate_of_a_guide_follows_from_the_rows(shifted):
    """For each γ, a position at a time."""
    rows, found = rows_of(shifted / "run"), summary_of(shifted / "run")["demo-aligned"]
    for name in CONTEXTS:
        positions = [
            (np.exp(top[0]), rank > 3)
            for r in rows.values()
            for top, rank in zip(
                r["contexts"][name]["base_top_logprobs"],
                r["contexts"][name]["base_rank"],
                strict=True,
            )
        ]
        told = found["contexts"][name]["unsure"]
        assert [at["gamma"] for at in told] == pytest.approx([0.1 * n for n in range(1, 10)])
        for at in told:
            unsure = [moved for top, moved in positions if top < at["gamma"]]
            moved = sum(moved for _, moved in positions)
            assert at["rate"] == pytest.approx(len(unsure) / len(positions), rel=1e-5)
            if unsure:
                assert at["precision"] == pytest.approx(np.mean(unsure), rel=1e-5)
            else:
                assert at["precision"] is None
            assert at["recall"] == (pytest.approx(sum(unsure) / moved, rel=1e-5) if moved else None)
        rates = [at["rate"] for at in told]
        assert rates == sorted(rates)


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


@pytest.mark.slow
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
    assert "a lone surrogate" in rows["q0"]["error"]
    assert rows["q1"]["answer"] == "-1"
    with (tmp_path / "r" / "positions.csv").open(newline="") as file:
        positions = list(csv.DictReader(file))
    assert all(float(row["base_logprob"]) < 0 for row in positions), "numbers stay numbers"


@pytest.mark.slow
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
    said = fails(2, *args[:-1], tmp_path / "c.json", "-o", tmp_path / "run")
    assert f"the answer to {answers[0]['id']!r} differs from the one" in said
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


def test_other_options_on_the_same_folder_are_refused(shifted, tmp_path):
    args = ("shift", shifted / "q.json", *PAIR, "-o", shifted / "run")
    said = fails(2, *args, "-n", "100")
    assert "max_tokens: 512 there, 100 now" in said
    said = fails(2, *args, "--base-prompt", "zero-shot")
    assert "contexts.urial-demo.name" in said
    changed = json.loads((shifted / "q.json").read_text())
    changed[0]["query"] = "Where can I find a wolf?"
    (tmp_path / "q.json").write_text(json.dumps(changed))
    said = fails(2, "shift", tmp_path / "q.json", *PAIR, "-o", shifted / "run")
    assert "'q0' differs from the one in this run" in said


@pytest.mark.slow
def test_the_context_does_not_depend_on_which_rows_are_left(tmp_path):
    """A short-looking question of many tokens gets its whole answer, alone or among others."""
    rows = [{"id": i, "query": "a plain question " * 40} for i in range(3)]
    rows.append({"id": "emoji", "query": "🦊" * 150})
    (tmp_path / "q.json").write_text(json.dumps(rows))
    args = ("shift", tmp_path / "q.json", *PAIR, "-np", "1", "-n", "200")
    assert urial(*args, "-o", tmp_path / "all").returncode == 0
    assert urial(*args, "--ids", "emoji", "-o", tmp_path / "one").returncode == 0
    assert rows_of(tmp_path / "all")["emoji"] == rows_of(tmp_path / "one")["emoji"]


def test_an_empty_shard_is_a_run_like_the_others(shifted, tmp_path):
    (tmp_path / "q.txt").write_text("Where can I find a fox?\n")
    for i in (1, 2):
        args = ("shift", tmp_path / "q.txt", *PAIR, "--shard", f"{i}/2", "-o", tmp_path / str(i))
        assert urial(*args).returncode == 0
    done = urial("merge", tmp_path / "1", tmp_path / "2", "-o", tmp_path / "m")
    assert done.returncode == 0, done.stderr
    assert "Missing: shard" not in done.stderr
    assert len(rows_of(tmp_path / "m")) == 1
    sessions = json.loads((tmp_path / "m" / "run.json").read_text())["sessions"]
    assert [("--shard" in s["command"]) for s in sessions] == [True, True, False]


def test_several_sampled_answers_to_each_question(shifted, tmp_path):
    """Rows of their own, with seeds of their own; what is missing is made again."""
    args = ("shift", shifted / "q.json", *PAIR, "--base-prompt", "zero-shot", "--ids", "q0,q3")
    assert "--n needs --sample" in fails(2, *args, "--n", "2", "-o", tmp_path / "x")
    args = (*args, "--sample", "-n", "40", "--temp", "1.5")
    done = urial(*args, "--n", "3", "-o", tmp_path / "a", "-np", "1")
    assert done.returncode == 0, done.stderr
    assert "6 answers to 2 questions: branching factor" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "a" / "rows.jsonl").read_text().splitlines()]
    found = {(row["id"], row["sample"]): row["answer_ids"] for row in rows}
    assert sorted(found) == [(q, n) for q in ("q0", "q3") for n in range(3)]
    assert len({tuple(ids) for ids in found.values()}) > 2
    assert sum("batch_shape" in row for row in rows) == 2, "measured on a first answer only"
    summary = summary_of(tmp_path / "a")["demo-aligned"]
    assert (summary["answers"], summary["sampled"]["questions"]) == (6, 2)
    entropies = [[v for r in rows if r["id"] == q for v in r["aligned_nucleus_entropy"]]
                 for q in ("q0", "q3")]  # fmt: skip
    assert all(len(found[key]) <= 50 for key in found)
    want = np.mean([np.exp(np.mean(v)) for v in entropies])
    assert summary["sampled"]["branching"]["mean"] == pytest.approx(want, rel=1e-5)
    # Rows that are gone are made again, the same.
    kept = [row for row in rows if (row["id"], row["sample"]) != ("q3", 1)]
    text = "".join(json.dumps(row) + "\n" for row in kept)
    (tmp_path / "a" / "rows.jsonl").write_text(text)
    done = urial(*args, "--n", "3", "-o", tmp_path / "a", "-np", "1")
    assert "5 of 6 rows are already there." in done.stderr
    again = [json.loads(line) for line in (tmp_path / "a" / "rows.jsonl").read_text().splitlines()]
    assert {(r["id"], r["sample"]): r["answer_ids"] for r in again} == found
    assert "samples: 3 there" in fails(2, *args, "-o", tmp_path / "a")


@pytest.mark.slow
def test_the_demo_shows_what_a_prompt_repairs(tmp_path):
    done = urial("demo", "-o", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    for title in ("asked plainly", "under a URIAL prompt", "aligned counterpart", "How far"):
        assert title in done.stdout
    found = summary_of(tmp_path / "demo")["demo-aligned"]["contexts"]
    assert tuple(found) == ("zero-shot", "system-only", "urial-demo")
    assert found["urial-demo"]["repairs"]["share"] > 0.8
    assert (tmp_path / "demo" / "report.html").exists()
