"""The native draw against its numpy twin, at every instruction level this processor runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.levels import LEVELS
from urial_local.runtime.draw_rows import DrawTask, draw_row_numpy, draw_rows
from urial_local.runtime.sampling import Sampling

NOTHING = np.zeros(0, np.int32)


def task(x, sampling=None, seen=NOTHING, uniform=0.5, view=None) -> DrawTask:
    x = np.ascontiguousarray(x, np.float32)
    view = x if view is None else view
    return DrawTask(
        x, view, sampling or Sampling(temperature=1), np.asarray(seen, np.int32), uniform
    )


def borderline(t: DrawTask) -> bool:
    """Whether another rounding of a sum may give another token: then either is right."""
    s = t.sampling
    nearby = [
        DrawTask(t.row, t.view, changed, t.seen, uniform)
        for changed in (s, _with_top_p(s, 1e-12), _with_top_p(s, -1e-12))
        for uniform in (t.uniform, min(t.uniform + 1e-12, 1 - 2**-53), max(t.uniform - 1e-12, 0.0))
    ]
    return len({draw_row_numpy(n)[0] for n in nearby}) > 1


def _with_top_p(s: Sampling, by: float) -> Sampling:
    top_p = s.top_p if s.top_p == 1 else min(max(s.top_p * (1 + by), 1e-300), 1 - 2**-53)
    min_p = s.min_p if s.min_p in (0, 1) else min(s.min_p * (1 + by), 1.0)
    return Sampling(s.temperature, s.top_k, top_p, min_p, s.repeat_penalty, s.penalty_scope)


def agree(tasks: list[DrawTask], level: str, threads: int = 1) -> None:
    got = draw_rows(tasks, threads, level)
    for i, t in enumerate(tasks):
        token, logprob, status = draw_row_numpy(t)
        assert got.status[i] == status
        if status:
            assert got.tokens[i] == 0
            assert np.isnan(got.logprobs[i])
        elif not borderline(t):
            assert got.tokens[i] == token, t
            np.testing.assert_allclose(got.logprobs[i], logprob, rtol=5e-7, atol=1e-6)


def samplings():
    return st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.3, 0.8, 1.0, 2.0, 50.0]),
        top_k=st.sampled_from([0, 0, 1, 2, 5, 40, 600, 10**6]),
        top_p=st.sampled_from([1.0, 1.0, 0.99, 0.9, 0.5, 0.01]),
        min_p=st.sampled_from([0.0, 0.0, 0.001, 0.05, 0.5, 1.0]),
        repeat_penalty=st.sampled_from([1.0, 1.0, 1.1, 1.3, 0.5]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_row(level, data):
    """Ties, infinities, NaN, rows of one possible token: the definition's token each time."""
    n = data.draw(st.integers(1, 140))
    special = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 88.0, 1e30, -1e30, 1.5, 1.5])
    values = st.one_of(st.floats(-40, 40, width=32), st.sampled_from([1.0, 2.0, 3.0]), special)
    x = data.draw(hnp.arrays(np.float32, n, elements=values))
    if data.draw(st.booleans()):
        x = np.where(np.isfinite(x), x, np.float32(0))
    seen = data.draw(st.lists(st.integers(0, n - 1), max_size=6))
    uniform = data.draw(st.one_of(st.sampled_from([0.0, 0.5, 1 - 2**-53]), st.floats(0, 0.999)))
    agree([task(x, data.draw(samplings()), seen, uniform)], level)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.0, 0.01, 1.0, 4.0, 12.0]),
    n=st.sampled_from([511, 512, 513, 1025, 5000, 20011]),
    ties=st.booleans(),
    holes=st.booleans(),
    sampling=samplings(),
    uniform=st.floats(0, 0.9999999),
)
@settings(max_examples=150, deadline=None)
def test_rows_longer_than_what_is_sorted(level, seed, scale, n, ties, holes, sampling, uniform):
    """Borders beyond the leading tokens, in bins, in bins of one value, and at holes."""
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=n) * scale).astype(np.float32)
    if ties:
        x = np.round(x).astype(np.float32)
    if holes:
        x[rng.random(n) < 0.5] = -np.inf
        assume(np.isfinite(x).any())
    agree([task(x, sampling, rng.integers(0, n, 50), uniform)], level)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_large_vocabularies_draw_for_draw(level):
    """A vocabulary of 262,144: the same token for each of many numbers, peaked and flat rows."""
    rng = np.random.default_rng(7)
    tasks = []
    for scale in (0.3, 2, 6):
        x = (rng.normal(size=262_144) * scale).astype(np.float32)
        for s in (
            Sampling(temperature=0.8, top_p=0.9, repeat_penalty=1.1),
            Sampling(temperature=1.5),
            Sampling(temperature=1.0, top_k=5000, min_p=0.01),
        ):
            tasks += [task(x, s, rng.integers(0, 262_144, 900), u) for u in (0.01, 0.6, 0.99999)]
    agree(tasks, level, threads=2)


@pytest.mark.parametrize("level", LEVELS)
def test_log_probabilities_are_exact_to_single_precision(level):
    """Over rows of every shape, against float64: the sum's terms are off by 2e-7 of themselves."""
    rng = np.random.default_rng(3)
    worst = 0.0
    for n in (7, 256, 5000, 262_144):
        for scale in (0.01, 1, 5, 20):
            x = (rng.normal(size=n) * scale).astype(np.float32)
            got = draw_rows([task(x, Sampling())], level=level)
            row = x.astype(np.float64)
            exact = -np.log(np.exp(row - row.max()).sum())
            worst = max(worst, abs(got.logprobs[0] - exact))
    assert worst < 5e-7


def test_only_what_the_view_allows_is_drawn():
    """A form rules tokens out; the log-probability stays that of the model's own row."""
    x = np.array([3, 2, 1, 0], np.float32)
    view = np.array([-np.inf, -np.inf, 1, 0], np.float32)
    for u in (0.0, 0.7, 0.9):
        t = task(x, view=view, uniform=u)
        assert draw_rows([t]).tokens[0] in (2, 3)
        agree([t], "")
    got = draw_rows([task(x, Sampling(), view=view)])
    assert got.tokens.tolist() == [2]
    assert got.logprobs[0] == pytest.approx(1 - np.log(np.exp(x.astype(float)).sum()), abs=1e-6)


def test_rows_are_not_changed_and_doublets_count_once():
    x = np.array([4, 3.9, -4, -4], np.float32)
    before = x.copy()
    greedy = Sampling(repeat_penalty=2)
    assert draw_rows([task(x, greedy, [0, 0, 2])]).tokens[0] == 1
    assert draw_rows([task(x, greedy, [0, 1, 1, 1])]).tokens[0] == 0, "4/2 before 3.9/2"
    np.testing.assert_array_equal(x, before)


def test_what_does_not_fit_is_refused():
    x = np.zeros(8, np.float32)
    with pytest.raises(IndexError, match="penalty"):
        draw_rows([task(x, seen=[8])])
    with pytest.raises(IndexError, match="penalty"):
        draw_rows([task(x, seen=[-1])])
    with pytest.raises(ValueError, match="float32"):
        draw_rows([DrawTask(x.astype(np.float64), x, Sampling(), NOTHING, 0.5)])
    with pytest.raises(ValueError, match="float32"):
        draw_rows([task(x), task(np.zeros(9, np.float32))])
    with pytest.raises(ValueError, match="level"):
        draw_rows([task(x)], level="sse9")
    assert len(draw_rows([]).tokens) == 0
