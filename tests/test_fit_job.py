"""The course of a fit over an objective whose scores are known: time, stops, resuming."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.prompting.frames import load_frame
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Turn
from urial_local.tasks.fit.job import Fit
from urial_local.tasks.fit.objectives import Scored, never
from urial_local.tasks.fit.plan import FRAMES
from urial_local.tasks.fit.search import FIRST
from urial_local.tasks.fit.space import key_of, space_of

LIBRARY = tuple(load_prompt(name) for name in ("urial-mini", "zero-shot", "urial-1"))
POOL = [Turn(f"What is {i}?", f"It is number {i}, as all know.") for i in range(6)]
SPACE = space_of(LIBRARY, [load_frame(name) for name in FRAMES], POOL, 3)
TUNING = [f"t{i}" for i in range(14)]
HELD_OUT = [f"h{i}" for i in range(30)]


class Known:
    """Scores are a function of prompt and question; each takes a second."""

    def __init__(self, default_is_best: bool = False) -> None:
        self.now, self.asked, self.stopped, self.best = 0.0, [], False, default_is_best

    def clock(self) -> float:
        return self.now

    def score(self, prompt, items, enough=never):
        key = key_of(prompt)
        for item in items:
            if self.stopped:
                return
            self.now += 1
            self.asked.append((key, item))
            better = self.best and key == key_of(LIBRARY[0])
            yield Scored(item, 1.0 if better else random.Random(f"{key} {item}").random())
            if enough():
                return

    def stop(self) -> None:
        self.stopped = True

    abort = stop


def run(objective, known=None, seconds=None, stop_after=None, seed=0):
    """The fit, and the scores that there are after it."""
    fit = Fit(
        objective, SPACE, LIBRARY, TUNING, HELD_OUT, known or {},
        seed=seed, seconds=seconds, clock=objective.clock,
    )  # fmt: skip
    there = dict(known or {})
    for n, row in enumerate(fit.rows(), 1):
        assert (row["prompt"], row["id"]) not in there, "no question is asked twice"
        there[row["prompt"], row["id"]] = row["score"]
        if n == stop_after:
            fit.stop()
    return fit, there


WHOLE, ALL = run(Known())


def test_the_winner_and_the_default_are_compared_on_other_questions():
    found = WHOLE.outcome
    assert found is not None
    assert found.held_out == tuple(HELD_OUT)
    assert not found.same
    assert found.default is LIBRARY[0]
    assert found.found.mean > 0.5
    best = key_of(found.best)
    assert found.best_scores == tuple(ALL[best, name] for name in HELD_OUT)
    asked_held_out = {key for key, name in ALL if name in HELD_OUT}
    assert asked_held_out == {best, key_of(LIBRARY[0])}, "they have no part in the choice"


def test_the_default_may_be_the_best():
    fit, there = run(Known(default_is_best=True))
    assert fit.outcome is not None
    assert fit.outcome.same
    assert fit.outcome.best_scores == fit.outcome.default_scores == (1.0,) * len(HELD_OUT)
    assert sum(name in HELD_OUT for _, name in there) == len(HELD_OUT), "asked once"


@given(st.integers(1, len(ALL) - 1))
@settings(max_examples=12)
def test_a_run_that_was_stopped_comes_to_the_same(stop_after):
    cut, there = run(Known(), stop_after=stop_after)
    assert cut.outcome is None
    assert len(there) == stop_after
    again, there = run(Known(), there)
    assert again.outcome == WHOLE.outcome
    assert there == ALL


def test_other_seeds_go_other_ways():
    fit, there = run(Known(), seed=1)
    assert there.keys() != ALL.keys()
    assert run(Known(), seed=1)[0].outcome == fit.outcome


@given(st.integers(1, 400))
@settings(max_examples=25)
def test_the_budget_holds_whenever_it_ends(seconds):
    """At most the first questions of the default and of both on held-out ones are beyond it."""
    objective = Known()
    fit, there = run(objective, seconds=float(seconds))
    assert objective.now <= max(seconds + 1, 0.8 * seconds + 1 + 2 * FIRST, 3 * FIRST)
    found = fit.outcome
    assert found is not None
    assert len(found.held_out) >= FIRST
    assert len(found.held_out) == len(found.best_scores) == len(found.default_scores)
    for name, score in zip(found.held_out, found.best_scores, strict=True):
        assert there[key_of(found.best), name] == score


@given(st.integers(1, 300))
@settings(max_examples=8)
def test_a_run_that_time_broke_off_goes_on(seconds):
    """With more time the same start leads on, and what was asked is not asked again."""
    _, there = run(Known(), seconds=float(seconds))
    again, _ = run(Known(), there)
    assert again.outcome is not None
    assert again.outcome.best == WHOLE.outcome.best


def test_a_row_says_why_it_scored_so():
    class Failing(Known):
        def score(self, prompt, items, enough=never):
            for one in super().score(prompt, items, enough):
                yield Scored(one.item, 0.0, flags=("empty",), error="It does not fit.")

    fit = Fit(Failing(), SPACE, LIBRARY, TUNING, HELD_OUT, {})
    row = next(iter(fit.rows()))
    assert row["why"] == "It does not fit."
    assert row["flags"] == ["empty"]
    assert "error" not in row, "it is a score, and not tried again"
    assert row["name"] == "urial-mini"


def test_where_all_fails_the_default_stays():
    class Failing(Known):
        def score(self, prompt, items, enough=never):
            for one in super().score(prompt, items, enough):
                yield Scored(one.item, 0.0, error="It does not fit.")

    fit, _ = run(Failing())
    assert fit.outcome is not None
    assert fit.outcome.same
    assert fit.outcome.found.mean == 0


@pytest.mark.parametrize("phase", ["stop", "abort"])
def test_stopped_before_anything_was_asked(phase):
    fit = Fit(Known(), SPACE, LIBRARY, TUNING, HELD_OUT, {})
    getattr(fit, phase)()
    assert list(fit.rows()) == []
    assert fit.outcome is None
