"""Swaps in the decode loop, on models with known logits: against plain loops over both."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.fakes import END, FakeDecoder, greedy
from tests.test_engine import PREFIX, VOCAB, prompts
from tests.test_guided import BASE, ENDS, GUIDE, HINT
from urial_local.base.errors import UsageError
from urial_local.runtime.engine import Engine
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.swaps import ALL, Budget, Criterion, Order, Swapping, drawn_number
from urial_local.runtime.voice import Voice

CRITERIA = ("js>0.3", "js<0.3", "dlogp>2", "entropy>2", "entropy<2", "maxp<0.4", "maxp>0.4")
BUDGETS = ("0%", "5%", "30%", "100%", "0", "2")
N = 12


def asked(n=5, **more):
    return [
        Request(p, max_tokens=N, shared=len(PREFIX), others=(HINT,), tag=i, **more)
        for i, p in enumerate(prompts(n))
    ]


def opened(orders, rows=4, other=GUIDE, room=1 << 30):
    decoder = FakeDecoder(other, n_seq=rows)
    chooser = Swapping(Voice(decoder), ENDS, room)
    for tag, order in orders.items():
        chooser.order(tag, order)
    engine = Engine(VOCAB, FakeDecoder(BASE, n_seq=rows + 1), rows=rows, chooser=chooser)
    return engine, chooser, decoder


def softmax(x):
    e = np.exp(x.astype(np.float64) - x.max())
    return e / e.sum()


def value_of(criterion, w, o, seed, t):
    """The definitions, in float64."""
    if criterion.name == "random":
        return drawn_number(seed, t)
    if criterion.name == "js":
        m = (w + o) / 2
        return float((w * np.log(w / m)).sum() / 2 + (o * np.log(o / m)).sum() / 2)
    if criterion.name == "dlogp":
        return math.log(o[o.argmax()] / w[o.argmax()])
    if criterion.name == "entropy":
        return float(-(w * np.log(w)).sum())
    return float(w.max())


def plainly(order, prompt, base=BASE, other=GUIDE):
    """The oracle: both models, a token at a time, no cache."""
    answer: list[int] = []
    swaps: list[tuple[int, float, int, int]] = []
    while len(answer) < N:
        w, o = base((*prompt, *answer)), other((*HINT, *answer))
        t = len(answer)
        budget = order.budget
        most = budget.count if budget.count is not None else math.ceil(budget.share * (t + 1))
        value = value_of(order.criterion, softmax(w), softmax(o), order.seed, t)
        token = int(w.argmax())
        above, border = order.criterion.above, order.criterion.threshold
        if len(swaps) < most and (value > border if above else value < border):
            token = int(o.argmax())
            swaps.append((t, value, token, int(w.argmax())))
        if token == END:
            break
        answer.append(token)
    return tuple(answer), swaps


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("text", [*CRITERIA, "random"])
def test_every_criterion_swaps_what_a_plain_loop_swaps(text, budget):
    criterion = Criterion.parse(text, rate=0.4)
    orders = {i: Order(criterion, Budget.parse(budget), seed=i) for i in range(5)}
    engine, chooser, decoder = opened(orders)
    for request, done in zip(asked(), engine.complete(asked()), strict=True):
        tokens, swaps = plainly(orders[request.tag], request.tokens)
        assert done.tokens == tokens
        found = chooser.taken(request.tag)
        assert [(s.at, s.token, s.instead) for s in found] == [(t, a, b) for t, _, a, b in swaps]
        np.testing.assert_allclose([s.value for s in found], [v for _, v, _, _ in swaps], rtol=1e-4)
        assert done.guidance is not None
        assert done.guidance.at == tuple(t for t, *_ in swaps if t < len(tokens))
    assert not any(decoder.tokens(s) for s in range(4)), "nothing is left behind"


def test_without_a_budget_the_writer_writes_alone_and_nobody_is_asked():
    orders = {i: Order(Criterion.parse("js>0"), Budget.parse("0%")) for i in range(5)}
    engine, _, decoder = opened(orders)
    for request, done in zip(asked(), engine.complete(asked()), strict=True):
        assert done.tokens == greedy(BASE, list(request.tokens), N)
    assert decoder.decoded == 0


def test_at_no_threshold_and_all_of_the_budget_it_is_the_other_at_each_position():
    """Its first choice after its own prompt and what was written: its own greedy answer."""
    orders = {i: Order(Criterion.parse("js>0"), Budget.parse("100%")) for i in range(5)}
    engine, _, _ = opened(orders)
    for done in engine.complete(asked()):
        assert done.tokens == greedy(GUIDE, HINT, N)


def test_rows_in_a_batch_are_those_one_by_one():
    sampled = Sampling(temperature=0.8, top_p=0.9, seed=3)
    for more in ({}, {"sampling": sampled}):
        results = []
        for rows in (1, 4):
            orders = {i: Order(Criterion.parse("js>0.2"), Budget.parse("50%")) for i in range(9)}
            engine, chooser, _ = opened(orders, rows=rows)
            done = engine.complete(asked(9, **more))
            results.append([(d.tokens, chooser.taken(i)) for i, d in enumerate(done)])
        assert results[0] == results[1]


def test_rows_without_an_order_are_the_writers_beside_others_that_have_one():
    engine, chooser, _ = opened({1: Order(Criterion.parse("js>0"), ALL)})
    done = engine.complete(asked(3))
    for i, request in enumerate(asked(3)):
        own = greedy(BASE, list(request.tokens), N)
        assert done[i].tokens == (greedy(GUIDE, HINT, N) if i == 1 else own)
    assert chooser.taken(0) == []


def test_the_others_end_is_the_writers():
    """The other ends at once; it is one swap, at the position of the end."""

    def ends(context):
        row = np.zeros(128, np.float32)
        row[END] = 9
        return row

    engine, chooser, _ = opened({0: Order(Criterion.parse("js>0"), ALL)}, other=ends)
    (done,) = engine.complete(asked(1))
    assert (done.tokens, done.finish_reason, done.end_token) == ((), "eos", END)
    (swap,) = chooser.taken(0)
    assert (swap.at, swap.token) == (0, END)


def test_a_row_ends_where_the_other_has_no_room():
    engine, _, _ = opened({0: Order(Criterion.parse("js>0"), ALL)}, room=len(HINT) + 3)
    (done,) = engine.complete(asked(1))
    assert done.finish_reason == "context"
    assert done.tokens == greedy(GUIDE, HINT, N)[:4]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.07, 1 / 3, 0.5, 1.0])
def test_a_share_holds_at_every_length(share):
    budget, spent = Budget(share=share), 0
    for t in range(400):
        spent += budget.allows(spent, t)
        assert spent == math.ceil(round(share * (t + 1), 9))


def test_a_count_is_spent_as_soon_as_it_can_be():
    budget, spent = Budget(count=3), []
    for t in range(10):
        if budget.allows(len(spent), t):
            spent.append(t)
    assert spent == [0, 1, 2]


def test_random_numbers_are_even_and_depend_on_seed_and_place_alone():
    drawn = [drawn_number(seed, t) for seed in range(20) for t in range(200)]
    assert np.histogram(drawn, 10, (0, 1))[0].min() > 320
    assert len(set(drawn)) == len(drawn)
    assert drawn_number(3, 5) == drawn_number(3, 5)


@pytest.mark.parametrize(
    "text", ["", "js", "js>", "js>x", "kl>1", "js>=1", "random>1", "js>1e999", "js>--1", "random"]
)
def test_what_is_not_a_criterion_is_refused(text):
    with pytest.raises(UsageError):
        Criterion.parse(text)


@pytest.mark.parametrize("text", ["", "%", "101%", "-1", "1.5", "x%", "9" * 12, "٣"])
def test_what_is_not_a_budget_is_refused(text):
    with pytest.raises(UsageError):
        Budget.parse(text)


def test_labels_read_as_they_were_written():
    for text in CRITERIA:
        assert Criterion.parse(text).label == text
        assert Criterion.parse(text.replace(">", " > ")).label == text
    assert [Budget.parse(b).label for b in BUDGETS] == list(BUDGETS)
    assert Criterion.parse("js>0.12345678").label == "js>0.12345678", "rows are told apart by it"
