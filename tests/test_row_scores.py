"""The native kernel against its numpy twin, at every instruction level this processor runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.levels import LEVELS
from urial_local.runtime.row_scores import instruction_level, score_rows, score_rows_numpy


def agree(logits: np.ndarray, rows: np.ndarray, targets: np.ndarray, level: str) -> None:
    ours = score_rows(logits, rows, targets, level)
    oracle = score_rows_numpy(logits, rows, targets)
    np.testing.assert_array_equal(ours.status, oracle.status)
    np.testing.assert_array_equal(ours.rank, oracle.rank)
    np.testing.assert_allclose(ours.log_sum_exp, oracle.log_sum_exp, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(ours.logprob, oracle.logprob, rtol=2e-6, atol=4e-6)


def test_the_chosen_level_runs_here():
    assert instruction_level() in LEVELS
    assert "portable" in LEVELS


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n_vocab", [1, 2, 31, 32, 33, 2047, 2048, 2049, 32000, 128256])
def test_random_rows(level, n_vocab):
    rng = np.random.default_rng(n_vocab)
    logits = (rng.normal(size=(5, n_vocab)) * rng.choice([0.1, 3, 30])).astype(np.float32)
    rows = rng.integers(0, 5, 9).astype(np.int32)
    agree(logits, rows, rng.integers(0, n_vocab, 9).astype(np.int32), level)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_rows(level, data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 140)))
    special = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 88.0, -88.0, 1e30, -1e30, 1.5])
    values = st.one_of(st.floats(-1e4, 1e4, width=32), special)
    logits = data.draw(hnp.arrays(np.float32, shape, elements=values))
    rows = np.array(data.draw(st.lists(st.integers(0, shape[0] - 1), max_size=4)), np.int32)
    targets = [data.draw(st.integers(0, shape[1] - 1)) for _ in rows]
    agree(logits, rows, np.array(targets, np.int32), level)


@pytest.mark.parametrize("level", LEVELS)
def test_defined_results_for_odd_rows(level):
    inf, nan = np.inf, np.nan
    logits = np.array(
        [[1, 1, 1, 1], [-inf, 2, -inf, -inf], [0, nan, 1, 2], [0, inf, 1, 2], [-inf] * 4],
        np.float32,
    )
    rows = np.arange(5, dtype=np.int32)
    got = score_rows(logits, rows, np.array([2, 1, 0, 1, 0], np.int32), level)
    assert got.status.tolist() == [0, 0, 1, 1, 1]
    assert got.rank.tolist() == [3, 1, 0, 0, 0], "ties go to the lower id"
    assert got.logprob[0] == pytest.approx(-np.log(4), abs=1e-6)
    assert got.logprob[1] == pytest.approx(0, abs=1e-6)
    assert np.isnan(got.logprob[2:]).all()


def test_what_does_not_fit_is_refused():
    logits = np.zeros((2, 8), np.float32)
    one, zero = np.ones(1, np.int32), np.zeros(1, np.int32)
    with pytest.raises(IndexError, match="row"):
        score_rows(logits, one * 2, zero)
    with pytest.raises(IndexError, match="target"):
        score_rows(logits, zero, one * 8)
    with pytest.raises(IndexError, match="target"):
        score_rows(logits, zero, -one)
    with pytest.raises(ValueError, match="length"):
        score_rows(logits, zero, np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="float32"):
        score_rows(logits.astype(np.float64), zero, zero)
    with pytest.raises(ValueError, match="level"):
        score_rows(logits, zero, zero, "sse9")
