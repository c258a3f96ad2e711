"""Datasets: formats, known sets, rows that cannot be used."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tests.command import urial
from tests.hub_server import serving
from urial_local.base.errors import UsageError
from urial_local.records.datasets import count, iterate, read_items
from urial_local.records.parquet import parquet_rows
from urial_local.records.sources import open_source


def write(path, text):
    path.write_text(text, "utf-8")
    return path


def test_formats(tmp_path):
    table = [
        ("q.txt", "one\n\ntwo\r\n", ["one", "two"]),
        ("q.json", '[{"instruction": "one"}, {"query": "two"}]', ["one", "two"]),
        ("q.jsonl", '{"question": "one"}\n{"prompt": "two"}\n', ["one", "two"]),
        ("q.csv", 'id,question\n7,"one, and\nmore"\n8,two\n', ["one, and\nmore", "two"]),
        ("q.tsv", "id\tquery\n1\tone\n", ["one"]),
        ("mt.jsonl", '{"question_id": 81, "turns": ["one", "then"]}\n', ["one"]),
        ("lima.json", '[{"conversations": ["one", "answer"]}]', ["one"]),
        ("chat.json", '[{"conversations": [{"from": "human", "value": "one"}]}]', ["one"]),
        ("alpaca.json", '[{"instruction": "add", "input": "1 2", "output": "3"}]', ["add\n\n1 2"]),
    ]
    for name, text, queries in table:
        assert [i.query for i in read_items(write(tmp_path / name, text))] == queries, name
    assert [i.id for i in read_items(tmp_path / "q.csv")] == ["7", "8"]
    assert read_items(tmp_path / "alpaca.json")[0].answer == "3"
    assert read_items(tmp_path / "mt.jsonl")[0].id == "81"
    assert read_items(tmp_path / "mt.jsonl")[0].later == ("then",)
    assert read_items(tmp_path / "lima.json")[0].answer == "answer"


def test_tags_and_given_answers(tmp_path):
    text = '[{"id": 3, "instruction": "q", "output": ["a"], "task": ["x", "y"], "category": "c"}]'
    (item,) = read_items(write(tmp_path / "q.json", text))
    assert (item.id, item.answer) == ("3", "a")
    assert item.tags == {"category": ("c",), "task": ("x", "y")}


def test_a_bad_row_does_not_stop_the_others(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_bytes(b'{"query": "one"}\n{oops\n{"other": 1}\n\xff\xfe\n{"query": "two"}\n')
    items = read_items(path)
    assert [i.query for i in items] == ["one", "", "", "", "two"]
    assert "Line 2 is not JSON" in items[1].error
    assert "no text in query or" in items[2].error
    assert "its fields: other" in items[2].error
    assert "Line 4 is not valid UTF-8" in items[3].error


def test_bytes_that_are_not_text_in_a_json_array_cost_one_row(tmp_path):
    path = tmp_path / "q.json"
    long = "word " * 40_000  # over the reader's pieces, and a character across their border
    path.write_bytes(
        b'[{"query": "one"}, {"query": "tw\xffo"}, {"query": "three", "x": ["\xe4\xb8"]},'
        + f'{{"query": "é{long}é"}}, {{"query": "日本"}}]'.encode()
    )
    items = read_items(path)
    assert [i.query[:3] for i in items] == ["one", "", "", "éwo", "日本"]
    assert items[3].query == f"é{long}é"
    assert "Row 2 is not valid UTF-8" in items[1].error
    assert "Row 3 is not valid UTF-8" in items[2].error


def test_conversations_say_what_is_not_asked(tmp_path):
    def said(*turns: str) -> dict:
        return {"messages": [{"role": r, "content": f"{r} {i}"} for i, r in enumerate(turns)]}

    rows = [said("user", "assistant"), said("system", "user"), said("user", "assistant", "user")]
    path = write(tmp_path / "q.json", json.dumps(rows))
    assert [i.query for i in read_items(path)] == ["user 0", "user 1", "user 0"]
    assert [i.cut for i in read_items(path)] == [False, True, True]
    with open_source(str(path)) as source:
        assert count(source) == (3, 0, 2)


def test_standard_input_tells_its_format(monkeypatch):
    class Stdin:
        def __init__(self, text: str) -> None:
            self.buffer = io.BytesIO(text.encode())

    table = [
        ('[{"query": "one"}]', "json", "one"),
        ('{"query": "one"}\n{"query": "two"}', "jsonl", "one"),
        ('{\n "query": "one"}', "json", "one"),
        ('id,question\n1,"one, two"\n', "csv", "one, two"),
        ("id\tquery\tx\n1\tone\t2\n", "tsv", "one"),
        ("Is it so, or not?\nquery\n", "text", "Is it so, or not?"),
    ]
    for text, kind, query in table:
        monkeypatch.setattr(sys, "stdin", Stdin(text))
        with open_source("-") as source:
            assert source.kind == kind
            assert next(iterate(source)).query == query


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.json", "[{not json", "is not JSON"),
        ("q.json", "{not json", "is not JSON"),
        ("q.txt", "\n\n", "is empty"),
        ("q.dat", "x", "no extension that tells its format"),
        ("q.json", "[]", "is empty"),
        ("q.jsonl", '{"id": 1, "query": "a"}\n{"id": 1, "query": "b"}\n', "id '1' twice"),
        ("q.jsonl", '{"x": 1}\n', "No row"),
        ("q.csv", 'id,query\n1,"abc\n2,fox\n', "line"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, name, text, message):
    with pytest.raises(UsageError, match=message):
        read_items(write(tmp_path / name, text))


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "questions.txt", "x")
    with pytest.raises(UsageError, match="no file") as caught:
        read_items(tmp_path / "question.txt")
    assert "questions.txt" in caught.value.hint


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    from pyarrow import Table, parquet

    table = Table.from_pylist([{"id": 1, "query": "one", "task": ["a"]}, {"id": 2, "query": "two"}])
    parquet.write_table(table, tmp_path / "q.parquet")
    items = read_items(tmp_path / "q.parquet")
    assert [(i.id, i.query) for i in items] == [("1", "one"), ("2", "two")]
    assert items[0].tags == {"task": ("a",)}
    write(tmp_path / "bad.parquet", "not parquet")
    with pytest.raises(UsageError, match="not a Parquet file"):
        read_items(tmp_path / "bad.parquet")


def test_parquet_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    write(tmp_path / "q.parquet", "x")
    with pytest.raises(UsageError, match="needs pyarrow") as caught:
        list(parquet_rows(tmp_path / "q.parquet", "q.parquet"))
    assert "[data]" in caught.value.hint


def test_a_dataset_on_the_hub(tmp_path, monkeypatch):
    """A local server plays the hub's part; the client is the real one."""
    row = b'{"query": "Where can I find a fox?"}\n'
    repos = {"user/set": {"README.md": b"x", "q.jsonl": row, "data/other.json": b"[]"}}
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def generate(name: str, *args: str):
        return urial("generate", name, "-o", tmp_path / name[-6:], "-n", "4", "-np", "1", *args)

    with serving(repos) as hub:
        for key, value in hub.env.items():
            monkeypatch.setenv(key, value)
        done = generate("hf:user/set:q.jsonl")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "q.jsonl"[-6:] / "rows.jsonl").read_text().count("fox") >= 1
        done = generate("hf:user/set")
        assert done.returncode == 2
        assert "2 data files" in done.stderr
        assert "q.jsonl, data/other.json" in done.stderr
        assert "no dataset user/none" in generate("hf:user/none:q.jsonl").stderr
        assert "no file" in generate("hf:user/set:gone.jsonl").stderr
        assert "is not a dataset name" in generate("hf:nonsense").stderr
        del repos["user/set"]["data/other.json"]
        assert generate("hf:user/set").returncode == 0


