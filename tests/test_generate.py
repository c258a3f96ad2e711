"""`urial-local generate` and what reads its runs: rows, resume, methods, exports, sweeps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import fails, interrupted_at_rows, urial
from tests.generated_runs import QUESTIONS, THINGS, rows_of, run
from urial_local.base.registry import find_model
from urial_local.records.datasets import read_items
from urial_local.tasks.generate.job import picked

# --- rows ----------------------------------------------------------------------------------------


def test_what_a_row_holds(generated):
    rows = rows_of(generated / "run")
    assert len(rows) == len(QUESTIONS)
    row = rows["q1", 0]
    assert row["query"] == QUESTIONS[1]
    assert "owl" in row["answer"].lower()
    assert row["raw_answer"].startswith(row["answer"])
    assert row["finish_reason"] == "frame"
    assert row["flags"] == ["copied"]  # the question is the first example's
    assert row["fields"]["extra"] == 1, "untouched fields are carried through"
    assert row["tags"] == {"category": ["find"]}
    assert row["completion_tokens"] == len(row["answer_ids"])
    config = json.loads((generated / "run" / "run.json").read_text())["config"]
    assert config["model"]["quantisation"] == "Q8_0"
    assert config["prompt"]["name"] == "urial-demo"
    assert row["prompt"] == config["prompt"]["sha"]


@pytest.mark.slow
def test_the_same_rows_however_they_are_batched(generated, tmp_path):
    whole = rows_of(generated / "run")
    assert run(generated / "q.json", tmp_path / "exact", "--exact").returncode == 0
    exact = rows_of(tmp_path / "exact")
    assert {k: r["answer"] for k, r in exact.items()} == {k: r["answer"] for k, r in whole.items()}
    for i in (1, 2, 3):
        done = run(generated / "q.json", tmp_path / str(i), "--shard", f"{i}/3", "-np", str(i + 1))
        assert done.returncode == 0, done.stderr
    done = urial("merge", *(tmp_path / str(i) for i in (1, 2, 3)), "-o", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    merged = rows_of(tmp_path / "merged")
    assert {k: r["answer"] for k, r in merged.items()} == {k: r["answer"] for k, r in whole.items()}


@pytest.mark.parametrize(
    ("args", "ids"),
    [
        (("--limit", "3"), ["q0", "q1", "q2"]),
        (("--ids", "q3,q7"), ["q3", "q7"]),
        (("--where", "category=eat", "--limit", "2"), ["q10", "q11"]),
        (("--where", "category=eat", "--where", "extra=12"), ["q12"]),
    ],
)
def test_which_rows(generated, tmp_path, args, ids):
    assert run(generated / "q.json", tmp_path / "run", *args, "-np", "2").returncode == 0
    assert sorted(k[0] for k in rows_of(tmp_path / "run")) == sorted(ids)


def test_which_rows_there_are_not(generated, tmp_path):
    assert "FIELD=VALUE" in fails(
        2, "generate", generated / "q.json", "-o", tmp_path / "x", "--where", "a"
    )
    args = ("generate", generated / "q.json", "-o", tmp_path / "x")
    assert "no row 'zz'" in fails(2, *args, "--ids", "zz")
    assert "matches --ids" in fails(2, *args, "--where", "category=nothing")
    assert not (tmp_path / "x").exists()


def test_standard_input_and_auto(tmp_path):
    text = "".join(f"{q}\n" for q in QUESTIONS[:6]).encode()
    done = urial("generate", "-", "-m", "demo", "-o", tmp_path / "run", stdin=text)
    assert done.returncode == 0, done.stderr
    assert "at a time" in done.stderr
    assert len(rows_of(tmp_path / "run")) == 6


def test_what_json_cannot_hold_is_carried_through_as_far_as_it_goes(tmp_path):
    """NaN, infinities and half characters, as pandas and others write them; and a long first row,
    on which nothing can be measured."""
    text = '{"id": "long", "query": "%s"}\n' % ("word " * 3000)
    text += '{"id": "a", "query": "Where can I find a fox?", "x": NaN, "y": [Infinity],'
    text += ' "z": "\\ud800"}\n'
    text += '{"id": "b", "query": "Where can I find an owl?"}\n'
    (tmp_path / "q.jsonl").write_text(text)
    assert run(tmp_path / "q.jsonl", tmp_path / "run").returncode == 3
    rows = rows_of(tmp_path / "run")
    assert rows["a", 0]["fields"]["x"] is None
    assert rows["a", 0]["fields"]["y"] == [None]
    assert "tokens" in rows["long", 0]["error"]
    for shape in ("just-eval", "csv", "text"):
        path = tmp_path / f"out.{shape}"
        assert urial("export", tmp_path / "run", "--to", shape, "-o", path).returncode == 0
        path.read_text("utf-8")


def test_a_run_is_data_again(generated, tmp_path):
    """Its rows are those of the dataset, with the answers; error rows are not among them."""
    items = read_items(generated / "run")
    assert sorted(i.query for i in items) == sorted(QUESTIONS)
    assert all(i.answer for i in items)
    assert items[0].fields["category"] in ("find", "eat")


def test_bad_rows_fail_alone(tmp_path):
    path = tmp_path / "q.jsonl"
    long = json.dumps({"id": "long", "query": "word " * 5000})
    path.write_bytes(
        b'{"id": "a", "query": "Where can I find a fox?"}\n{oops\n\xff\n' + long.encode()
    )
    done = run(path, tmp_path / "run", "-np", "2")
    assert done.returncode == 3
    assert "3 rows failed" in done.stderr
    rows = rows_of(tmp_path / "run")
    assert "Line 2 is not JSON" in rows["line-2", 0]["error"]
    assert "Line 3 is not valid UTF-8" in rows["line-3", 0]["error"]
    assert "tokens" in rows["long", 0]["error"]
    assert rows["a", 0]["answer"]


def test_what_is_refused_before_a_model_is_loaded(generated, tmp_path):
    args = ("generate", generated / "q.json", "-m", "demo", "-o", tmp_path / "run")
    assert "greedy" in fails(2, *args, "--n", "2")
    assert "greedy" in fails(2, *args, "--repeat", "2")
    assert "choose one" in fails(2, *args, "--raw", "-p", "urial")
    (tmp_path / "twice.jsonl").write_text('{"id": 1, "query": "a"}\n{"id": 1, "query": "b"}\n')
    said = fails(2, "generate", tmp_path / "twice.jsonl", "-o", tmp_path / "run")
    assert "twice" in said
    assert "--id-field none" in said
    assert not (tmp_path / "run").exists()
    assert "another configuration" in fails(2, *args[:-1], generated / "run", "--temp", "1")
    changed = json.loads((generated / "q.json").read_text())
    changed[3]["instruction"] = "Where can I find a snail?"
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    said = fails(2, "generate", tmp_path / "changed.json", "-m", "demo", "-o", generated / "run")
    assert "'q3' differs from the one in this run" in said
    said = fails(
        2, "generate", generated / "q.json", "-m", "demo", "-o", tmp_path / "run", "--ids", "q1,zz"
    )
    assert "no row 'zz'" in said
    copy = tmp_path / "copy.gguf"  # the same model under another name goes on
    copy.write_bytes(find_model("demo").path.read_bytes())
    args = (
        "generate",
        generated / "q.json",
        "-o",
        generated / "run",
        "-p",
        "urial-demo",
        "-m",
        copy,
    )
    assert "20 rows are already there" in urial(*args).stderr


# --- stopping and going on -----------------------------------------------------------------------

STORM = """
import os, random, signal, sys, time
import urial_local.runtime.open, urial_local.tasks.generate.job, urial_local.tasks.generate.setup
from urial_local.cli.main import cli
moments, rows, killed = random.Random(1), sys.argv[1], 0
def size():
    return os.stat(rows).st_size if os.path.exists(rows) else 0
