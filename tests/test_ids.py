"""What rows are called, whatever wrote the file; and which questions and answers cost their row."""

from __future__ import annotations

import json

import pytest

from urial_local.base.errors import UsageError
from urial_local.records.answers import given_answers
from urial_local.records.datasets import Fields, Selection, count, iterate, read_items
from urial_local.records.sources import open_source
from urial_local.tasks.evaluate.answered import read_answered
from urial_local.tasks.evaluate.job import plan, prepare, rows_to_judge
from urial_local.tasks.retrieve import Pool

HALF = '"\\ud800"'  # JSON of half a character


def jsonl(path, *rows) -> str:
    path.write_text(
        "".join(json.dumps({"query": f"q{n}"} | row) + "\n" for n, row in enumerate(rows))
    )
    return str(path)


def ids(path, *given, **more) -> list[str]:
    return [i.id for i in read_items(jsonl(path, *({"id": one} for one in given)), **more)]


def test_whole_floats_are_whole_numbers(tmp_path):
    path = tmp_path / "q.jsonl"
    assert ids(path, 10.0, 1.0, -0.0) == ["10", "1", "0"]
    wanted = Selection(ids=frozenset(["0"]))
    assert [i.query for i in read_items(path, selection=wanted)] == ["q2"]
    for one in (1, 1.0):
        with pytest.raises(UsageError, match="the id '1' twice"):
            ids(path, "1", one)


@pytest.mark.parametrize("bad", [1.5, 1e300, True, [1], {"a": 1}])
def test_what_is_no_id_is_an_error_of_its_row(tmp_path, bad):
    path = jsonl(tmp_path / "q.jsonl", {"id": bad}, {"id": "x"})
    first, second = read_items(path)
    assert "for its id" in first.error
    assert (second.id, second.error) == ("x", "")
    assert not read_items(path, Fields(id="none"))[0].error


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([None, None], ["0", "1"]),
        ([1, 2], ["1", "2"]),
        (["a", None, "c"], ["a", "1", "c"]),  # as ever: nothing else is called so
        ([100, "", 102], ["100", "1", "102"]),
        ([1, None], ["1", "row-2"]),
        ([None, 0], ["row-1", "0"]),
        ([None, 0, "row-1", "row--7"], ["row---1", "0", "row-1", "row--7"]),
    ],
)
def test_a_missing_id_takes_no_name_that_another_row_has(tmp_path, given, names):
    path = tmp_path / "q.jsonl"
    assert ids(path, *given) == names
    with open_source(str(path)) as source:
        assert [i.id for i in iterate(source)] == names, "without a count before it"
        assert count(source, selection=Selection(ids=frozenset(names))).rows == len(names)
    told = [row.id for row in read_answered(str(path))]
    assert told == names


def test_a_line_that_does_not_parse_takes_no_name_either(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"id":"line-2","query":"a"}\nnonsense\n')
    assert [i.id for i in read_items(path)] == ["line-2", "row-2"]
    path.write_text('{"id":"x","query":"a"}\nnonsense\n')
    assert [i.id for i in read_items(path)] == ["x", "line-2"]


def test_answers_without_ids_among_those_with_ids_are_found_by_question_only(tmp_path):
    questions = jsonl(tmp_path / "q.jsonl", {"id": 0}, {"id": 1})
    answers = tmp_path / "a.jsonl"
    answers.write_text('{"id":0.0,"answer":"zero"}\n{"id":null,"answer":"whose?"}\n')
    assert given_answers(str(answers), read_items(questions)) == {"0": "zero"}
    answers.write_text('{"answer":"zero"}\n{"answer":"one"}\n')
    assert given_answers(str(answers), read_items(questions)) == {"0": "zero", "1": "one"}


def test_where_and_tags_take_whole_floats(tmp_path):
    path = jsonl(tmp_path / "q.jsonl", {"difficulty": 3.0, "level": 2.0}, {"difficulty": 4})
    for where in (("difficulty", "3"), ("level", "2")):
        assert [i.query for i in read_items(path, selection=Selection(where=(where,)))] == ["q0"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": ["a", "b"]}, "a list of 2 in query"),
        ({"question": ["a", None]}, "a list of 2 in question"),
        ({"query": {"0": "a"}}, "by columns"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}, {"text": "b"}]}]}, "2 parts"),
        ({"query": "a\0b"}, "NUL"),
        ({"turns": ["a", "b\0"]}, "NUL"),
        ({"instruction": "a", "input": "\ud800"}, "a lone surrogate"),
    ],
)
def test_questions_of_which_a_part_would_be_asked_are_refused(tmp_path, row, said):
    rows = json.dumps([row, {"query": "b"}])
    (tmp_path / "q.json").write_text(rows)
    first, second = read_items(tmp_path / "q.json")
    assert said in first.error
    assert second.query == "b"
    (tmp_path / "q.json").write_text(json.dumps(row))
    with pytest.raises(UsageError, match="No row"):
        read_items(tmp_path / "q.json")


def test_lists_that_are_one_question_or_turns_are_read(tmp_path):
    rows = [{"query": ["a"]}, {"turns": ["a", "b"]}, {"conversations": ["a", "x"]}]
    rows.append({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]})
    (tmp_path / "q.json").write_text(json.dumps(rows))
    items = read_items(tmp_path / "q.json")
    assert [i.query for i in items] == ["a"] * 4
    assert items[1].later == ("b",)


def test_half_a_character_in_an_answer_costs_its_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"query":"a","answer":{HALF}}}\n{{"query":"b","answer":"yes"}}\n')
    rows = prepare(rows_to_judge(read_answered(str(path)), "general"), plan("general"))
    problems = {row["query"]: row.get("error", "") for row, _ in rows}
    assert "a lone surrogate" in problems["a"]
    assert not problems["b"]
    other = tmp_path / "b.jsonl"
    other.write_text('{"query":"a","answer":"x"}\n{"query":"b","answer":"y"}\n')
    against = {(row.id, row.repeat): row for row in read_answered(str(path))}
    pairs = rows_to_judge(read_answered(str(other)), "pairwise", against)
    assert sum("error" in row for row, _ in prepare(pairs, plan("pairwise"))) == 2  # both orders
    with Pool(str(path)) as pool:
        assert pool.size == 1
