from __future__ import annotations

import numpy as np
import pytest

from urial_local.base.errors import UsageError
from urial_local.runtime.sampling import Sampler, Sampling, row_seed

LOGITS = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05])).astype(np.float32)


def shares(sampling: Sampling, n: int = 4000) -> np.ndarray:
    sampler = Sampler(sampling, [])
    drawn = [sampler.choose(LOGITS) for _ in range(n)]
    return np.bincount(drawn, minlength=5) / n


def test_greedy_takes_the_best_and_the_lower_id_of_equals():
    assert Sampler(Sampling(), []).choose(LOGITS) == 0
    assert Sampler(Sampling(), []).choose(np.array([1, 3, 3], np.float32)) == 1


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
        return [sampler.choose(LOGITS) for _ in range(50)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert row_seed(0, "a") == row_seed(0, "a")
    assert len({row_seed(s, r, k) for s in range(3) for r in "abc" for k in range(3)}) == 27


def penalised(scope: str, prompt: list[int], x: list[float]) -> np.ndarray:
    return Sampler(Sampling(repeat_penalty=2, penalty_scope=scope), prompt)._penalised(
        np.array(x, np.float32)
    )


def test_the_penalty_is_hugging_faces():
    # Once for each token of the scope, however often it occurs; positive divided, negative times.
    assert penalised("all", [0, 0, 2], [4, 4, -4, -4]).tolist() == [2, 4, -8, -4]
    assert penalised("output", [0, 0, 2], [4, 4, -4, -4]).tolist() == [4, 4, -4, -4]
    assert penalised("2", [0, 1, 2], [4, 4, 4, 4]).tolist() == [4, 2, 2, 4]


def test_the_penalty_follows_the_output():
    logits = np.array([3, 2, 1], np.float32)
    for scope, expected in (("output", [0, 1, 0]), ("1", [0, 1, 0])):
        sampler = Sampler(Sampling(repeat_penalty=2, penalty_scope=scope), [])
        assert [sampler.choose(logits) for _ in range(3)] == expected
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
