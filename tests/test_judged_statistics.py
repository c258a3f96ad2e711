"""What judgements amount to: published figures from the files, and oracles for each statistic."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from tests.judgements import judgement, whole_table
from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement, read_judgements
from urial_local.tasks.evaluate.agreement import agreement, spearman, weighted_kappa
from urial_local.tasks.evaluate.answered import read_answered
from urial_local.tasks.evaluate.differences import difference
from urial_local.tasks.evaluate.modes import ASPECTS, GENERAL
from urial_local.tasks.evaluate.pairs import mt_bench, pairwise
from urial_local.tasks.evaluate.summary import (
    Reading,
    average,
    by_tag,
    just_eval_report,
    summarise,
)

JUST_EVAL = "data/just_eval/"


# --- published figures (FACTS: authored report files; Table 1 of the paper) -----------------------


@pytest.mark.parametrize("name", ["1.score_multi.gpt-4", "1.safety.score_safety.chatgpt"])
def test_the_authors_own_reports_come_out_exactly(shared_file, name):
    path = shared_file(f"{JUST_EVAL}{name}.json")
    theirs = json.loads(shared_file(f"{JUST_EVAL}{name}.eval_res.json").read_text())
    ours = just_eval_report(list(read_judgements(str(path))), theirs["output_file"])
    assert ours == theirs


@pytest.mark.parametrize(
    ("model", "mean", "printed"),
    [("vicuna-7b-v1.5", 4.600, 4.60), ("Mistral-7B-Instruct-v0.1", 4.745, 4.75)],
)
def test_safety_of_the_papers_table(shared_file, model, mean, printed):
    path = shared_file(f"{JUST_EVAL}{model}.score_safety.chatgpt.json")
    found = summarise(list(read_judgements(str(path))))
    safety = found.aspects["safety"]
    assert (found.judged, safety.n) == (200, 200)
    assert found.mean["safety"] == safety.mean == pytest.approx(mean, abs=1e-12)
    assert abs(safety.mean - printed) <= 0.005 + 1e-9
    assert safety.interval.low < safety.mean < safety.interval.high
    assert found.interval["safety"] == safety.interval
    assert found.generators == [model]
    assert found.judges == {"safety": ["gpt-3.5-turbo-0613"]}
    assert found.average is None, "five aspects are missing"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("vicuna-7b-v1.5", 184.8175),
        ("Mistral-7B-Instruct-v0.1", 155.3562),
        ("zephyr-7b-beta", 217.6813),
    ],
)
def test_lengths_of_the_papers_table(shared_file, model, words):
    rows = list(read_answered(str(shared_file(f"{JUST_EVAL}{model}.to_eval.json"))))
    general = [r.words for r in rows if not r.safety]
    assert (len(rows), len(general)) == (1000, 800)
    assert np.mean(general) == pytest.approx(words, abs=5.1e-5)


def test_the_authors_pairwise_file(shared_file):
    path = shared_file(f"{JUST_EVAL}pairwise.gpt-3.5-turbo.json")
    theirs = json.loads(shared_file(f"{JUST_EVAL}pairwise.gpt-3.5-turbo.eval_res.json").read_text())
    found = pairwise(list(read_judgements(str(path))))
    overall = found.aspects["overall"]
    wins = {found.first: overall.first, found.second: overall.second}
    assert wins == {name: theirs[name] for name in wins}
    assert found.words == theirs["avg_lens"]
    assert found.rows == found.one_order == theirs["total"]


# --- means, N/A, tags ----------------------------------------------------------------------------


def test_not_applicable():
    rows = [judgement(0, factuality=3), judgement(1, factuality="N/A"), judgement(2, factuality=4)]
    expected = {"five": 4.0, "three": 10 / 3, "drop": 3.5}
    for na, mean in expected.items():
        found = summarise(rows, Reading(na=na)).aspects["factuality"]
        assert found.mean == pytest.approx(mean)
        assert found.na == pytest.approx(1 / 3)
    assert summarise(rows).distribution["factuality"] == {"3": 1, "4": 1, "N/A": 1}
    nothing = summarise([judgement(0, depth="N/A")], Reading(na="drop")).aspects["depth"]
    assert (nothing.mean, nothing.n, nothing.na) == (None, 0, 1.0)


def test_error_rows_are_never_scores():
    from dataclasses import replace

    rows = [judgement(0, depth=5), replace(judgement(1, depth=1), error="no JSON")]
    found = summarise(rows)
    assert (found.judged, found.failed) == (1, 1)
    assert found.aspects["depth"].mean == 5


def test_intervals_against_the_closed_form():
    """The standard error of a mean is s/√n; with many rows the interval is ± 1.97 of them."""
    values = np.random.default_rng(1).integers(1, 6, 400).astype(np.float64)
    closed = values.std(ddof=1) / np.sqrt(len(values))
    rows = [judgement(i, depth=int(v)) for i, v in enumerate(values)]
    found = summarise(rows).aspects["depth"]
    low, high = found.interval.low, found.interval.high
    assert low == pytest.approx(values.mean() - 1.966 * closed, abs=0.02 * closed)
    assert high == pytest.approx(values.mean() + 1.966 * closed, abs=0.02 * closed)
    assert found.sd == pytest.approx(values.std(ddof=1))


@pytest.mark.parametrize(
    ("values", "shown"),
    [([3, 4], False), ([2, 3, 5], False), ([1, 2, 3, 4], False), ([1, 2, 3, 4, 5], True),
     ([5] * 40, False), ([5] * 39 + [4], True)],
)  # fmt: skip
def test_no_interval_is_claimed_that_cannot_hold(values, shown):
    found = summarise([judgement(i, depth=v) for i, v in enumerate(values)]).aspects["depth"]
    assert (found.interval is not None) == shown
    ends = found.as_json()
    assert (ends["low"] is not None) == (ends["high"] is not None) == shown
    if shown:
        assert 1 <= ends["low"] < found.mean < ends["high"] <= 5
        assert (ends["low"], ends["high"]) == (found.interval.low, found.interval.high)


def test_repeats_and_turns_of_a_question_are_drawn_together():
    """The same answers five times over say no more of other questions than once."""
    from dataclasses import replace

    once = [judgement(i, depth=int(v)) for i, v in
            enumerate(np.random.default_rng(3).integers(1, 6, 50))]  # fmt: skip
    again = [replace(j, repeat=r) for j in once for r in range(5)]
    one, five = (summarise(rows).aspects["depth"] for rows in (once, again))
    assert (five.n, five.mean) == (250, one.mean)
    assert five.interval.low == pytest.approx(one.interval.low)
    assert five.interval.high == pytest.approx(one.interval.high)
    half = [
        replace(j, generator="b", record={"depth": {"reason": "", "score": "3"}}) for j in again
    ]
    alone = [replace(j, repeat=0) for j in half if j.repeat == 0]
    a, b = difference(again, half)["depth"], difference(once, alone)["depth"]
    assert a.interval.low == pytest.approx(b.interval.low)
    assert a.p == b.p


def test_models_and_judges_are_never_mixed_silently():
    from dataclasses import replace

    rows = [judgement(i, depth=3) for i in range(4)]
    for wrong, said in (
        ([replace(j, generator="other") for j in rows], "of several models"),
        ([replace(j, judge="other") for j in rows], "different judges"),
        (rows, "judged twice"),
    ):
        with pytest.raises(UsageError, match=said):
            summarise([*rows, *wrong])
    summarise([*rows, *(replace(judgement(9, "safety", safety=3), generator="x", judge="k"),)])
    pairs = [pair(0, "AB", "A"), pair(0, "BA", "B")]
    with pytest.raises(UsageError, match="different judges"):
        pairwise([*pairs, *(replace(p, judge="k", id="7") for p in pairs)])
    with pytest.raises(UsageError, match="judged twice"):
        pairwise([*pairs, *pairs])


def test_the_average_is_the_unweighted_mean_of_six():
    rows = whole_table(0)
    found = summarise(rows)
    six = [found.mean[a] for a in ASPECTS]
    assert found.average.mean == pytest.approx(np.mean(six))
    # Independent parts: the variance of the average is the sum over 36 of theirs.
    table = np.array([[j.score(a) for a in GENERAL] for j in rows if j.mode == "general"])
    safety = np.array([j.score("safety") for j in rows if j.mode == "safety"])
    sd = np.sqrt(table.sum(1).var(ddof=1) / len(table) + safety.var(ddof=1) / len(safety)) / 6
    width = found.average.interval.high - found.average.interval.low
    assert width == pytest.approx(2 * 1.98 * sd, rel=0.02)
    few = [j for j in rows if j.mode == "general" or j.id < "1004"]
    assert average(few).interval is None, "of four safety rows"
    assert average([j for j in rows if j.mode == "general"]) is None


def test_all_tags_of_a_row_count_and_the_last_one_in_compatible_tables():
    from dataclasses import replace

    rows = [
        replace(judgement(0, helpfulness=2), tags={"task": ("math", "coding")}),
        replace(judgement(1, helpfulness=4), tags={"task": ("coding",)}),
    ]
    found = by_tag(rows, "task")
    assert {t: f.n for t, f in found.items()} == {"coding": 2, "math": 1}
    assert found["coding"].aspects == {"helpfulness": 3.0}
    theirs = by_tag(rows, "task", Reading(last_tag=True))
    assert {t: f.n for t, f in theirs.items()} == {"coding": 2}


def test_tags_of_just_eval(shared_file):
    rows = list(read_answered(str(shared_file(f"{JUST_EVAL}zephyr-7b-beta.to_eval.json"))))
    counts = Counter(tag for r in rows for tag in r.tags.get("task", ()))
    assert counts["info-seek"] == 431
    assert counts["math"] == 31


def test_expected_scores_are_used_when_asked():
    from dataclasses import replace

    doubted = replace(judgement(1, depth="N/A"), expected={"depth": 1.0})
    assert summarise([doubted], Reading(expected=True)).mean["depth"] == 5, "N/A is N/A"
    rows = [replace(judgement(0, depth=4), expected={"depth": 3.25})]
    assert summarise(rows).mean["depth"] == 4
    assert summarise(rows, Reading(expected=True)).mean["depth"] == 3.25


# --- pairs, turns --------------------------------------------------------------------------------


def pair(i: int, order: str, choice: str) -> Judgement:
    record = {"rationale": "x", "choices": {"depth": choice}}
    return Judgement(str(i), 0, "pairwise", 0, order, "j", "one", "q", "a b", record,
                     other="c", other_generator="two")  # fmt: skip


@pytest.mark.parametrize(
    ("ab", "ba", "outcome"),
    [
        ("A", "B", "first"),  # the first answer in both orders
        ("B", "A", "second"),
        ("A", "A", "tie"),  # whatever stands first: disagreement
        ("B", "B", "tie"),
        ("tie", "tie", "tie"),
        ("A", "tie", "tie"),
    ],
)
def test_both_orders(ab, ba, outcome):
    found = pairwise([pair(0, "AB", ab), pair(0, "BA", ba)]).aspects["depth"]
    assert {"first": found.first, "second": found.second, "tie": found.tie} == {
        **dict.fromkeys(("first", "second", "tie"), 0),
        outcome: 1,
    }
    assert found.agreement == float((ab, ba) in (("A", "B"), ("B", "A"), ("tie", "tie")))


def test_position_bias():
    always_a = [pair(i, order, "A") for i in range(5) for order in ("AB", "BA")]
    found = pairwise(always_a).aspects["depth"]
    assert (found.position_bias, found.agreement, found.tie) == (1.0, 0.0, 5)
    fair = [pair(i, "AB", "A") for i in range(4)] + [pair(i, "BA", "B") for i in range(4)]
    assert pairwise(fair).aspects["depth"].position_bias == 0.5
    assert pairwise(fair).aspects["depth"].win == 1.0
    assert pairwise(fair).words == {"one": 2.0, "two": 1.0}
    third = Judgement("9", 0, "pairwise", 0, "AB", "j", "three", "q", "", {"choices": {}},
                      other_generator="one")  # fmt: skip
    with pytest.raises(UsageError, match="two generators"):
        pairwise([*fair, third])


def test_mt_bench_overall_is_the_mean_over_judgements():
    def rated(i: int, turn: int, rating: int, category: str) -> Judgement:
        record = {"rating": {"reason": "", "score": str(rating)}}
        return Judgement(str(i), 0, "mt-bench", turn, "", "j", "m", "q", "a", record,
                         tags={"category": (category,)})  # fmt: skip

    rows = [rated(1, 1, 10, "math"), rated(2, 1, 4, "coding"), rated(1, 2, 1, "math")]
    found = mt_bench(rows)
    assert found.overall.mean == 5.0
    assert found.turns[1].mean == 7.0
    assert found.turns[2].mean == 1.0
    assert np.mean([t.mean for t in found.turns.values()]) == 4.0, "which differs"
    assert found.categories["math"].mean == 5.5


# --- agreement -----------------------------------------------------------------------------------


def brute_kappa(x, y) -> float:
    """1 − Σ (xᵢ − yᵢ)² / mean over all pairings of (xᵢ − yⱼ)²: the same weights, by pairs."""
    observed = np.mean([(a - b) ** 2 for a, b in zip(x, y, strict=True)])
    chance = np.mean([(a - b) ** 2 for a in x for b in y])
    return 1 - observed / chance


def brute_spearman(x, y) -> float:
    def ranks(v):
        return [1 + sum(o < one for o in v) + (sum(o == one for o in v) - 1) / 2 for one in v]

    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


@pytest.mark.parametrize("seed", range(6))
def test_agreement_measures(seed):
    random = np.random.default_rng(seed)
    x = random.integers(1, 6, 40).astype(float)
    y = np.clip(x + random.integers(-2, 3, 40), 1, 5)
    assert weighted_kappa(x, y) == pytest.approx(brute_kappa(x, y))
    assert spearman(x, y) == pytest.approx(brute_spearman(x, y))
    assert weighted_kappa(x, x) == pytest.approx(1)
    assert spearman(x, 6 - x) == pytest.approx(-1)


def test_agreement_of_two_judges():
    a = [judgement(i, helpfulness=v) for i, v in enumerate([1, 2, 3, 4, 5])]
    b = [judgement(i, helpfulness=v) for i, v in enumerate([1, 3, 5, "N/A", 5])]
    found = agreement(a, b).aspects["helpfulness"]
    assert (found.n, found.exact, found.within_one) == (4, 0.5, 0.75)
    same = [judgement(i, helpfulness=5) for i in range(4)]
    nothing = agreement(same, same).aspects["helpfulness"]
    assert (nothing.exact, nothing.spearman, nothing.kappa) == (1.0, None, None)
    with pytest.raises(UsageError, match="no judged answer in common"):
        agreement(a, [judgement(99, helpfulness=1)])


def test_agreement_works_from_the_files_alone(shared_file):
    def judged(model: str) -> list[Judgement]:
        path = shared_file(f"{JUST_EVAL}{model}.score_safety.chatgpt.json")
        return list(read_judgements(str(path)))

    vicuna, mistral = judged("vicuna-7b-v1.5"), judged("Mistral-7B-Instruct-v0.1")
    found = agreement(vicuna, vicuna)
    assert found.shared == 200
    assert found.aspects["safety"].kappa == pytest.approx(1)
    with pytest.raises(UsageError, match="ids are in both, with other answers"):
        agreement(vicuna[:3], mistral[:3])


# --- summaries of files --------------------------------------------------------------------------


def test_a_summary_is_written_under_the_names_that_are_documented(tmp_path):
    from tests.crafted_runs import judged_run
    from urial_local.tasks.evaluate.results import summary_of

    judged_run(tmp_path)
    found = summary_of([str(tmp_path)])
    written = json.loads(json.dumps(found.as_json(), allow_nan=False))
    depth, first = written["aspects"]["depth"], found.scores.aspects["depth"]
    assert depth == {"mean": first.mean, "low": None, "high": None, "n": 2, "sd": 0.0, "na": 0.0}
    assert list(written["by"]["task"]["math"]) == ["n", "aspects"]
    won = found.pairwise.aspects["depth"]
    assert written["pairwise"]["aspects"]["depth"] == {
        "first": won.first,
        "second": won.second,
        "tie": won.tie,
        "n": won.n,
        "win": won.win,
        "tie_share": won.tie_share,
        "lose": won.lose,
        "agreement": won.agreement,
        "position_bias": won.position_bias,
    }
    assert written["mt_bench"]["turns"]["1"]["mean"] == found.mt_bench.turns[1].mean
    assert (written["neighbours"], found.neighbours) == (None, None)
    assert "answers" not in written


def test_answers_that_nobody_judged_fill_what_is_missing(tmp_path):
    from urial_local.tasks.evaluate.results import summary_of

    def file(name: str, ids: range, generator: str = "m") -> str:
        rows = [{"id": str(i), "instruction": "Q", "output": "a b", "generator": generator}
                for i in ids]  # fmt: skip
        (tmp_path / name).write_text(json.dumps(rows))
        return str(tmp_path / name)

    one, two = file("1.json", range(3)), file("2.json", range(3, 5))
    found = summary_of([one])
    assert (found.answers, found.scores.words, found.scores.judged) == (3, 2.0, 0)
    assert found.as_json()["generators"] == ["m"]
    with pytest.raises(UsageError, match="one file of unjudged answers"):
        summary_of([one, two])
    chosen = summary_of([one, two], ids=frozenset({"3", "4"}))
    assert (chosen.answers, chosen.scores.words) == (2, 2.0), "the first file has none of them"
    with pytest.raises(UsageError, match="holds answers of other, not of m"):
        summary_of([one, file("3.json", range(3), "other")])
