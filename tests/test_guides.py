"""The rules of guides against plain probabilities, as their equations read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.base.errors import UsageError
from urial_local.runtime import guides
from urial_local.runtime.guides import PARAMETERS, Rule, combine, softmax

ROWS = {"proxy": 3}


def rows(n: int, seed: int, size: int = 9) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size) * rng.uniform(0.3, 4) + rng.normal() * 5 for _ in range(n)]


def oracle(rule: Rule, p: np.ndarray, q: np.ndarray, r: np.ndarray | None = None) -> np.ndarray:
    """In probabilities, a token at a time."""
    n = len(p)
    if rule.name in ("nudge", "defer-whole"):
        return p if max(p) >= rule.gamma else q
    if rule.name == "blend":
        if max(p) >= rule.gamma:
            return p
        a = max(q) / (max(p) + max(q)) + 0.1 * p[int(np.argmax(q))]
        a = min(max(a, 0), 1)
        return np.array([a * q[v] + (1 - a) * p[v] for v in range(n)])
    if rule.name in ("defer", "bet"):
        border = rule.gamma if rule.name == "defer" else max(q) - rule.gamma
        d = [1.0 if p[v] < border else 0.0 for v in range(n)]
        moved = sum(d[v] * p[v] for v in range(n))
        return np.array([(1 - d[v]) * p[v] + moved * q[v] for v in range(n)])
    if rule.name == "proxy":
        weight = [
            p[v] * (q[v] / r[v]) ** rule.beta
            if rule.beta == 0 or p[v] >= 0.1 * max(p) or q[v] >= 0.1 * max(q)
            else 0.0
            for v in range(n)
        ]
    else:
        first, second = (q, p) if rule.name == "amplify" else (p, q)
        weight = [
            first[v] * (first[v] / second[v]) ** rule.alpha
            if rule.alpha <= 0 or first[v] >= 0.1 * max(first)
            else 0.0
            for v in range(n)
        ]
    return np.array(weight) / sum(weight)


@pytest.mark.parametrize("name", list(PARAMETERS))
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), at=st.sampled_from([0.0, 0.1, 0.4, 0.7, 1.0, 1.5]))
def test_every_rule_is_its_equation_and_sums_to_one(name, seed, at):
    rule = Rule(name, **{PARAMETERS[name]: at})
    given_rows = rows(ROWS.get(name, 2), seed)
    found = combine(rule, given_rows)
    expected = oracle(rule, *(softmax(row) for row in given_rows))
    assert softmax(found).sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(softmax(found), expected, atol=1e-12)
    # At the height of the base's row, the probabilities themselves sum to one.
    heights = [guides.log_sum_exp(row) for row in given_rows]
    own = heights[1] if name == "amplify" else heights[0]
    if not any(found is row for row in given_rows):
        assert np.exp(found - own).sum() == pytest.approx(1, abs=1e-9)
    assert all(np.isfinite(row).all() for row in given_rows), "rows are left as they were"


@pytest.mark.parametrize("name", list(PARAMETERS))
@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_models_that_agree_change_nothing(name, seed):
    (row,) = rows(1, seed)
    at = {PARAMETERS[name]: 0.3}
    if name in ("amplify", "contrast", "proxy"):
        kept = softmax(row) * (softmax(row) >= 0.1 * softmax(row).max())
        expected = kept / kept.sum()
    elif name in ("defer", "bet"):  # what is dealt out anew goes to the same tokens, so it sharpens
        assert combine(Rule(name, **at), [row] * 2).argmax() == row.argmax()
        return
    else:
        expected = softmax(row)
    np.testing.assert_allclose(softmax(combine(Rule(name, **at), [row] * 3)), expected, atol=1e-12)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_ends_of_the_parameters(seed):
    p, q = rows(2, seed)
    for name in ("nudge", "defer-whole", "blend", "defer"):
        assert combine(Rule(name, gamma=0), [p, q]) is p, "the base alone"
    for name in ("nudge", "defer-whole"):
        assert combine(Rule(name, gamma=1.1), [p, q]) is q, "the guide alone"
    np.testing.assert_allclose(softmax(combine(Rule("defer", gamma=1.1), [p, q])), softmax(q))
    assert combine(Rule("bet", gamma=1), [p, q]) is p
    assert combine(Rule("amplify", alpha=-1), [p, q]) is p
    assert combine(Rule("amplify", alpha=0), [p, q]) is q
    assert combine(Rule("contrast", alpha=0), [p, q]) is p
    assert combine(Rule("proxy", beta=0), [p, q, q]) is p


def test_a_base_that_is_sure_of_its_end_asks():
    p, q = np.array([9.0, 0, 0]), np.array([0.0, 1, 0])
    assert guides.nudge(p, q, 0.4, ends=(0,)) is q, "the guide would go on"
    assert guides.nudge(p, p * 0.5, 0.4, ends=(0,)) is p, "both end"
    assert guides.nudge(p, q, 0.4, ends=(2,)) is p
    assert guides.nudge(p, q, 0.0, ends=(0,)) is p, "at 0 the base alone"


def test_tokens_of_no_probability_stay_numbers():
    p = np.array([1.0, -np.inf, 0.5])
    q = np.array([-np.inf, 2.0, 0.5])
    for name in PARAMETERS:
        found = combine(Rule(name), [p, q, q])
        assert not np.isnan(found).any()
        assert softmax(found).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "at"),
    [("mud", {}), ("nudge", {"gamma": -0.1}), ("proxy", {"beta": 99}), ("amplify", {"alpha": -2})],
)
def test_rules_out_of_range(name, at):
    with pytest.raises(UsageError):
        Rule(name, **at)