def test_small_kindnesses(tmp_path):
    """A byte order mark, plain strings in a list, numbers as tags, a format that is named."""
    (tmp_path / "bom.jsonl").write_bytes(b'\xef\xbb\xbf{"query": "one", "difficulty": 3}\n')
    (item,) = read_items(tmp_path / "bom.jsonl")
    assert (item.query, item.tags) == ("one", {"difficulty": ("3",)})
    assert [i.query for i in read_items(write(tmp_path / "s.json", '["a", "b"]'))] == ["a", "b"]
    path = write(tmp_path / "rows.data", '{"query": "one"}\n')
    assert read_items(path, kind="jsonl")[0].query == "one"


def test_the_known_sets(shared_file):
    items = read_items(shared_file("data/just_eval/zephyr-7b-beta.to_eval.json"))
    assert len(items) == 1000
    assert all(i.query and i.answer for i in items)
    assert sum("info-seek" in i.tags.get("task", ()) for i in items) == 431
    assert {v for i in items for v in i.tags["category"]} == {"regular", "safety"}
    questions = read_items(shared_file("data/mt_bench/question.jsonl"))
    assert [i.id for i in questions] == [str(n) for n in range(81, 161)]
    judged = read_items(shared_file("data/just_eval/1.score_multi.gpt-4.json"))
    assert all(i.query and i.answer for i in judged)
    safety = read_items(shared_file("data/just_eval/1.safety.score_safety.chatgpt.json"))
    assert not any("malicious query" in i.query.lower()[:60] for i in safety), "not the judge's"
