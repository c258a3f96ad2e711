from __future__ import annotations

import numpy as np
import pytest

from urial_local.base.errors import UsageError
from urial_local.runtime.draw_rows import DrawTask, draw_rows
from urial_local.runtime.sampling import Sampler, Sampling, row_seed

SEEDED = [1, 1, 4, 2, 0, 2, 1, 0, 2, 0, 0, 0]
LOGITS = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05])).astype(np.float32)


def choose(sampler: Sampler, logits: np.ndarray) -> int:
    """As the engine's step does it."""
    task = DrawTask(logits, logits, sampler.sampling, sampler.seen(), sampler.uniform())
    token = int(draw_rows([task]).tokens[0])
    sampler.accept(token)
    return token


def shares(sampling: Sampling, n: int = 4000) -> np.ndarray:
    sampler = Sampler(sampling, [])
    drawn = [choose(sampler, LOGITS) for _ in range(n)]
    return np.bincount(drawn, minlength=5) / n


def test_greedy_takes_the_best_and_the_lower_id_of_equals():
    assert choose(Sampler(Sampling(), []), LOGITS) == 0
    assert choose(Sampler(Sampling(), []), np.array([1, 3, 3], np.float32)) == 1


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1), [0.4, 0.3, 0.15, 0.1, 0.05]),
        (Sampling(temperature=1, top_k=2), [4 / 7, 3 / 7, 0, 0, 0]),
        (Sampling(temperature=1, top_p=0.69), [4 / 7, 3 / 7, 0, 0, 0]),
        (Sampling(temperature=1, top_p=0.71), [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0, 0]),
        (Sampling(temperature=1, min_p=0.3), [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0, 0]),
        (Sampling(temperature=0.5), np.array([0.4, 0.3, 0.15, 0.1, 0.05]) ** 2 / 0.285),
        (Sampling(temperature=1, top_k=1), [1, 0, 0, 0, 0]),
    ],
)
def test_draws_follow_the_distribution(sampling, expected):
    # Four standard errors of a share at 4000 draws are at most 0.032.
    np.testing.assert_allclose(shares(sampling), expected, atol=0.032)


def test_seeds_repeat_and_differ():
    def draw(seed: int) -> list[int]:
        sampler = Sampler(Sampling(temperature=1, seed=seed), [])
        return [choose(sampler, LOGITS) for _ in range(50)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert row_seed(0, "a") == row_seed(0, "a")
    assert len({row_seed(s, r, k) for s in range(3) for r in "abc" for k in range(3)}) == 27


def test_what_the_penalty_looks_at():
    """All of it, the output alone, or a window that slides over both."""
    seen = {}
    for scope in ("all", "output", "3"):
        sampler = Sampler(Sampling(repeat_penalty=2, penalty_scope=scope), [1, 2])
        before = sampler.seen().tolist()
        for token in (5, 6, 7, 7):
            sampler.accept(token)
        seen[scope] = (before, sampler.seen().tolist())
    assert seen == {
        "all": ([1, 2], [1, 2, 5, 6, 7, 7]),
        "output": ([], [5, 6, 7, 7]),
        "3": ([1, 2], [6, 7, 7]),
    }


def test_a_seed_draws_what_it_drew_before():
    """Row seeds and their results are kept from release to release."""
    sampler = Sampler(Sampling(temperature=1, seed=row_seed(0, "a")), [])
    assert [choose(sampler, LOGITS) for _ in range(12)] == SEEDED


def test_the_penalty_follows_the_output():
    logits = np.array([3, 2, 1], np.float32)
    for scope, expected in (("output", [0, 1, 0]), ("1", [0, 1, 0])):
        sampler = Sampler(Sampling(repeat_penalty=2, penalty_scope=scope), [])
        assert [choose(sampler, logits) for _ in range(3)] == expected
    assert logits.tolist() == [3, 2, 1], "the model's own logits are not changed"


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 2},
        {"repeat_penalty": 0},
        {"penalty_scope": "some"},
        {"penalty_scope": "0"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError, match="Sampling"):
        Sampling(**wrong)
