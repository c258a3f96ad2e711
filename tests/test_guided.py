"""A guide in the decode loop, on models with known logits: against plain loops over both."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import END, FakeDecoder, greedy, random_logits
from tests.test_engine import PREFIX, VOCAB, prompts
from urial_local.runtime.engine import Engine
from urial_local.runtime.guided import Ends, Guided
from urial_local.runtime.guides import PARAMETERS, Rule, combine, softmax
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.sequences import Aborted
from urial_local.runtime.voice import Voice

HINT = VOCAB.encode("you are kind. ")
SMALL = VOCAB.encode("plain: ")
ENDS = Ends(VOCAB, VOCAB, END)


def sharper(logits, scale=4.0):
    """So that some tokens are sure and others are not."""

    def scaled(context):
        row = logits(context)
        return (row * (scale if sum(context) % 3 else 1)).astype(np.float32)

    return scaled


BASE = sharper(random_logits())


def GUIDE(context):
    return BASE((7, 7, *context))


def THIRD(context):
    return BASE((9, *context))


def asked(n=5, **more):
    prompt = more.pop("others", (HINT, SMALL))
    return [Request(p, max_tokens=9, shared=len(PREFIX), others=prompt, **more) for p in prompts(n)]


def opened(rule, base=BASE, guides=(GUIDE, THIRD), rows=4, batch=64, eager=False):
    decoders = [FakeDecoder(g, n_seq=rows, batch_size=batch) for g in guides]
    count = 2 if rule.name == "proxy" else 1
    chooser = Guided(rule, [Voice(d) for d in decoders[:count]], ENDS, eager=eager)
    engine = Engine(VOCAB, FakeDecoder(base, n_seq=rows + 1), rows=rows, chooser=chooser)
    return engine, decoders


def plainly(rule, prompt, n, others=(HINT, SMALL), base=BASE, guides=(GUIDE, THIRD)):
    """The oracle: all models, a token at a time, no cache."""
    answer: list[int] = []
    for _ in range(n):
        rows = [base((*prompt, *answer))]
        rows += [g((*o, *answer)) for g, o in zip(guides, others, strict=True)]
        found = combine(rule, [r.astype(np.float64) for r in rows], ENDS)
        token = int(found.astype(np.float32).argmax())
        if token == END:
            break
        answer.append(token)
    return tuple(answer)


@pytest.mark.parametrize("name", list(PARAMETERS))
@pytest.mark.parametrize("batch", [5, 64])
def test_every_rule_writes_what_a_plain_loop_writes(name, batch):
    rule = Rule(name)
    engine, decoders = opened(rule, batch=batch)
    for request, done in zip(asked(), engine.complete(asked()), strict=True):
        assert done.tokens == plainly(rule, request.tokens, 9)
        assert done.guidance is not None
        assert all(0 <= top <= 1 for top in done.guidance.base_top)
    assert not any(d.tokens(s) for d in decoders for s in range(4)), "nothing is left behind"


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_eight_rows_equal_one_by_one_and_lazy_equals_eager(name):
    rule = Rule(name)
    sampled = Sampling(temperature=0.8, top_p=0.9, repeat_penalty=1.2, seed=3)
    for more in ({}, {"sampling": sampled}):
        results = []
        for rows, eager in ((1, False), (1, True), (8, False), (8, True)):
            engine, _ = opened(rule, rows=rows, eager=eager)
            results.append([done.tokens for done in engine.complete(asked(9, **more))])
        assert all(found == results[0] for found in results)


def test_a_guide_that_is_the_base_changes_nothing():
    for name in PARAMETERS:
        if name == "proxy":
            continue
        request = asked(1, others=(prompts(1)[0],))[0]
        engine, _ = opened(Rule(name), guides=(BASE,))
        assert engine.complete([request])[0].tokens == greedy(BASE, request.tokens, 9)


@pytest.mark.parametrize(("gamma", "who"), [(0.0, "base"), (1.1, "guide")])
def test_the_ends_of_gamma(gamma, who):
    engine, (decoder, _) = opened(Rule("nudge", gamma=gamma))
    for request, done in zip(asked(), engine.complete(asked()), strict=True):
        if who == "base":
            assert done.tokens == greedy(BASE, request.tokens, 9)
            assert (done.guidance.rate, done.guidance.decoded) == (0, 0)
        else:
            assert done.tokens == greedy(GUIDE, HINT, 9)
            assert done.guidance.rate == 1 or not done.tokens
    assert bool(decoder.decoded) == (who == "guide")


def test_rows_say_which_tokens_the_guide_wrote():
    rule = Rule("nudge")
    engine, (decoder, _) = opened(rule)
    total = 0
    for request, done in zip(asked(), engine.complete(asked()), strict=True):
        expected = []
        for at in range(len(done.tokens)):
            top = softmax(BASE((*request.tokens, *done.tokens[:at])).astype(np.float64)).max()
            if top < rule.gamma:
                expected.append((at, top))
        assert done.guidance.at == tuple(at for at, _ in expected)
        np.testing.assert_allclose(done.guidance.base_top, [p for _, p in expected], atol=1e-6)
        assert done.guidance.rate == len(expected) / len(done.tokens)
        marked = "".join(done.text[a:b] for a, b in done.guidance.spans)
        assert marked == bytes(done.tokens[at] for at, _ in expected).decode()
        total += done.guidance.decoded
    assert total == decoder.decoded, "the cost is told"


def test_a_guide_decodes_once_a_step_for_all_rows_what_they_lack():
    rule = Rule("nudge", gamma=0.5)
    engine, (decoder, _) = opened(rule, rows=8)
    for request in asked(8):
        engine.submit(request)
    nudges = 0
    while engine.running or engine.waiting:
        before = len(decoder.batches)
        asks = sum(step.guided for step in engine.step())
        nudges += asks
        # A step may also ask for consent to an end, so that one without a nudge can decode, too.
        assert len(decoder.batches) - before <= 1
        assert not asks or len(decoder.batches) > before
    assert len(decoder.batches) < nudges, "several rows in one"
    assert len(decoder.batches) <= engine.batches


def test_prefill_reaches_the_guide():
    engine, _ = opened(Rule("nudge", gamma=1.1))
    request = asked(1, prefill=VOCAB.encode("Well"))[0]
    (done,) = engine.complete([request])
    assert done.tokens == (*request.prefill, *greedy(GUIDE, [*HINT, *request.prefill], 9))
    assert not done.tokens[4:] or done.guidance.at[0] == 4


def test_requests_without_a_guides_prompt_go_alone():
    engine, (decoder, _) = opened(Rule("nudge", gamma=1.1))
    request = Request(prompts(1)[0], max_tokens=9)
    (done,) = engine.complete([request])
    assert done.tokens == greedy(BASE, request.tokens, 9)
    assert done.guidance is None
    assert not decoder.decoded


@pytest.mark.parametrize("when", [0, 1, 2, 4])
def test_a_row_that_is_cancelled_leaves_all_sound(when):
    rule = Rule("nudge")
    engine, (decoder, _) = opened(rule)
    batch = asked(4)
    numbers = [engine.submit(r) for r in batch]
    for _ in range(when):
        engine.step()
    engine.cancel(numbers[1])
    done = {}
    while engine._live or engine._queue:
        done |= {s.index: s.completion for s in engine.step() if s.completion}
    for number, request in zip(numbers, batch, strict=True):
        if number in done:
            assert done[number].tokens == plainly(rule, request.tokens, 9)
    assert not any(decoder.tokens(s) for s in range(4))


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_guide_that_is_stopped_in_the_middle_leaves_all_sound(after):
    rule = Rule("nudge", gamma=0.7)
    engine, (decoder, _) = opened(rule, batch=5)
    decoder.abort_after = after
    with pytest.raises(Aborted):
        engine.complete(asked())
    assert not engine._live
    assert not any(decoder.tokens(s) for s in range(4))
    decoder.abort_after = -1
    for request, done in zip(asked(), engine.complete(asked()), strict=True):
        assert done.tokens == plainly(rule, request.tokens, 9)


def test_a_guide_without_room_ends_the_answer():
    engine, _ = opened(Rule("nudge", gamma=1.1))
    engine.chooser.room = len(HINT) + 3
    (done,) = engine.complete(asked(1))
    assert done.finish_reason in ("context", "eos")
    assert len(done.tokens) <= 4
