"""The shift kernel against its float64 twin, at every instruction level this processor runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.levels import LEVELS
from urial_local.runtime.shift_rows import COLUMNS, ShiftRows, shift_rows, shift_rows_numpy

DIVERGENCES = ("kl_base_aligned", "kl_aligned_base", "js")
EXACT = ("status", "base_rank", "aligned_rank", "base_top_ids", "aligned_top_ids")


def agree(ours: ShiftRows, oracle: ShiftRows) -> None:
    for name in COLUMNS:
        got, want = getattr(ours, name), getattr(oracle, name)
        if name in EXACT:
            np.testing.assert_array_equal(got, want, err_msg=name)
        elif name in DIVERGENCES:
            # The bound promised: 1e-5 relative from 1e-4 nats on. Below it, 1e-9 nats.
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-9, err_msg=name)
        else:
            np.testing.assert_allclose(got, want, rtol=2e-6, atol=4e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("n_vocab", [1, 2, 31, 32, 33, 2047, 2049, 32000, 128256])
@pytest.mark.parametrize("distance", [1e-3, 1e-2, 0.1, 1.0, 6.0])
def test_random_pairs(level, n_vocab, distance):
    rng = np.random.default_rng(n_vocab + int(distance * 1000))
    base = (rng.normal(size=(4, n_vocab)) * 3 + rng.normal() * 20).astype(np.float32)
    aligned = (base + rng.normal(size=base.shape) * distance - 15).astype(np.float32)
    targets = rng.integers(0, n_vocab, 4).astype(np.int32)
    agree(shift_rows(base, aligned, targets, level=level), shift_rows_numpy(base, aligned, targets))


@pytest.mark.parametrize("level", LEVELS)
def test_small_divergences_keep_their_digits(level):
    """Near 1e-4 nats, where KL as a sum of p ln(p/q) in single precision keeps two digits."""
    rng = np.random.default_rng(1)
    for n_vocab in (2, 100, 32000):
        base = (rng.normal(size=(8, n_vocab)) * 4).astype(np.float32)
        aligned = (base + rng.normal(size=base.shape) * 0.015 + 30).astype(np.float32)
        targets = np.zeros(8, np.int32)
        ours = shift_rows(base, aligned, targets, level=level)
        oracle = shift_rows_numpy(base, aligned, targets)
        for name in ("kl_base_aligned", "kl_aligned_base"):
            got, want = getattr(ours, name), getattr(oracle, name)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_any_pair(level, data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 100)))
    special = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan, 88.0, -88.0, 1e4, -1e4, 1.5])
    values = st.one_of(st.floats(-100, 100, width=32), special)
    base = data.draw(hnp.arrays(np.float32, shape, elements=values))
    aligned = data.draw(hnp.arrays(np.float32, shape, elements=values))
    targets = np.array([data.draw(st.integers(0, shape[1] - 1)) for _ in base], np.int32)
    k = data.draw(st.integers(0, 12))
    agree(
        shift_rows(base, aligned, targets, k=k, level=level),
        shift_rows_numpy(base, aligned, targets, k=k),
    )


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("n_vocab", "spread"),
    [(20, 1.0), (700, 0.0), (5000, 0.3), (20000, 0.01), (20000, 2.5), (70000, 1.5), (70000, 0.5)],
)
def test_the_nucleus_of_flat_rows(level, n_vocab, spread):
    """From ten tokens to most of the vocabulary: every way in which its border is found."""
    rng = np.random.default_rng(n_vocab)
    base = (rng.normal(size=(3, n_vocab)) * spread).astype(np.float32)
    base[1] = np.round(base[1] * 4) / 4  # many equal logits
    base[2, ::3] = -np.inf
    aligned = np.roll(base, 1, axis=1)
    targets = rng.integers(0, n_vocab, 3).astype(np.int32)
    agree(shift_rows(base, aligned, targets, level=level), shift_rows_numpy(base, aligned, targets))


@pytest.mark.parametrize("level", LEVELS)
def test_overlap_nucleus_and_mass_above_by_hand(level):
    p = np.array([[0.5, 0.25, 0.125, 0.125], [0.5, 0.25, 0.125, 0.125]])
    q = np.array([[0.125, 0.25, 0.125, 0.5], [0.0, 0.0, 0.95, 0.05]])
    with np.errstate(divide="ignore"):
        logits = [np.log(x).astype(np.float32) + 7 for x in (p, q)]
    got = shift_rows(*logits, np.array([3, 1], np.int32), level=level)
    # min by token: 1/8 + 1/4 + 1/8 + 1/8, and 1/8 + 1/20
    np.testing.assert_allclose(got.overlap, [0.625, 0.175], atol=1e-6)
    # The two tokens of 1/8 are equal, and equal ones are not above.
    np.testing.assert_allclose(got.base_above, [0.75, 0.5], atol=1e-6)
    # All four of the base are needed for 0.9; one of the aligned model's is enough for 0.95.
    np.testing.assert_allclose(got.base_nucleus_entropy, [1.75 * math.log(2)] * 2, rtol=1e-6)
    np.testing.assert_allclose(got.aligned_nucleus_mass, [1.0, 0.95], atol=1e-6)
    assert got.aligned_nucleus_entropy[1] == 0


@pytest.mark.parametrize("level", LEVELS)
def test_a_model_against_itself_has_no_shift(level):
    rng = np.random.default_rng(3)
    logits = (rng.normal(size=(5, 5000)) * 4).astype(np.float32)
    best = logits.argmax(1).astype(np.int32)
    got = shift_rows(logits, logits, best, level=level)
    for name in DIVERGENCES:
        assert getattr(got, name).tolist() == [0.0] * 5, name
    assert got.base_rank.tolist() == got.aligned_rank.tolist() == [1] * 5
    np.testing.assert_array_equal(got.base_top_ids, got.aligned_top_ids)
    assert got.overlap.tolist() == [1.0] * 5
    assert got.base_above.tolist() == [0.0] * 5


@pytest.mark.parametrize("level", LEVELS)
def test_defined_results_for_odd_rows(level):
    inf, nan = np.inf, np.nan
    even = [1.0, 1.0, 1.0, 1.0]
    one = [-inf, 2.0, -inf, -inf]
    base = np.array([even, even, one, [0, nan, 1, 2], even, [-inf] * 4, one], np.float32)
    aligned = np.array([even, one, even, even, [0, inf, 1, 2], [nan] * 4, one], np.float32)
    got = shift_rows(base, aligned, np.array([2, 1, 1, 0, 3, 0, 1], np.int32), k=3, level=level)
    assert got.status.tolist() == [0, 0, 0, 1, 2, 3, 0]
    assert got.base_rank.tolist() == [3, 2, 1, 0, 4, 0, 1], "ties go to the lower id"
    assert got.kl_base_aligned[:3].tolist() == [0.0, inf, pytest.approx(math.log(4), rel=1e-6)]
    assert got.kl_aligned_base[:3].tolist() == [0.0, pytest.approx(math.log(4), rel=1e-6), inf]
    # m = (5/8, 1/8, 1/8, 1/8): ½ (¼ ln(¼ / ⅝) + ¾ ln 2) + ½ ln(1 / ⅝)
    js = (0.25 * math.log(0.4) + 0.75 * math.log(2) + math.log(1.6)) / 2
    assert got.js[1:3].tolist() == [pytest.approx(js, rel=1e-6)] * 2
    for name in DIVERGENCES:
        assert np.isnan(getattr(got, name)[3:6]).all()
    assert got.base_top_ids[[0, 2, 3]].tolist() == [[0, 1, 2], [1, -1, -1], [-1, -1, -1]]
    assert got.base_outside[0] == pytest.approx(0.25, abs=1e-6)
    assert got.aligned_logprob[3] == pytest.approx(-math.log(4), abs=1e-6), "the sound side stays"
    assert got.kl_base_aligned[6] == got.kl_aligned_base[6] == got.js[6] == 0


def test_threads_and_row_numbers_change_nothing():
    rng = np.random.default_rng(5)
    base, aligned = rng.normal(size=(2, 7, 300)).astype(np.float32)
    targets = rng.integers(0, 300, 6).astype(np.int32)
    picked = np.array([6, 0, 3, 3, 1, 2], np.int32), np.array([1, 1, 0, 6, 5, 4], np.int32)
    plain = shift_rows(base[picked[0]], aligned[picked[1]], targets)
    for threads in (1, 2, 3, 50):
        got = shift_rows(
            base, aligned, targets, base_rows=picked[0], aligned_rows=picked[1], threads=threads
        )
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(got, name), getattr(plain, name), err_msg=name)


def test_no_positions_give_empty_columns():
    logits = np.zeros((1, 8), np.float32)
    got = shift_rows(logits, logits, np.zeros(0, np.int32))
    assert got.js.shape == (0,)
    assert got.base_top_ids.shape == (0, 10)


def test_what_does_not_fit_is_refused():
    logits = np.zeros((2, 8), np.float32)
    zero = np.zeros(1, np.int32)
    with pytest.raises(IndexError, match="row"):
        shift_rows(logits, logits, zero, aligned_rows=zero + 2)
    with pytest.raises(IndexError, match="target"):
        shift_rows(logits, logits, zero - 1)
    with pytest.raises(ValueError, match="length"):
        shift_rows(logits, logits, zero, base_rows=np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="shape"):
        shift_rows(logits, np.zeros((2, 9), np.float32), zero)
    with pytest.raises(ValueError, match="64"):
        shift_rows(logits, logits, zero, k=65)
    with pytest.raises(ValueError, match="float32"):
        shift_rows(logits.astype(np.float64), logits, zero)
    with pytest.raises(ValueError, match="level"):
        shift_rows(logits, logits, zero, level="sse9")
