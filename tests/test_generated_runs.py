"""What is told of generated answers, and what reads their runs: flags, show, exports, sweeps."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.command import fails, urial
from tests.generated_runs import QUESTIONS, run
from urial_local.records.datasets import read_items
from urial_local.records.generated import Generated
from urial_local.tasks.generate.flags import flags_of, repetitive, runaway
from urial_local.tasks.generate.summary import summarise


@pytest.mark.parametrize(
    ("text", "reason", "flags"),
    [
        ("A fine answer.", "eos", []),
        ("  \n", "eos", ["empty"]),
        ("cut off in the mid", "length", ["truncated"]),
        ("no no no no no no no no", "eos", ["repetitive"]),
        ("x" + " and so on" * 8, "frame", ["repetitive"]),
        ("Answer: 42", "eos", []),
        ("Yes.\nUser: And then?\nAssistant: Then no.", "eos", ["runaway"]),
        ("<|im_start|>user\nHi", "eos", ["runaway"]),
    ],
)
def test_flags(text, reason, flags):
    assert flags_of(text, reason) == flags


def test_lists_and_code_are_no_loops():
    assert not repetitive("\n".join(f"{i}. Item number {i} is its own line." for i in range(30)))
    assert not repetitive("1. a\n2. b\n3. c\n")
    assert not runaway("```\nUser: x\nUser: y\n```\nThat is how a log looks.")
    assert repetitive("Intro.\n" + "This is the very same line again.\n" * 4 + "End.")


def test_a_dialogue_counts_with_all_its_turns():
    def turn(words: int, reason: str = "frame") -> dict:
        answer = {"query": "q", "answer": "w " * words, "finish_reason": reason}
        return {"id": "1", "number": 0, **answer, "completion_tokens": 2 * words}

    plain = {**turn(4), "flags": []}
    dialogue = {**turn(2), "flags": ["truncated"], "turns": [turn(2), turn(6, "length")]}
    failed = {"id": "2", "number": 1, "error": "no"}
    found = summarise(map(Generated.read, (plain, dialogue, failed)))
    assert (found.answered, found.failed) == (2, 1)
    assert (found.ended, found.truncated) == (0.5, 0.5)
    assert (found.words, found.tokens) == (4, 8)


def test_show_side_by_side(generated, tmp_path):
    assert (
        run(generated / "q.json", tmp_path / "zero", "-p", "zero-shot", "-np", "4").returncode == 0
    )
    done = urial("show", generated / "run", tmp_path / "zero", "--id", "q1", COLUMNS="120")
    assert QUESTIONS[1] in done.stdout
    assert "─" in done.stdout
    assert "Thanks for asking" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert "no row 'zz'" in fails(2, "show", generated / "run", "--id", "zz")
    done = urial("report", generated / "run", tmp_path / "zero", "-o", tmp_path / "both.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "both.html").read_text()
    assert "default-src 'none'" in page
    assert done.stdout.count("\n") == 3


def test_exports(generated, tmp_path):
    def text(shape: str, *more: str) -> str:
        done = urial("export", generated / "run", "--to", shape, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    records = json.loads(text("just-eval", "--generator", "mine"))
    assert [r["id"] for r in records] == [f"q{i}" for i in range(len(QUESTIONS))]
    assert set(records[0]) == {
        *("id", "instruction", "source_id", "dataset", "category", "output"),
        *("generator", "datasplit"),
    }
    assert records[0]["generator"] == "mine"
    path = tmp_path / "out.json"
    assert urial("export", generated / "run", "--to", "just-eval", "-o", path).returncode == 0
    again = read_items(path)
    assert [i.query for i in again] == QUESTIONS
    assert [i.answer for i in again] == [r["output"] for r in records]
    assert isinstance(json.loads(text("alpaca-eval"))[0]["output"], str)
    assert isinstance(json.loads(text("alpaca-eval", "--compat", "urial"))[0]["output"], list)
    lines = list(csv.DictReader(io.StringIO(text("csv"))))
    assert [line["query"] for line in lines] == QUESTIONS
    assert text("text").startswith(f"[q0] {QUESTIONS[0]}\n\n")
    assert "no question_id" in fails(2, "export", generated / "run", "--to", "fastchat")


def test_compat_deletes_every_fence():
    from urial_local.records.formats import Export

    code = "Run:\n```python\nprint(1)\n```\nDone<|endoftext|>"
    assert Export("g", {}).text(code) == code
    assert Export("g", {}, "urial").text(code) == "Run:\npython\nprint(1)\n\nDone"


@pytest.mark.slow
def test_mt_bench_round_trip(shared_file, tmp_path):
    questions = shared_file("data/mt_bench/question.jsonl")
    done = run(questions, tmp_path / "run", "--limit", "4", "-np", "4", "-n", "30")
    assert done.returncode == 0, done.stderr
    done = urial("export", tmp_path / "run", "--to", "fastchat", "--generator", "m")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [r["question_id"] for r in records] == [81, 82, 83, 84]
    assert all(len(r["choices"][0]["turns"]) == 2 for r in records)
    assert all(len(r["answer_id"]) == 22 for r in records)
    records = json.loads(urial("export", tmp_path / "run", "--to", "mt-bench").stdout)
    assert len(records) == 8
    assert {"turn2_output", "question_id", "category", "turn_id"} <= set(records[1])
    done = urial("export", tmp_path / "run", "--to", "csv")
    turns = [(line["id"], line["turn"]) for line in csv.DictReader(io.StringIO(done.stdout))]
    assert turns[:3] == [("81", "1"), ("81", "2"), ("82", "1")]


def test_a_sweep(generated, tmp_path):
    args = ("sweep", generated / "q.json", "--limit", "4", "-m", "demo", "-p", "zero-shot")
    args = (*args, "-p", "urial-demo", "--repeat-penalty", "1.0,1.2", "-np", "2", "-n", "60")
    done = urial(*args, "-o", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [
        *("demo__zero-shot__rp1", "demo__zero-shot__rp1.2"),
        *("demo__urial-demo__rp1", "demo__urial-demo__rp1.2"),
    ]
    assert all(cell["answered"] == 4 for cell in found.values())
    assert found["demo__urial-demo__rp1"]["words"] > found["demo__zero-shot__rp1"]["words"]
    again = urial(*args, "-o", tmp_path / "runs")
    assert "4 rows are already there" in again.stderr
    assert again.stdout.count("\n") == 5


@pytest.mark.slow
def test_rows_of_a_large_file_are_read_as_they_are_needed(tmp_path):
    """A file is checked in one pass and answered in another; neither holds its rows."""
    import tracemalloc

    from urial_local.records.datasets import count, iterate
    from urial_local.records.sources import open_source

    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps({"id": i, "query": "x" * 1000}) + "\n")
    tracemalloc.start()
    with open_source(str(path)) as source:
        assert count(source) == (20_000, 0, 0)
        assert sum(1 for _ in iterate(source)) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6, "20 MB of rows"


def test_the_fastest_number_of_rows_is_kept():
    from tests.fakes import ByteVocab, FakeDecoder, random_logits
    from urial_local.runtime.engine import Engine
    from urial_local.runtime.rows import Request
    from urial_local.tasks.generate.parallel import fastest

    heard = {}
    decoder = FakeDecoder(random_logits(), n_seq=9, cells=4096)
    engine = Engine(ByteVocab(), decoder)
    best = fastest(engine, Request([1, 2, 3]), [1, 4, 8], lambda n, rate: heard.update({n: rate}))
    assert set(heard) == {1, 4, 8}
    assert best in heard
