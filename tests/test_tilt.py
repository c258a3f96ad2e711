"""Biases and OpenAI's penalties against their definition, token by token."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import END, ByteVocab, FakeDecoder, random_logits
from urial_local.base.errors import UsageError
from urial_local.runtime.engine import Engine
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.tilt import Tilt

LOGITS = random_logits()
PROMPT = [65, 66, 67]
TILTS = {
    "nothing": Tilt(),
    "a bias": Tilt(((70, 3.5), (71, -100.0), (72, 0.25))),
    "an end that cannot come": Tilt(((END, -100.0),)),
    "presence": Tilt(presence=1.5),
    "frequency": Tilt(frequency=0.75),
    "a liking for what was said": Tilt(presence=-2.0, frequency=-1.0),
    "all": Tilt(((70, 2.0),), presence=1.0, frequency=0.5),
}


def wanted(tilt: Tilt, n: int, answer: tuple[int, ...] = ()) -> tuple[list[int], list[float]]:
    """The oracle: the formula for one token after another, in float64; with log-probabilities."""
    found, told = list(answer), []
    for _ in range(n - len(answer)):
        row = LOGITS((*PROMPT, *found)).astype(np.float64)
        x = row.copy()
        for token, value in tilt.bias:
            x[token] += value
        for token in set(found):
            x[token] -= tilt.frequency * found.count(token) + tilt.presence
        token = int(x.argmax())
        if token == END:
            break
        found.append(token)
        told.append(row[token] - np.log(np.exp(row).sum()))
    return found, told


def answer(requests: list[Request]):
    decoder = FakeDecoder(LOGITS, n_seq=6, cells=4000)
    return Engine(ByteVocab(), decoder, rows=4).complete(requests)


@pytest.mark.parametrize("name", TILTS)
def test_the_definition(name):
    tokens, logprobs = wanted(TILTS[name], 60)
    (done,) = answer([Request(PROMPT, max_tokens=60, tilt=TILTS[name])])
    assert list(done.tokens) == tokens
    assert np.allclose(done.logprobs[: len(logprobs)], logprobs, atol=1e-5)
    assert bool(TILTS[name]) == (name != "nothing")


def test_each_of_them_changes_something():
    plain = wanted(Tilt(), 60)[0]
    changed = {name: wanted(tilt, 60)[0] for name, tilt in TILTS.items() if tilt}
    assert all(tokens != plain for tokens in changed.values())


def test_neighbours_have_their_own():
    done = answer([Request(PROMPT, max_tokens=40, tilt=tilt) for tilt in TILTS.values()])
    assert [list(d.tokens) for d in done] == [wanted(tilt, 40)[0] for tilt in TILTS.values()]


def test_an_answer_that_goes_on_counts_its_beginning():
    tilt = Tilt(presence=1.0, frequency=0.5)
    whole = wanted(tilt, 40)[0]
    begun = tuple(whole[:15])
    (done,) = answer([Request([*PROMPT, *begun], max_tokens=25, tilt=tilt, begun=len(begun))])
    assert [*begun, *done.tokens] == whole
    (done,) = answer([Request(PROMPT, max_tokens=25, tilt=tilt, prefill=begun)])
    assert list(done.tokens) == whole


def test_drawing_follows_the_changed_logits():
    """A token whose bias outweighs all others is drawn always, and one without a chance never."""
    hot = Sampling(temperature=1.0, seed=3)
    (done,) = answer([Request(PROMPT, hot, max_tokens=30, tilt=Tilt(((90, 100.0),)))])
    assert done.tokens == (90,) * 30
    banned = Tilt(tuple((token, -100.0) for token in range(128) if token not in (80, 81)))
    (done,) = answer([Request(PROMPT, hot, max_tokens=60, tilt=banned)])
    assert set(done.tokens) == {80, 81}


@pytest.mark.parametrize(
    "wrong",
    [
        {"presence": 2.1},
        {"frequency": -2.1},
        {"presence": float("nan")},
        {"bias": ((5, 100.5),)},
        {"bias": ((5, float("nan")),)},
        {"bias": ((-1, 1.0),)},
    ],
)
def test_what_is_out_of_bounds_is_refused(wrong):
    with pytest.raises(UsageError):
        Tilt(**wrong)