for _ in range(60):
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1); os.dup2(null, 2)
        try:
            cli(sys.argv[2:], standalone_mode=False)
        finally:
            os._exit(0)
    enough = size() + moments.choice([0, 1, 1, 1000, 3000])  # bytes; a row has some 700
    ended = lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    while size() < enough and not ended():
        time.sleep(0.001)
    time.sleep(moments.uniform(0, 0.01))  # anywhere between two rows
    os.kill(child, signal.SIGKILL)
    killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
print(killed)
"""


@pytest.mark.slow
def test_killed_60_times_and_resumed_gives_the_same_rows(tmp_path):
    """With --exact no row sees a neighbour, so even rounding is the same. There are more rows
    than 60 short lives can make."""
    path = tmp_path / "q.txt"
    path.write_text("".join(f"Where can I find a {t} {i}?\n" for i in range(90) for t in THINGS))
    assert run(path, tmp_path / "whole", "--exact", "-n", "12").returncode == 0
    args = ["generate", str(path), "-m", "demo", "-o", str(tmp_path / "run"), "--exact", "-n", "12"]
    rows = str(tmp_path / "run" / "rows.jsonl")
    done = subprocess.run(
        [sys.executable, "-c", STORM, rows, *args], capture_output=True, check=True, timeout=600
    )
    assert int(done.stdout) == 60, "kills that hit a run under way"
    assert run(path, tmp_path / "run", "--exact", "-n", "12").returncode == 0
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")


def test_ctrl_c_finishes_the_rows_in_hand(tiny_endless, tmp_path):
    code, said = interrupted_at_rows(
        tmp_path / "run" / "rows.jsonl", *endless(tiny_endless, tmp_path)
    )
    assert code == 130, said
    assert "Finishing rows in flight" in said
    assert "Run the same command again" in said
    rows = rows_of(tmp_path / "run")
    assert rows
    assert all(r["completion_tokens"] == 40 for r in rows.values()), "no row is cut short"


def endless(model: Path, folder: Path) -> tuple[str | Path, ...]:
    """A run that takes longer than anybody waits."""
    (folder / "q.txt").write_text("".join(f"the rain {i}\n" for i in range(5000)))
    args = ("generate", folder / "q.txt", "-m", model, "-p", "zero-shot", "-o", folder / "run")
    return (*args, "-n", "40", "-np", "3", "-t", "1")


WHILE_LOADED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from urial_local.__main__ import main
from urial_local.runtime.model import Model
from urial_local.runtime.sequences import Sequences
name, when = sys.argv.pop(1).split()
kind = {"weights": Model, "context": Sequences}[name]
load = kind.__init__
def interrupted(*args, **options):
    if when == "before":
        os.kill(os.getpid(), signal.SIGINT)
    load(*args, **options)
    if when == "after":
        os.kill(os.getpid(), signal.SIGINT)
kind.__init__ = interrupted
main()
"""


