"""Records of judgements: what is taken for one, from our runs and from files of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from urial_local.base.errors import RunError, UsageError
from urial_local.records.judged import (
    JudgedRow,
    is_judged,
    just_eval_record,
    of_row,
    read_judgements,
)
from urial_local.tasks.evaluate.modes import GENERAL, MODES
from urial_local.tasks.evaluate.tags import count_tags, tags_of


def test_scores_off_the_scale_are_errors(tmp_path):
    def written(score: object) -> Path:
        record = {"depth": {"reason": "r", "score": score}}
        row = {"id": 1, "input": "q", "output_cand": "a", "parsed_result": record}
        row["eval_config"] = {"mode": "score_multi", "gpt": "j"}
        path = tmp_path / "x.json"
        path.write_text(json.dumps([row]))
        return path

    for good, score in (("5", 5.0), (4, 4.0), (" 3 ", 3.0), ("2.5", 2.5), (" n/a ", None)):
        (j,) = read_judgements(str(written(good)))
        assert (j.error, j.score("depth")) == ("", score)
        assert j.not_applicable("depth") == (score is None)
    for wrong in ("10", "1_0", 0, -3, "99", "5/5", True, None, [5], {"x": 1}, 1e300, "nan", "٣"):
        (j,) = read_judgements(str(written(wrong)))
        assert "not on the scale" in j.error, wrong


def test_schema_and_check():
    jsonschema_like = MODES["general"].schema()
    assert jsonschema_like["required"] == list(GENERAL)
    assert jsonschema_like["additionalProperties"] is False
    good = {a: {"reason": "r", "score": 4} for a in GENERAL}
    assert MODES["general"].check(good)["depth"] == {"reason": "r", "score": "4"}
    assert MODES["general"].check({**good, "extra": 1}).keys() == good.keys()
    for wrong, said in (
        ({**good, "depth": {"reason": "r"}}, "depth.score is missing"),
        ({**good, "depth": {"reason": "r", "score": "7"}}, "not one of 1, 2"),
        ({**good, "depth": {"reason": "r", "score": True}}, "is not a text"),
        ({**good, "depth": "4"}, "is missing"),
        ([], "is missing"),
    ):
        with pytest.raises(ValueError, match=said):
            MODES["general"].check(wrong)
    tags = {"task": dict.fromkeys(("info-seek", "reasoning", "procedure", "writing", "coding",
            "role-play", "math"), "No")}  # fmt: skip
    with pytest.raises(ValueError, match="topic"):
        MODES["tags"].check(tags)


def test_pairs_and_turns_come_back_from_just_evals_shape(tmp_path):
    base = {"number": 0, "query": "q", "answer": "ours", "generator": "one", "prompt": "p"}
    rows = [
        {**base, "id": "7", "mode": "pairwise", "order": "BA", "repeat": 2, "other": "theirs",
         "other_generator": "two", "parsed_result": {"rationale": "", "choices": {"depth": "A"}}},
        {**base, "id": "8", "mode": "mt-bench", "turn": 2, "order": "",
         "parsed_result": {"rating": {"reason": "r", "score": "9"}}},
    ]  # fmt: skip
    path = tmp_path / "x.json"
    path.write_text(json.dumps([just_eval_record(JudgedRow.read(row), "j") for row in rows]))
    assert json.loads(path.read_text())[0]["output_A"] == "theirs", "which stood first"
    found = list(read_judgements(str(path)))
    for j, row in zip(found, rows, strict=True):
        assert j == of_row(JudgedRow.read(row), "j")


def test_ids_that_come_twice_do_not_hide_each_other(tmp_path):
    row = {"id": 1, "input": "q", "output_cand": "a", "parsed_result": {},
           "eval_config": {"mode": "score_multi", "gpt": "j"}}  # fmt: skip
    path = tmp_path / "x.json"
    path.write_text(json.dumps([row, {**row, "parsed_result": None}, row]))
    assert [j.repeat for j in read_judgements(str(path))] == [0, 1, 2]
    assert is_judged(str(path))
    path.write_text(json.dumps([{"instruction": "q", "output": "a"}]))
    assert not is_judged(str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parsed_result": [1]}, "parsed_result must be an object, not a list"),
        ({"repeat": "x"}, "repeat must be a whole number, not text"),
        ({"repeat": -1}, "repeat must be from 0"),
        ({"tags": [1]}, "tags must be an object"),
        ({"tags": {"task": "x"}}, r"tags\.task must be a list, not text"),
        ({"flags": 5}, "flags must be a list, not a number"),
        ({"turn": [1]}, "turn must be text or a whole number, not a list"),
        ({"mode": "poetry"}, "mode must be one of 'general', "),
        ({"expected": {"depth": "x"}}, r"expected\.depth must be a number, not text"),
        ({"expected": {"depth": 1e300}}, r"expected\.depth must be from 0 to 10"),
        ({"expected": {"depth": float("nan")}}, "not JSON: it holds NaN"),
    ],
)
def test_rows_that_were_changed_from_outside(change, said, tmp_path):
    (tmp_path / "run.json").write_text(
        json.dumps({"format": 1, "config": {"task": "evaluate", "judge": {"name": "j"}}})
    )
    row = {"id": "1", "mode": "general", "order": "", "turn": 0, "repeat": 0, **change}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(RunError, match=rf"rows\.jsonl, line 1: .*{said}"):
        list(read_judgements(str(tmp_path)))


def test_odd_files_of_others(tmp_path):
    path = tmp_path / "x.json"
    deep = "[" * 5000 + "]" * 5000
    for config in ('{"mode": ["a"]}', '{"mode": "reward"}', "5", "null"):
        path.write_text(f'[{{"id": 1, "parsed_result": {{}}, "eval_config": {config}}}]')
        with pytest.raises(UsageError, match="not a known kind of judgement"):
            list(read_judgements(str(path)))
    path.write_text(f'[{{"id": 1, "x": {deep}}}]')
    with pytest.raises(UsageError):
        list(read_judgements(str(path)))


def test_tags_of_a_judge():
    record = {"task": {"math": "yes", "coding": "no"}, "topic": {"stem": "yes"}}
    record["difficulty"] = "hard"
    row = {"id": "1", "mode": "tags", "order": "", "parsed_result": record}
    j = of_row(JudgedRow.read(row), "j")
    assert tags_of(j) == {"task": ("math",), "topic": ("stem",), "difficulty": ("hard",)}
    assert count_tags([j, j])["task"] == {"math": 2}
    assert count_tags([]) is None
