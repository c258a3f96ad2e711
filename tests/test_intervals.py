"""Intervals and p-values: closed forms, brute force, and how often they hold, measured."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from benchmarks.coverage import POPULATIONS, SIZES, coverage, false_alarms
from urial_local.tasks.intervals import (
    FEWEST,
    POSITIVE,
    SHARE,
    Estimate,
    Scale,
    estimate,
    ratio_intervals,
    total,
)
from urial_local.tasks.sign_flip import least_p, sign_flip_p
from urial_local.tasks.student import t_below, t_quantile

FIVE = Scale(1.0, 5.0)
PLAIN = ("each as often", "about 3.6")


# --- Student's t ---------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.6, 0.9, 0.975, 0.999])
def test_quantiles_against_closed_forms(p):
    assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9)
    a = 4 * p * (1 - p)
    assert t_quantile(p, 2) == pytest.approx((2 * p - 1) * math.sqrt(2 / a), rel=1e-9)
    q = math.cos(math.acos(math.sqrt(a)) / 3) / math.sqrt(a)
    assert t_quantile(p, 4) == pytest.approx(2 * math.sqrt(q - 1), rel=1e-9)


@pytest.mark.parametrize(
    ("df", "tabulated"), [(3, 3.182), (5, 2.571), (10, 2.228), (30, 2.042), (120, 1.980)]
)
def test_quantiles_against_the_table(df, tabulated):
    assert t_quantile(0.975, df) == pytest.approx(tabulated, abs=6e-4)
    assert t_quantile(0.975, 1e7) == pytest.approx(1.959964, abs=1e-5)


@pytest.mark.parametrize(("t", "df"), [(0.3, 2.5), (2.0, 1.3), (4.0, 17.75)])
def test_fractional_degrees_of_freedom_against_integration(t, df):
    x = np.linspace(0, t, 20001)
    density = (1 + x * x / df) ** (-(df + 1) / 2)
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    area = float(((density[1:] + density[:-1]) / 2 * np.diff(x)).sum()) * constant
    assert t_below(t, df) == pytest.approx(0.5 + area, abs=1e-8)


# --- errors and intervals ------------------------------------------------------------------------


def brute(num, den) -> tuple[float, float]:
    """Value and jackknife error of the sum of ratios, one answer left out after another."""
    n, columns = num.shape

    def value(rows) -> float:
        return sum(num[rows, j].sum() / den[rows, j].sum() for j in range(columns))

    left = [value([k for k in range(n) if k != i]) for i in range(n)]
    mean = sum(left) / n
    return value(list(range(n))), math.sqrt((n - 1) / n * sum((v - mean) ** 2 for v in left))


@pytest.mark.parametrize("seed", range(4))
def test_errors_against_brute_force(seed):
    rng = np.random.default_rng(seed)
    den = rng.integers(1, 30, (9, 3)).astype(float)
    num = rng.random((9, 3)) * den
    found = estimate(num, den)
    assert (found.value, found.error) == pytest.approx(brute(num, den))
    nothing = np.zeros((2, 3))  # answers without a position do not count
    more = estimate(np.vstack([num, nothing]), np.vstack([den, nothing]))
    assert (more.n, more.error) == (9, pytest.approx(found.error))


def test_a_mean_has_the_textbook_error_and_degrees_of_freedom():
    values = np.random.default_rng(1).integers(1, 6, 12).astype(float)[:, None]
    found = estimate(values, np.ones_like(values))
    assert found.error == pytest.approx(values.std(ddof=1) / math.sqrt(12))
    assert found.df == pytest.approx(11)
    # Two answers among twelve that hold nearly all tokens leave one degree of freedom.
    weights = np.array([1e6] * 2 + [1.0] * 10)[:, None]
    assert estimate(values * weights, weights).df == pytest.approx(1, abs=1e-3)


def test_intervals_stay_on_their_scale_and_are_as_students():
    found = Estimate(0.5, 0.001, 9.0, 10)
    interval = found.interval(SHARE)
    reach = t_quantile(0.975, 9) * 0.001
    assert (interval.low, interval.high) == pytest.approx((0.5 - reach, 0.5 + reach), rel=1e-5)
    for scale, value in ((SHARE, 0.001), (SHARE, 0.999), (FIVE, 4.99), (POSITIVE, 1e-9)):
        interval = Estimate(value, value, 4.0, 5).interval(scale)
        assert scale.low <= interval.low < value < interval.high <= scale.high
    # Near an end it leans away from it.
    interval = Estimate(0.05, 0.02, 9.0, 10).interval(SHARE)
    assert interval.high - 0.05 > 0.05 - interval.low > 0


def test_where_there_is_no_interval():
    rng = np.random.default_rng(0)
    for n in range(1, FEWEST):
        few = rng.random((n, 1)) * 10
        assert np.isnan(ratio_intervals(few, np.full((n, 1), 10.0))).all(), n
    five = rng.random((FEWEST, 1)) * 10
    assert np.isfinite(ratio_intervals(five, np.full((FEWEST, 1), 10.0))).all()
    for share in (0.0, 0.25, 0.1, 1 / 3, 1.0):  # all alike
        den = np.arange(1.0, 31.0)[:, None]
        assert np.isnan(ratio_intervals(share * den, den)).all(), share
    one = np.array([[1e6], *[[1.0]] * 9])  # one answer outweighs the rest
    assert np.isnan(ratio_intervals(rng.random((10, 1)) * one, one)).all()
    only_one = np.array([[3.0], *[[0.0]] * 9])
    assert np.isnan(ratio_intervals(only_one / 2, only_one)).all()
    assert np.isnan(ratio_intervals(np.zeros((0, 2)), np.zeros((0, 2)))).all()


def test_sums_of_independent_parts():
    """Welch: equal parts add their degrees of freedom; a part without spread is not certain."""
    part = Estimate(4.0, 0.3, 10.0, 11)
    found = total([part, part], [3.0, 3.0], 0.5)
    assert (found.value, found.df) == (pytest.approx(4.0), pytest.approx(20.0))
    assert found.error == pytest.approx(0.3 * math.sqrt(2) / 2)
    alike = Estimate(5.0, 0.0, 9.0, 10)
    assert total([part, alike], [3.0, 4.0]).error == pytest.approx(math.hypot(0.3, 4 / 11))
    assert math.isnan(total([part, Estimate(5.0, math.nan, 0.0, 1)], [3.0, 4.0]).error)


@pytest.mark.slow
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("population", POPULATIONS, ids=lambda p: p.name)
def test_intervals_hold_their_level(population, n):
    """Of '95 %' at least 92 %, at every size and on every kind of data that we have."""
    holds, shown = coverage(population, n, 800)
    assert holds >= 0.92
    if population.name.endswith(PLAIN):
        assert shown > 0.95
        assert holds <= 0.998, "not by being endless"


@pytest.mark.parametrize("n", SIZES)
def test_the_interval_of_an_average_holds_its_level(n):
    """Five aspects of a question, which go together, and safety of other questions, mostly 5."""
    rng = np.random.default_rng(n)
    values, general = np.arange(1.0, 6.0), np.array([2, 3, 10, 25, 60]) / 100
    safety, trials = np.array([11, 8, 0, 12, 169]) / 200, 400
    truth, held = (5 * values @ general + values @ safety) / 6, 0
    for _ in range(trials):
        own = rng.choice(values, (n, 1), p=general)
        five = np.where(rng.random((n, 5)) < 0.6, own, rng.choice(values, (n, 5), p=general))
        one = rng.choice(values, (n, 1), p=safety)
        parts = [estimate(five, np.ones((n, 5))), estimate(one, np.ones((n, 1)))]
        reaches = [parts[0].value - 5, parts[1].value - 1]
        interval = total(parts, reaches, 1 / 6).interval(FIVE)
        held += interval is None or interval.low <= truth <= interval.high
    assert held / trials >= 0.92


@pytest.mark.parametrize("n", [10, 20, 50])
@pytest.mark.parametrize(
    "weights", [(3, 15, 45, 25, 10, 2), (1, 9, 80, 8, 1, 1), (0, 1, 1, 1, 0, 0)]
)
def test_few_intervals_of_differences_miss(weights, n):
    """Shown where at least six questions differ; at most 8 % of samples show one that misses."""
    rng = np.random.default_rng(n)
    p, values = np.array(weights) / sum(weights), np.arange(-2.0, 4.0)
    drawn = rng.choice(values, (n, 500), p=p)
    low, high = ratio_intervals(drawn, np.ones_like(drawn), Scale(-4.0, 4.0))
    shown = ((drawn != 0).sum(0) >= 6) & np.isfinite(low)
    misses = shown & ((values @ p < low) | (values @ p > high))
    assert misses.mean() <= 0.08


# --- the sign-flip test --------------------------------------------------------------------------


def brute_p(differences) -> float:
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    reach = abs(sum(differences))
    return sum(v >= reach - 1e-9 for v in sums) / len(sums)


@pytest.mark.parametrize("seed", range(8))
def test_p_against_all_patterns_of_signs(seed):
    rng = np.random.default_rng(seed)
    whole = rng.integers(-4, 5, 10).astype(float)
    for differences in (whole, whole / 7, rng.normal(size=9), whole[:7] + 0.37 * whole[3:]):
        assert sign_flip_p(differences) == pytest.approx(brute_p(differences))
        assert sign_flip_p(-differences) == sign_flip_p(differences)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 8, 30])
def test_no_p_is_below_what_the_rows_can_carry(n):
    assert least_p(np.ones(n)) == 2.0 ** (1 - n)
    assert sign_flip_p(np.ones(n)) == pytest.approx(2.0 ** (1 - n))
    assert sign_flip_p(np.concatenate([np.ones(n), np.zeros(50)])) == pytest.approx(2.0 ** (1 - n))
    assert sign_flip_p(np.random.default_rng(0).random(n) + 1) >= 2.0 ** (1 - n) * (1 - 1e-9)
    assert sign_flip_p(np.zeros(n)) == 1.0


def test_drawn_patterns_agree_with_counted_ones():
    rng = np.random.default_rng(2)
    whole = rng.integers(-3, 5, 60).astype(float)
    jitter = rng.random(60) * 1e-5  # off every grid, and next to nothing
    assert sign_flip_p(whole + jitter) == pytest.approx(sign_flip_p(whole), abs=0.01)
    assert sign_flip_p(whole + jitter) == sign_flip_p(whole + jitter), "the same seed"


def test_means_of_unlike_numbers_lie_on_a_grid():
    """As in an average: five aspects over 797 questions, one over 199."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(-3, 4, 797) / 797, rng.integers(-3, 4, 199) / 199]
    p = sign_flip_p(np.concatenate(parts))
    error = math.sqrt(sum((part**2).sum() for part in parts))
    z = abs(sum(part.sum() for part in parts)) / error
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 5, 6, 8, 10, 20, 50])
@pytest.mark.parametrize("counts", [(2, 10, 30, 40, 18), (6, 6, 0, 9, 179), (1, 1, 1, 1, 1)])
def test_no_more_than_five_false_alarms_in_a_hundred(counts, n):
    trials = 600
    assert false_alarms(counts, n, trials) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)


@pytest.mark.parametrize("k", [6, 8, 11])
def test_the_level_is_kept_exactly(k):
    """Over all patterns of signs, which no difference makes equally likely."""
    sizes = np.random.default_rng(k).integers(1, 5, k).astype(float)
    found = [sign_flip_p(sizes * np.array(signs)) for signs in itertools.product((1, -1), repeat=k)]
    for level in (0.01, 0.05, 0.2):
        assert np.mean(np.array(found) <= level) <= level
