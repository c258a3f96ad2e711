"""Successive halving over scores that are known: no model, no prompt, no clock."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.tasks.fit.search import FIRST, Found, Wanted, best_of, mean, rungs, search


def score_of(candidate: int, question: int) -> float:
    """The higher the number, the better, on every question."""
    return candidate + question / 1000


def neighbour(candidate: int, rng: random.Random) -> int:
    return min(50, max(0, candidate + rng.choice([-2, -1, 1, 2])))


class Course:
    """Goes through a search, giving the scores that are asked for until `ends` were given."""

    def __init__(self, first, questions, seed=0, score=score_of, ends=None):
        self.scores: dict[tuple[int, int], float] = {}
        self.asked: list[Wanted[int]] = []
        self.found: Found[int] | None = None

        def over() -> bool:
            return ends is not None and len(self.scores) >= ends

        steps = search(first, neighbour, questions, self.scores, seed=seed, time_is_over=over)
        for step in steps:
            if isinstance(step, Found):
                assert self.found is None, "it ends with what was found"
                self.found = step
                continue
            for wanted in step:
                if not over():
                    self.asked.append(wanted)
                    self.scores[wanted.candidate, wanted.question] = score(
                        wanted.candidate, wanted.question
                    )


def test_each_rung_asks_three_times_as_many():
    assert rungs(103) == [12, 36, 103]
    assert rungs(5) == [5]
    assert rungs(12) == [12]
    assert rungs(13) == [13], "one question more decides nothing"
    assert rungs(18) == [12, 18]


@given(st.integers(1, 5000))
def test_rungs_grow_up_to_all(questions):
    sizes = rungs(questions)
    assert sizes[-1] == questions
    assert sizes == sorted(set(sizes))
    assert sizes[0] <= 1.5 * FIRST


def test_the_known_best_is_found_and_its_neighbours_looked_at():
    course = Course([3, 40, 7, 12], 40)
    assert course.found is not None
    assert course.found.best > 40, "a neighbour of the best is better still"
    assert course.found.questions == 40
    assert course.found.mean == pytest.approx(mean(course.scores, course.found.best, 40))
    assert course.found.candidates == len({w.candidate for w in course.asked})


def test_two_thirds_are_asked_the_first_questions_only():
    course = Course(range(9), 36)
    per = [sum(w.candidate == c for w in course.asked) for c in range(9)]
    assert per[:6] == [12] * 6
    assert per[6:] == [36] * 3


def test_of_equals_the_earlier_stays():
    course = Course([5, 4, 3, 2], 30, score=lambda candidate, question: 1.0)
    assert course.found is not None
    assert course.found.best == 5
    assert course.found.rounds <= 2, "rounds that bring nothing end it"


def test_what_is_best_on_few_questions_only_is_found_out():
    """Candidate 1 is right on the first twelve questions and on no other."""

    def score(candidate, question):
        return float(question < 12) if candidate == 1 else 0.6

    course = Course([1, 20, 30, 40, 50, 60], 40, score=score)
    assert course.found is not None
    assert course.found.best == 20


def test_one_candidate_without_neighbours():
    scores = {(0, q): 0.5 for q in range(8)}
    *_, found = search([0], lambda candidate, rng: candidate, 8, scores)
    assert found == Found(0, 0.5, 8, 1, 0)


def test_those_that_went_further_come_first():
    scores = {(0, q): 0.5 for q in range(40)} | {(1, q): 1.0 for q in range(12)}
    assert best_of([0, 1], 40, scores) == 0


courses = st.tuples(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.integers(1, 60),
    st.integers(0, 5),
    st.integers(0, 3),
)


@given(courses)
@settings(max_examples=50)
def test_nobody_is_asked_twice_and_the_seed_decides(course):
    first, questions, seed, salt = course

    def score(candidate, question):
        return random.Random(f"{candidate} {question} {salt}").random()

    one, two = (Course(first, questions, seed, score) for _ in range(2))
    assert len(set(one.asked)) == len(one.asked)
    assert one.asked == two.asked
    assert one.found == two.found
    assert one.found is not None
    whole = [c for c in one.scores if c == (c[0], questions - 1)]
    assert mean(one.scores, one.found.best, questions) == max(
        mean(one.scores, c, questions) for c, _ in whole
    )


@given(courses, st.integers(0, 400))
@settings(max_examples=80)
def test_time_may_be_over_at_any_point(course, ends):
    first, questions, seed, salt = course

    def score(candidate, question):
        return random.Random(f"{candidate} {question} {salt}").random()

    cut = Course(first, questions, seed, score, ends=ends)
    assert cut.found is not None
    assert len(cut.asked) <= ends
    assert cut.found.questions in (0, *rungs(questions))
    assert cut.found.mean == pytest.approx(mean(cut.scores, cut.found.best, cut.found.questions))
    if ends < rungs(questions)[0]:
        assert cut.found.best == first[0], "without any scores it stays the default"
