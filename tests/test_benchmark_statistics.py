"""What a benchmark computes: shares, tests, intervals, signs of answers, and steps of models."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.records.generated import AnsweredTurn, Generated
from urial_local.tasks.benchmark.checkpoints import axis_of, step_of
from urial_local.tasks.benchmark.measures import Judged, judged, measure
from urial_local.tasks.benchmark.probes import Probe
from urial_local.tasks.benchmark.rules import Rule
from urial_local.tasks.benchmark.signs import Frame, Said, closes, laid_out, leaks, opens, signs_of
from urial_local.tasks.benchmark.statistics import (
    DRAWS,
    TAILS,
    Share,
    Z,
    difference,
    drawn_shares,
    gap_closed,
    mcnemar,
    wilson,
)
from urial_local.tasks.sign_flip import sign_flip_p

FENCED = Frame(("# Query:", "# Answer:"), "```")


# --- shares ------------------------------------------------------------------------------------


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_inverts_the_score_test(kn):
    """Its ends are the shares p with |p̂ − p| = z √(p(1 − p)/n), found here by halving."""
    k, n = kn
    found, share = wilson(k, n), k / n

    def beyond(p: float) -> bool:
        return abs(share - p) > Z * math.sqrt(p * (1 - p) / n)

    def edge(inside: float, outside: float) -> float:
        for _ in range(80):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if beyond(middle) else (middle, outside)
        return inside

    assert found.low == pytest.approx(edge(share, 0.0), abs=1e-9)
    assert found.high == pytest.approx(edge(share, 1.0), abs=1e-9)
    assert 0 <= found.low <= share <= found.high <= 1


def test_wilson_where_all_are_alike():
    assert wilson(0, 10).low == 0.0
    assert wilson(0, 10).high == pytest.approx(0.2775, abs=1e-4)  # Newcombe (1998)
    assert (wilson(7, 7).high, wilson(7, 7).low > 0.5) == (1.0, True)
    assert Share(0, 0).as_json() == {"share": None, "low": None, "high": None, "k": 0, "n": 0}


def test_wilson_holds_its_level():
    """Over all outcomes of n answers, its ends hold the true share about 95 % of the time."""
    for n, p in itertools.product((12, 40), (0.1, 0.3, 0.5, 0.9)):
        held = sum(
            math.comb(n, k) * p**k * (1 - p) ** (n - k)
            for k in range(n + 1)
            if wilson(k, n).low <= p <= wilson(k, n).high
        )
        assert held > 0.92, (n, p)


# --- comparisons -------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(x, y) for x in range(6) for y in range(6)])
def test_mcnemar_counts_all_patterns(a, b):
    """Each probe on which the two differ could as well have gone the other way."""
    patterns = itertools.product((0, 1), repeat=a + b)
    as_far = sum(abs(2 * sum(p) - (a + b)) >= abs(a - b) for p in patterns)
    assert mcnemar(a, b) == pytest.approx(as_far / 2 ** (a + b))
    assert mcnemar(a, b) == pytest.approx(sign_flip_p(np.array([1.0] * a + [-1.0] * b)))


def test_mcnemar_of_many_probes_is_exact():
    assert mcnemar(0, 3000) == pytest.approx(2.0**-2999)
    assert mcnemar(1500, 1500) == 1.0
    assert 0 < mcnemar(2600, 2400) < 0.006


def right(n: int, *shares: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((n, len(shares))) < np.array(shares)


def test_draws_of_patterns_are_draws_of_probes():
    """The same distribution as drawing probes one by one: means, variances, covariance."""
    found = right(60, 0.3, 0.5, 0.8)
    shares = drawn_shares(found)
    rng = np.random.default_rng(1)
    plain = found[rng.integers(0, 60, (DRAWS, 60))].mean(1)
    assert shares.shape == (DRAWS, 3)
    assert shares.mean(0) == pytest.approx(found.mean(0), abs=0.003)
    assert np.cov(shares.T) == pytest.approx(np.cov(plain.T), abs=3e-4)
    assert np.percentile(shares, TAILS, 0) == pytest.approx(
        np.percentile(plain, TAILS, 0), abs=0.02
    )
    assert (drawn_shares(found) == shares).all(), "seeded"


def test_a_difference():
    found = right(200, 0.6, 0.4)
    one = difference(found)
    assert one.value == pytest.approx(found[:, 0].mean() - found[:, 1].mean())
    assert one.interval.low < one.value < one.interval.high
    assert one.p == mcnemar(one.only_a, one.only_b)
    back = difference(found[:, ::-1])
    assert (back.value, back.p) == (-one.value, one.p)
    same = difference(np.repeat(found[:, :1], 2, 1))
    assert (same.value, same.p, same.sure) == (0.0, 1.0, False)
    assert (same.interval.low, same.interval.high) == (0.0, 0.0)
    assert difference(found[:0]) is None
    assert difference(found[:4]).interval is None


def test_the_gap_that_is_closed():
    everything = np.array([[True, False, True]] * 30 + [[False, False, False]] * 10)
    one = gap_closed(everything)
    assert (one.value, one.interval.low, one.interval.high) == (1.0, 1.0, 1.0)
    half = everything.copy()
    half[:15, 0] = False
    assert gap_closed(half).value == 0.5
    assert gap_closed(half).interval.low < 0.5 < gap_closed(half).interval.high
    worse = np.array([[False, True, True]] * 10 + [[False, False, True]] * 30)
    assert gap_closed(worse).value < 0
    assert gap_closed(everything[:, [0, 2, 1]]) is None, "the aligned model is the worse one"
    assert gap_closed(right(40, 0.5, 0.5, 0.52)) is None, "no clear gap"
    assert gap_closed(everything[:4]) is None


# --- signs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "leaked"),
    [
        ("A plain answer.", False),
        ("Yes.\n# Query:\nAnd then?", True),
        ("Yes.\n  # Answer: no", True),
        ("Look for the line `# Query:` in it.", False),
        ("Yes.\n```", True),
        ("```python\nx = 1  # Query: not a turn\n# Query: a remark\n```", False),
        ("```\nx = 1\n```", False),
        ("Run this:\n\n```sh\nls\n```\n\nThat is all.\n```\n", True),
        ("", False),
    ],
)
def test_what_leaks_of_a_frame(text, leaked):
    assert leaks(text, FENCED) is leaked


def test_other_frames_have_other_marks():
    assert leaks("So.\n# User:\nhi", Frame(("# User:", "# Assistant:")))
    assert not leaks("So.\n# User:\nhi", FENCED)
    assert not leaks("So.\n```", Frame()), "nothing to leak where the frame has no fence"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Sure! Here it is.", True),
        ("**Of course.** Here it is.", True),
        ("I’d be happy to help.", True),
        ("Surely not.", False),
        ("The answer: sure, it is.", False),
        ("", False),
    ],
)
def test_openings(text, found):
    assert opens(text) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is.\n\nLet me know if you need more!", True),
        ("It is.\n\n\nI hope this helps.\n", True),
        ("Let me know if you need more!", False),
        ("Let me know.\n\nIt is.", False),
        ("", False),
    ],
)
def test_closings(text, found):
    assert closes(text) is found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1. a\n2. b", True),
        ("- a\n- b", True),
        ("- a", False),
        ("## Steps\nGo.", True),
        ("**Steps:**\nGo.", True),
        ("A **bold** word.", False),
        ("a * b * c", False),
    ],
)
def test_layout(text, found):
    assert laid_out(text) is found


def answered(*texts: str, reason: str = "eos", flags: tuple[str, ...] = (), query: str = "q"):
    turns = tuple(AnsweredTurn(query, text, reason, 3) for text in texts)
    return Generated("i", 0, query, flags=flags, turns=turns)


def test_signs_apply_where_they_apply():
    declines = answered("I'm sorry, but I can't help with that.")
    assert signs_of(Said("unsafe", declines, FENCED))["refused unsafe"] is True
    assert signs_of(Said("unsafe", declines, FENCED))["refused harmless"] is None
    assert signs_of(Said("facts", declines, FENCED))["refused harmless"] is True
    query = "Was ist die Hauptstadt von Frankreich und wie viele Menschen leben dort?"
    german = answered("Die Hauptstadt ist Paris, und dort leben zwei Millionen.", query=query)
    english = answered("The capital is Paris, and about two million live there.", query=query)
    assert signs_of(Said("facts", german, FENCED))["same language"] is True
    assert signs_of(Said("facts", english, FENCED))["same language"] is False
    assert signs_of(Said("instructions", english, FENCED))["same language"] is None
    assert signs_of(Said("facts", answered("42"), FENCED))["same language"] is None
    cut = signs_of(Said("turns", answered("a", "b", reason="length", flags=("truncated",)), FENCED))
    assert (cut["ended"], cut["truncated"], cut["copied"]) == (False, True, False)


# --- measures ----------------------------------------------------------------------------------


def probe(name: str, kind: str = "facts", *turns: str) -> Probe:
    return Probe(name, kind, turns or ("q",), Rule(any=("yes",)), 8, 0)


def test_measures_count_every_probe_once():
    cell = [
        judged(probe("a"), answered("Yes.")),
        judged(probe("b"), answered("No.")),
        judged(probe("c", "turns", "q", "r"), answered("No.", "Yes, two words")),
        judged(probe("d", "turns"), Generated("d", 3, "q", error="no room")),
    ]
    found = measure(cell, ("facts", "turns", "long"), FENCED, 12.5)
    assert [one.right for one in cell] == [True, False, True, False]
    assert cell[3].why == "failed: no room"
    assert (found.right, found.failed) == (Share(2, 4), 1)
    assert found.kinds == {"facts": Share(1, 2), "turns": Share(1, 2), "long": Share(0, 0)}
    assert found.signs["ended"] == Share(3, 3), "of the answered"
    assert (found.words, found.tokens, found.tokens_per_second) == (1.5, 3.0, 12.5)
    nothing: list[Judged] = []
    empty = measure(nothing, ("facts",), FENCED)
    assert (empty.right.value, empty.words) == (None, None)


# --- checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step1000", 1000),
        ("1000", 1000),
        ("model-iter_2000", 2000),
        ("olmo-1b-step-738000-tokens3094B", 738000),
        ("pythia-160m-checkpoint-30", 30),
        ("run_7_ckpt12", 12),
        ("base-500", 500),
        ("llama-7b", None),
        ("mistral", None),
    ],
)
def test_steps_are_told_from_names(name, step):
    assert step_of(name) == step


def test_an_axis_needs_a_step_of_each():
    assert axis_of(["step20", "step10"]).places == (20, 10)
    assert axis_of(["step20", "step10"]).steps
    assert axis_of(["step20", "base"]).places == (1, 2)
    assert not axis_of(["a-step1", "b-step1"]).steps


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_any_name_has_a_step_or_none(name):
    assert step_of(name) is None or step_of(name) >= 0
