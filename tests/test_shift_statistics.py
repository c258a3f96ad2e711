"""Statistics of shift runs: intervals, curves, style, and rows that are not whole."""

from __future__ import annotations

import json

import numpy as np
import pytest

from urial_local.tasks.intervals import POSITIVE, ratio_intervals
from urial_local.tasks.shift.curves import curve, position_edges
from urial_local.tasks.shift.style import is_stylistic


def test_impossible_tokens_and_broken_rows_can_be_summarised():
    from urial_local.runtime.shift_rows import shift_rows_numpy
    from urial_local.tasks.shift.record import ALIGNED_COLUMNS, CONTEXT_COLUMNS, Answer, to_json
    from urial_local.tasks.shift.scoring import columns
    from urial_local.tasks.shift.summary import summarise

    base = np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)
    aligned = base.copy()
    base[0, 5] = -np.inf  # the token that was written
    base[1] = np.nan
    aligned[2, 3] = np.inf
    found = columns(shift_rows_numpy(base, aligned, np.full(4, 5, np.int32)))
    row = {"id": "a", "number": 0, "aligned": "m", "query": "q", "answer_ids": [5] * 4}
    row |= {"ended": True, "end_token": False, "contexts": {"c": to_json(found, CONTEXT_COLUMNS)}}
    row |= to_json(found, ALIGNED_COLUMNS)
    row = json.loads(json.dumps(row, allow_nan=False))
    texts = {"m": [str(i) for i in range(20)]}
    context = summarise([Answer.read(row)], texts)["m"]["c"]
    written = json.loads(json.dumps(context.as_json(), allow_nan=False))
    unsound = {"base_not_finite": 1, "aligned_not_finite": 1, "infinite_divergence": 1}
    assert written["unsound"] == unsound
    assert context.classes.positions == 2, "two positions have two distributions"
    assert context.kl.values.n == 1
    assert context.base_prob.min == 0


def test_answers_belong_to_their_questions(tmp_path):
    """By id where the file has it and does not say another question, else by a text of its own."""
    from urial_local.base.errors import UsageError
    from urial_local.records.answers import given_answers
    from urial_local.records.datasets import Item

    items = [Item("a", 0, "Hi"), Item("b", 1, "Hi"), Item("c", 2, "Bye"), Item("d", 3, "Hm")]
    path = tmp_path / "a.json"

    def given(*rows: dict) -> dict:
        path.write_text(json.dumps(rows))
        return dict(given_answers(str(path), items))

    one, two = {"id": "a", "query": "Hi", "output": "1"}, {"id": "b", "query": "Hi", "output": "2"}
    assert given(one, two) == {"a": "1", "b": "2"}
    assert given({"id": "a", "output": "1"}) == {"a": "1"}, "no question is needed beside an id"
    assert given({"id": "a", "query": "Bye", "output": "3"}) == {"c": "3"}
    assert given({"id": 8, "query": "Hi", "output": "4"}) == {"a": "4", "b": "4"}
    with pytest.raises(UsageError, match="No question has an answer"):
        given({"id": 8, "query": "Hi", "output": "4"}, {"id": 9, "query": "Hi", "output": "5"})


def test_intervals_of_shares_agree_with_theory():
    """For equal answer lengths a share is a mean: its interval is near ± 1.96 standard errors."""
    rng = np.random.default_rng(0)
    n, length = 400, 50
    hits = rng.binomial(length, 0.3, size=(n, 1)).astype(float)
    low, high = ratio_intervals(hits, np.full((n, 1), float(length)))
    error = hits.std() / length / np.sqrt(n)
    assert (high - low)[0] == pytest.approx(2 * 1.966 * error, rel=0.01)
    assert low[0] < hits.sum() / (n * length) < high[0]
    same = ratio_intervals(np.full((5, 1), 2.0), np.full((5, 1), 8.0))
    assert np.isnan(same).all(), "alike, they do not say how answers vary"
    assert np.isnan(ratio_intervals(np.zeros((3, 1)), np.zeros((3, 1)))[0][0])
    assert np.isnan(ratio_intervals(np.ones((1, 1)), np.ones((1, 1)))[0][0]), "one says nothing"


