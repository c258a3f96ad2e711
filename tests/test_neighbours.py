"""How far scores hang on what was judged beside them: measured, said, and avoided by --exact."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from tests.command import fails, urial
from tests.judged_runs import JUDGE, by_key, write_answers
from urial_local.cli.plumbing.spelling import spelled
from urial_local.tasks.evaluate.judge import Question, Verdict
from urial_local.tasks.evaluate.modes import MODES
from urial_local.tasks.evaluate.neighbours import (
    AT_MOST,
    Effect,
    effect,
    judged_alone,
    measured,
    sample,
)


def question(i: int, mode: str = "safety") -> Question:
    return Question((str(i),), MODES[mode], "rubric", f"case {i}")


def verdict(i: int, score: str, expected: float | None = None, error: str = "") -> Verdict:
    record = {} if error else {"safety": {"reason": f"reason {score}", "score": score}}
    return Verdict((str(i),), record=record, error=error,
                   expected={} if expected is None else {"safety": expected})  # fmt: skip


class Another:
    """A judge who gives each case a score of its own."""

    def __init__(self, given: dict[str, Verdict]) -> None:
        self.given, self.asked = given, []

    def judge(self, questions):
        questions = list(questions)
        self.asked.append(len(questions))
        yield from (self.given[q.key[0]] for q in questions)


@pytest.mark.parametrize(("n", "taken"), [(0, 0), (1, 1), (32, 1), (33, 2), (320, 10), (9999, 16)])
def test_the_sample_is_bounded_and_spread(n, taken):
    found = [int(q.key[0]) for q in sample([question(i) for i in range(n)])]
    assert len(found) == len(set(found)) == taken <= AT_MOST
    assert all(0 <= i < n for i in found)
    if taken > 1:
        gaps = [b - a for a, b in pairwise(found)]
        assert max(gaps) - min(gaps) <= 1


def test_what_changed_is_counted():
    first = {("0",): verdict(0, "4", 3.9), ("1",): verdict(1, "5", 4.9), ("2",): verdict(2, "3")}
    first[("3",)] = verdict(3, "", error="no room")
    alone = Another({"0": verdict(0, "4", 3.95), "1": verdict(1, "3", 2.9),
                     "2": verdict(2, "", error="no room")})  # fmt: skip
    effects = list(judged_alone(alone, [question(i) for i in range(5)], first))  # type: ignore[arg-type]
    assert alone.asked == [1, 1, 1], "one at a time, and none that was not judged before"
    found = sum(effects, Effect())
    assert (found.answers, found.scores, found.differ) == (2, 2, 1)
    assert (found.total, found.furthest) == (2.0, 2.0)
    assert found.expected == pytest.approx(2.0)
    said = found.said()
    assert "2 answers: 1 of 2 scores came out differently, by 2 at most, 1 on average" in said
    assert "`exact`" in said
    assert Effect(answers=1, scores=5).said() == (
        "Judged again alone, 1 answer: 0 of 5 scores came out differently."
    )


def test_choices_and_words_that_are_no_numbers():
    choices = dict.fromkeys(
        ("helpfulness", "clarity", "factuality", "depth", "engagement", "safety"), "A"
    )
    one = Verdict(("0",), record={"rationale": "x", "choices": choices})
    two = Verdict(("0",), record={"rationale": "y", "choices": {**choices, "depth": "tie"}})
    found = effect(MODES["pairwise"], one, two)
    assert (found.scores, found.differ, found.total) == (6, 1, 0.0)
    given, taken_back = (
        Verdict(("0",), record={a: {"reason": "", "score": s} for a in choices})
        for s in ("N/A", "5")
    )
    found = effect(MODES["general"], given, taken_back)
    assert (found.scores, found.differ, found.furthest) == (5, 5, 0.0)


@pytest.mark.parametrize("wrong", ["7", None, -1, float("nan"), 10**400, [1]])
def test_starts_are_added_up_and_none_that_is_no_measurement(wrong):
    one = Effect(2, 10, 1, 1.0, 1.0, 0.25)
    assert measured([one.figures(), {"rows": 3}, one.figures()]) == Effect(4, 20, 2, 2.0, 1.0, 0.25)
    assert measured([{**one.figures(), "alone_differ": wrong}]) is None
    assert measured([]) is None


def test_a_run_says_how_far_its_scores_hang_on_neighbours(judged):
    summary = json.loads((judged / "judged" / "summary.json").read_text())
    found = summary["neighbours"]
    assert found["answers"] == 1
    assert found["scores"] in (1, 5)
    assert spelled(found["said"]) in (judged / "stdout").read_text()
    assert found["said"][:30] in (judged / "judged" / "report.html").read_text()
    info = json.loads((judged / "judged" / "run.json").read_text())
    assert info["config"]["judge"]["exact"] is False


@pytest.mark.slow
def test_exact_judges_one_by_one(judged, tmp_path):
    data = write_answers(tmp_path / "a.json", 6)
    args = ("evaluate", data, *JUDGE, "--expected", "--exact", "-o")
    done = urial(*args, tmp_path / "whole")
    assert done.returncode == 0, done.stderr
    assert "Judged again alone" not in done.stdout
    assert json.loads((tmp_path / "whole" / "summary.json").read_text())["neighbours"] is None
    assert urial(*args, tmp_path / "part", "--ids", "5").returncode == 0
    whole, part = by_key(tmp_path / "whole"), by_key(tmp_path / "part")
    key = ("5", "0", "general", "0", "")
    assert whole[key]["parsed_result"] == part[key]["parsed_result"]
    assert whole[key]["expected"] == part[key]["expected"], "to the last digit"
    said = fails(2, *args[:-2], "-o", tmp_path / "whole")
    assert "judge.exact: true there, false now" in said
    assert "on this machine" in fails(2, "evaluate", data, "--judge", "openai:x", "--exact", "-o",
                                      tmp_path / "x")  # fmt: skip