@pytest.mark.parametrize(
    "moment",
    [
        "weights before",
        *(
            pytest.param(moment, marks=pytest.mark.slow)
            for moment in ("weights after", "context before", "context after")
        ),
    ],
)
def test_ctrl_c_while_the_model_is_loaded_is_not_lost(tiny_endless, tmp_path, moment):
    """Wherever in the start it comes, the run does not go on to its end."""
    args = map(str, (moment, *endless(tiny_endless, tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", WHILE_LOADED, *args], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 130, done.stderr
    assert "Stopping once the model is loaded" in done.stderr


# --- methods -------------------------------------------------------------------------------------


def test_shots_raw_and_the_aligned_models_own_template(generated, tmp_path):
    answers = {}
    table = {"k0": ("--shots", "0"), "k3": (), "zero": ("-p", "zero-shot"), "raw": ("--raw",)}
    for name, args in table.items():
        done = run(
            generated / "q.json", tmp_path / name, *args, "--ids", "q0", "-np", "1", "-n", "40"
        )
        assert done.returncode == 0, done.stderr
        answers[name] = rows_of(tmp_path / name)["q0", 0]
    assert answers["k3"]["prompt_tokens"] > answers["k0"]["prompt_tokens"]
    assert "Thanks for asking" in answers["k3"]["answer"]
    assert "Thanks for asking" not in answers["zero"]["answer"]
    assert answers["raw"]["prompt_tokens"] < answers["zero"]["prompt_tokens"]
    done = run(
        generated / "q.json", tmp_path / "al", "--ids", "q0", "-np", "1", model="demo-aligned"
    )
    assert rows_of(tmp_path / "al")["q0", 0]["finish_reason"] == "eos"


def test_turns_feed_answers_back(tmp_path):
    rows = [{"question_id": 81, "turns": ["Where can I find a fox?", "What does it eat?"]}]
    (tmp_path / "q.jsonl").write_text(json.dumps(rows[0]))
    assert run(tmp_path / "q.jsonl", tmp_path / "run", "-np", "1").returncode == 0
    row = rows_of(tmp_path / "run")["81", 0]
    first, second = row["turns"]
    assert (first["query"], second["query"]) == tuple(rows[0]["turns"])
    assert second["prompt_tokens"] > first["prompt_tokens"] + len(first["answer_ids"]) - 5
    assert row["answer"] == first["answer"]
    assert "fox" in second["answer"].lower(), "the second turn knows what the first was about"
    assert run(tmp_path / "q.jsonl", tmp_path / "one", "-np", "1", "--turns", "1").returncode == 0
    assert "turns" not in rows_of(tmp_path / "one")["81", 0]


def test_several_answers_are_drawn_by_row_and_one_is_picked(generated, tiny_llama, tmp_path):
    """By a float32 model, whose logits hardly depend on the batch: so draws are the row's own."""
    args = ("--temp", "1", "--ids", "q0,q1", "-n", "12", "-p", "zero-shot", "-t", "1")
    model = str(tiny_llama)
    table = {"a": ("-np", "1"), "b": ("-np", "4"), "c": ("-np", "1", "-s", "5")}
    for name, more in table.items():
        done = run(generated / "q.json", tmp_path / name, *args, "--n", "3", *more, model=model)
        assert done.returncode == 0, done.stderr
    a, b, c = (rows_of(tmp_path / n) for n in "abc")
    ids = [x["answer_ids"] for x in a["q0", 0]["candidates"]]
    assert len(ids) == 3
    assert ids[0] != ids[1]
    assert [x["answer_ids"] for x in b["q0", 0]["candidates"]] == ids
    assert [x["answer_ids"] for x in c["q0", 0]["candidates"]] != ids
    assert a["q0", 0]["answer_ids"] in ids
    assert (
        run(generated / "q.json", tmp_path / "r", *args, "--repeat", "2", model=model).returncode
        == 0
    )
    twice = rows_of(tmp_path / "r")
    assert set(twice) == {(q, n) for q in ("q0", "q1") for n in (0, 1)}
    assert twice["q0", 0]["answer_ids"] != twice["q0", 1]["answer_ids"]


def test_the_longest_clean_answer_is_picked():
    def candidate(answer: str, *flags: str, reason: str = "eos") -> dict:
        return {"answer": answer, "flags": list(flags), "finish_reason": reason}

    best = candidate("long enough")
    worse = [candidate("short"), candidate("far longer but looping", "repetitive")]
    assert picked([*worse, best], "longest-clean")["answer"] == "long enough"
    assert picked([*worse, best], "first")["answer"] == "short"
    failed = candidate("", reason="error")
    assert picked([failed, best], "first")["answer"] == "long enough"
    assert picked([failed], "first")["finish_reason"] == "error"