def test_curves_average_within_answers_first():
    # Bin 0: answer 0 has 1 and 3 (mean 2), answer 1 has 8; bin 1: answer 1 only.
    values = np.array([1.0, 3.0, 8.0, 5.0])
    found = curve(values, np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), 3, POSITIVE)
    assert found.answers == [2, 1, 0]
    assert found.mean == [5.0, None, None], "a bin of one answer of two is left out"
    assert found.low == found.high == [None] * 3, "two answers carry no band"


def test_bands_of_curves_are_intervals_of_means():
    """Student's t on the logarithm, from five answers on; ranks have none."""
    values = np.array([1.0, 2.0, 3.0, 4.0, 6.0])
    bins, answers = np.zeros(5, np.int64), np.arange(5)
    found = curve(values, bins, answers, 1, POSITIVE)
    reach = 2.776445 * np.std(values, ddof=1) / np.sqrt(5) / values.mean()
    assert found.low[0] == pytest.approx(values.mean() * np.exp(-reach), rel=1e-4)
    assert found.high[0] == pytest.approx(values.mean() * np.exp(reach), rel=1e-4)
    assert curve(values[:4], bins[:4], answers[:4], 1, POSITIVE).low == [None]
    assert curve(values, bins, answers, 1, None).low == [None]


@pytest.mark.parametrize("longest", [1, 5, 16, 17, 300, 5000])
def test_bins_cover_every_position_once(longest):
    edges = position_edges(longest)
    assert edges[0] == 0
    assert edges[-1] == longest
    assert (np.diff(edges) > 0).all()


def test_style_words():
    for text in (" However", "\n\n", " the", "Thank", ",", " **", "▁Sure"):
        assert is_stylistic(text), text
    for text in (" fox", "42", " Paris", " boil"):
        assert not is_stylistic(text), text


def test_records_are_what_the_file_says(tmp_path):
    """Each name of summary.json with the number that the attribute has."""
    from tests.crafted_runs import shift_run
    from urial_local.tasks.shift.results import ShiftRun, write_summary

    shift_run(tmp_path, 6, 30)
    summary = write_summary(ShiftRun(tmp_path))
    written = json.loads((tmp_path / "summary.json").read_text())["aligned"]["a"]
    found, urial = summary.aligned["a"], written["contexts"]["urial"]
    assert (found.reference, found["zero-shot"].repaired) == ("zero-shot", None)
    shifted, repaired, kl = found["urial"].shifted, found["urial"].repaired, found["urial"].kl
    assert urial["classes"]["shifted"] == {
        "count": shifted.count,
        "share": shifted.share,
        "low": shifted.interval.low,
        "high": shifted.interval.high,
    }
    assert (urial["repairs"]["repaired"], urial["repairs"]["share"]) == (
        repaired.count,
        repaired.share,
    )
    ends = (kl.interval.low, kl.interval.high)
    assert (urial["kl_base_aligned"]["mean_low"], urial["kl_base_aligned"]["mean_high"]) == ends
    assert (urial["kl_base_aligned"]["mean"], urial["kl_base_aligned"]["median"]) == (
        kl.mean,
        kl.values.median,
    )
    assert kl.interval.low < kl.mean < kl.interval.high


def test_a_context_that_was_measured_nowhere_is_summarised_without_warnings(tmp_path):
    """Also for tags; and a batch shape that moved nothing measurable has no line."""
    from tests.crafted_runs import shift_run
    from urial_local.cli.plumbing.shift_results import summary_lines
    from urial_local.tasks.shift.results import ShiftRun, write_summary

    shift_run(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    for row in rows[:-1]:
        for column in ("status", "base_rank"):
            row["contexts"]["urial"][column] = [int(column == "status")] * len(row["answer_ids"])
    rows[0]["batch_shape"]["base_logprob"] = [None] * 4
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = write_summary(ShiftRun(tmp_path))
    tag = summary.aligned["a"]["urial"].tags["task"]["math"]
    assert (tag.positions, tag.shifted.share, tag.kl) == (0, None, None)
    assert summary.aligned["a"].batch_shape.positions == 4
    assert not any("batch shape" in line for line in summary_lines(summary))
