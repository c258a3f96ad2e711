"""Several prefixes, cancelled rows, tags, and who chooses: on a model with known logits."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import FakeDecoder, random_logits
from tests.test_engine import PREFIX, VOCAB, greedy, prompts, requests
from urial_local.base.errors import ContextOverflow
from urial_local.runtime.choices import Choice
from urial_local.runtime.engine import Engine
from urial_local.runtime.residency import Residency
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import Aborted
from urial_local.runtime.voice import Voice

OTHER = VOCAB.encode("another prefix, of another length: ")
THIRD = VOCAB.encode("a third one, which is the longest of them all: ")


def asked(prefix: list[int], n: int, first: int = 0, **more) -> list[Request]:
    return [
        Request(prefix + VOCAB.encode(f"q{first + i}"), max_tokens=6, shared=len(prefix), **more)
        for i in range(n)
    ]


def test_several_prefixes_are_each_decoded_once():
    logits = random_logits()
    decoder = FakeDecoder(logits, n_seq=8)
    engine = Engine(VOCAB, decoder, rows=4)
    mixed = [r for three in zip(asked(PREFIX, 8), asked(OTHER, 8), asked(THIRD, 8), strict=True)
             for r in three]  # fmt: skip
    for request, done in zip(mixed, engine.complete(mixed), strict=True):
        assert done.tokens == greedy(logits, request.tokens, 6)
    most = len(PREFIX) + len(OTHER) + len(THIRD) + len(mixed) * (2 + 1 + 5)
    assert decoder.decoded <= most, "each prefix once, and of each row its own tokens"
    held = {decoder.tokens(s) for s in range(8)}
    assert {tuple(PREFIX), tuple(OTHER), tuple(THIRD)} <= held


def test_a_new_prefix_does_not_hold_up_the_rows_that_answer():
    """Its pieces go into the batches of the others, and rows behind it are let past."""
    decoder = FakeDecoder(random_logits(), n_seq=6, batch_size=16)
    engine = Engine(VOCAB, decoder, rows=3)
    for request in asked(PREFIX, 2, tag="first"):
        engine.submit(request)
    while len(engine._live) < 2:
        engine.step()
    engine.submit(asked(THIRD, 1, tag="waits")[0])
    engine.submit(Request(VOCAB.encode("short"), max_tokens=6, tag="passes"))
    order = []
    for _ in range(4):
        order.append({step.tag for step in engine.step()})
    assert order[0] == {"first"}
    assert any("passes" in tags for tags in order)
    assert not any("waits" in tags for tags in order[:3]), "its prefix takes three batches"


def test_a_prefix_that_is_used_stays_and_the_oldest_goes():
    decoder = FakeDecoder(random_logits(), n_seq=4, cells=160)
    engine = Engine(VOCAB, decoder, rows=1, ctx_size=80)
    for prefix in (PREFIX, OTHER, PREFIX, THIRD, PREFIX):
        engine.complete(asked(prefix, 1))
        assert decoder.most_cells <= 160
    before = decoder.decoded
    engine.complete(asked(PREFIX, 1))
    assert decoder.decoded - before < len(PREFIX), "it was used last, so it is there"


def test_exact_engines_put_each_prefix_into_an_empty_cache():
    decoder = FakeDecoder(random_logits(), n_seq=8)
    engine = Engine(VOCAB, decoder, rows=1, exact=True)
    for prefix in (PREFIX, OTHER):
        engine.complete(asked(prefix, 2))
        assert decoder.tokens(0) == tuple(prefix)
    assert tuple(PREFIX) not in {decoder.tokens(s) for s in range(8)}


def test_two_conversations_in_turn_read_no_history_again():
    logits = random_logits()
    decoder = FakeDecoder(logits, n_seq=6)
    engine = Engine(VOCAB, decoder, rows=2)
    talks = [PREFIX + VOCAB.encode(f"talk {i}: ") for i in range(2)]
    for _ in range(3):
        for i, talk in enumerate(talks):
            request = Request(talk, max_tokens=5, shared=len(PREFIX), keep=True)
            before, known = decoder.decoded, len(talk)
            done = engine.complete([request])[0]
            assert done.tokens == greedy(logits, talk, 5)
            talks[i] = [*talk, *done.tokens, *VOCAB.encode(" and?")]
            if done.cached_tokens > len(PREFIX):
                assert decoder.decoded - before <= known - done.cached_tokens + 5
    assert done.cached_tokens >= known - 6, "all but the newest question"


@pytest.mark.parametrize("when", [0, 1, 3, 6])
def test_a_cancelled_row_frees_its_cells_and_changes_nobody(when):
    logits = random_logits()
    decoder = FakeDecoder(logits, n_seq=4, batch_size=16)
    engine = Engine(VOCAB, decoder, rows=3)
    batch = requests(5, shared=len(PREFIX))
    numbers = [engine.submit(r) for r in batch]
    done = {}
    for count in range(200):
        if count == when:
            assert engine.cancel(numbers[1])
            assert engine.cancel(numbers[4])
            assert not engine.cancel(numbers[1]), "it is gone"
        steps = engine.step() if engine._queue or engine._live else []
        done |= {s.index: s.completion for s in steps if s.completion}
    assert sorted(done) == [numbers[0], numbers[2], numbers[3]]
    for i in (0, 2, 3):
        assert done[numbers[i]].tokens == greedy(logits, batch[i].tokens, batch[i].max_tokens)
    assert not engine.cancel(numbers[0]), "it has ended"


def test_a_prefix_for_nobody_is_given_up():
    decoder = FakeDecoder(random_logits(), n_seq=4, batch_size=4)
    engine = Engine(VOCAB, decoder, rows=2)
    number = engine.submit(asked(THIRD, 1)[0])
    engine.step()
    assert engine._admission.fills
    engine.cancel(number)
    assert not engine._admission.fills
    assert not any(decoder.tokens(s) for s in range(4))
    assert engine.step() == []


def test_steps_carry_the_callers_tags_and_leave_others_rows_alone():
    engine = Engine(VOCAB, FakeDecoder(random_logits(), n_seq=4))
    other = engine.submit(Request(VOCAB.encode("somebody else's"), max_tokens=30, tag="other"))
    tags = {s.tag for s in engine.stream([Request(VOCAB.encode("mine"), max_tokens=3, tag="mine")])}
    assert "mine" in tags
    assert [row.index for row in engine._live.values()] == [other]
    steps = engine.steps([Request(VOCAB.encode("x"), max_tokens=30)])
    next(steps)
    steps.close()
    assert [row.index for row in engine._live.values()] == [other], "the rest of mine is cancelled"


def test_abort_drops_all_and_resume_goes_on():
    engine = Engine(VOCAB, FakeDecoder(random_logits()))
    engine.submit(Request([5], max_tokens=5))
    engine.abort()
    with pytest.raises(Aborted):
        engine.step()
    engine.resume()
    assert engine.step() == [], "nothing is left"
    assert len(engine.complete([Request([5], max_tokens=5)])) == 1


def test_top_logprobs_are_the_first_of_the_models_own_distribution():
    logits = random_logits()
    request = Request(prompts(1)[0], max_tokens=6, top_logprobs=5)
    done = Engine(VOCAB, FakeDecoder(logits)).complete([request])[0]
    assert [t.token for t in done.top] == [*done.tokens, *([done.end_token] * done.ended)]
    for i, top in enumerate(done.top):
        row = logits((*request.tokens, *done.tokens[:i])).astype(np.float64)
        expected = row - np.log(np.exp(row).sum())
        order = np.lexsort((np.arange(128), -row))[:5]
        assert top.ids == tuple(order.tolist())
        np.testing.assert_allclose(top.logprobs, expected[order], atol=1e-5)
        assert top.logprob == pytest.approx(expected[top.token], abs=1e-5)
        assert top.ids[0] == top.token, "greedy"
        assert top.logprobs[0] == top.logprob


# --- choosers -----------------------------------------------------------------------------------


class Pairs:
    """The most probable token, and after it always the same one: two tokens a row and step."""

    def __init__(self) -> None:
        self.left: list[int] = []

    def choose(self, rows, logits):
        found = [int(x.argmax()) for x in logits]
        return [Choice((token, 33), (0.0, 0.0)) for token in found]

    def forget(self, row) -> None:
        self.left.append(row.index)


def test_a_chooser_may_return_several_tokens():
    logits = random_logits()
    chooser = Pairs()
    decoder = FakeDecoder(logits, n_seq=4)
    batch = [Request(p, max_tokens=7) for p in prompts(3)]
    done = Engine(VOCAB, decoder, chooser=chooser).complete(batch)
    for request, completion in zip(batch, done, strict=True):
        tokens = list(request.tokens)
        for _ in range(4):
            tokens += [int(logits(tuple(tokens)).argmax()), 33]
        assert list(completion.tokens) == tokens[len(request.tokens) :][:7]
        assert completion.finish_reason == "length", "a row ends in the middle of a choice"
    assert sorted(chooser.left) == [0, 1, 2]


class Nudge:
    """The engine's own token where it is sure, else the guide's: two models, each under its prompt.

    The guide is asked only when it is needed, and for all rows that need it at once.
    """

    def __init__(self, guide: Voice, prompt: list[int], sure: float) -> None:
        self.guide, self.prompt, self.sure = guide, prompt, sure
        self.asked: list[int] = []

    def choose(self, rows, logits):
        x = logits.astype(np.float64)
        p = np.exp(x - x.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        unsure = [i for i in range(len(rows)) if p[i].max() < self.sure]
        chosen = [int(row.argmax()) for row in p]
        if unsure:
            self.asked.append(len(unsure))
            told = [(rows[i].index, [*self.prompt, *rows[i].tokens[rows[i].n_prompt :]])
                    for i in unsure]  # fmt: skip
            for i, theirs in zip(unsure, self.guide.logits(told), strict=True):
                chosen[i] = int(theirs.argmax())
        return [Choice((t,), (float(np.log(p[i, t])),)) for i, t in enumerate(chosen)]

    def forget(self, row) -> None:
        self.guide.forget(row.index)


def nudged(base, guide, prompt: list[int], hint: list[int], sure: float, n: int) -> list[int]:
    """The oracle: both models plainly, a token at a time."""
    answer: list[int] = []
    for _ in range(n):
        x = base((*prompt, *answer)).astype(np.float64)
        p = np.exp(x - x.max())
        choose = base((*prompt, *answer)) if p.max() / p.sum() >= sure else guide((*hint, *answer))
        token = int(choose.argmax())
        if token == 0:
            break
        answer.append(token)
    return answer


@pytest.mark.parametrize("sure", [0.0, 0.085, 1.1])
@pytest.mark.parametrize("guides_batch", [5, 64])
def test_a_chooser_may_ask_a_second_model(sure, guides_batch):
    base, hint = random_logits(), VOCAB.encode("you are kind. ")

    def guide(context):
        return base((7, 7, *context))

    decoder = FakeDecoder(guide, n_seq=3, batch_size=guides_batch)
    chooser = Nudge(Voice(decoder), hint, sure)
    engine = Engine(VOCAB, FakeDecoder(base, n_seq=4), chooser=chooser)
    batch = [Request(p, max_tokens=9, shared=len(PREFIX)) for p in prompts(5)]
    for request, done in zip(batch, engine.complete(batch), strict=True):
        expected = nudged(base, guide, list(request.tokens), hint, sure, 9)
        assert list(done.tokens) == expected
    if sure == 0.0:
        assert decoder.decoded == 0, "nobody was unsure"
    else:
        assert max(chooser.asked) > 1, "rows are asked together"
    assert not any(decoder.tokens(s) for s in range(3)), "ended rows leave nothing behind"


def test_a_voice_decodes_only_what_it_lacks():
    logits = random_logits()
    decoder = FakeDecoder(logits, n_seq=2)
    voice = Voice(decoder)
    for told in ([1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 9], [1, 2, 9]):
        before = decoder.decoded
        (found,) = voice.logits([("a", told)])
        np.testing.assert_array_equal(found, logits(tuple(told)))
    assert decoder.decoded - before == 1, "the last token, for its logits"
    voice.logits([("b", [1, 2, 9, 4]), ("a", [1, 2])])
    with pytest.raises(ContextOverflow, match="more rows"):
        voice.logits([("c", [1])])
    voice.forget("a")
    assert voice.logits([("c", [1])]).shape == (1, 128)


# --- the books ----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3),
                          st.integers(0, 9)), max_size=40))  # fmt: skip
def test_the_books_agree_with_the_decoder(actions):
    """Whatever is decoded, copied, cut and evicted: tokens and cells are those of the decoder."""
    decoder = FakeDecoder(random_logits(), n_seq=4, cells=10_000)
    held = Residency(decoder)
    for what, a, b, n in actions:
        if what == 0 and n:
            held.decode(a, list(range(1, n + 1)))
        elif what == 1 and a != b and held.tokens(a):
            held.copy(a, b, min(n, len(held.tokens(a))))
        elif what == 2:
            held.cut(a, min(n, len(held.tokens(a))))
        else:
            held.evict(a)
        assert [held.tokens(s) for s in range(4)] == [list(decoder.tokens(s)) for s in range(4)]
        assert held.cells == len({id(c) for s in decoder.sequences for c in s})


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_any_mixture_of_rows_gives_the_plain_answers(data):
    """Prefixes, conversations, short caches, cancelled rows: each answer is a plain loop's."""
    logits = random_logits()
    n_seq = data.draw(st.integers(2, 6))
    window = data.draw(st.sampled_from([0, 0, 24]))
    decoder = FakeDecoder(
        logits, n_seq=n_seq, cells=data.draw(st.integers(80, 400)), batch_size=12, window=window,
        recurrent=not window and data.draw(st.booleans()),
    )  # fmt: skip
    engine = Engine(
        VOCAB, decoder, rows=data.draw(st.integers(1, n_seq - 1)), ctx_size=80,
        exact=data.draw(st.booleans()),
    )  # fmt: skip
    waiting = deque()
    for i in range(data.draw(st.integers(1, 12))):
        prefix = data.draw(st.sampled_from([[], PREFIX, OTHER, THIRD, PREFIX[:20]]))
        keep, most = data.draw(st.booleans()), data.draw(st.integers(1, 6))
        tokens = prefix + VOCAB.encode(f"q{i % 5}")
        waiting.append(Request(tokens, max_tokens=most, shared=len(prefix), keep=keep, tag=i))
    requests_by_tag = {r.tag: r for r in waiting}
    cancelled = set(data.draw(st.lists(st.integers(0, 11), max_size=3)))
    numbers, done = {}, {}
    for _ in range(600):
        if waiting:
            request = waiting.popleft()
            numbers[request.tag] = engine.submit(request)
        for tag in [t for t in cancelled if t in numbers and data.draw(st.booleans())]:
            engine.cancel(numbers[tag])
            cancelled.discard(tag)
        if engine._queue or engine._live:
            done |= {s.tag: s.completion for s in engine.step() if s.completion}
        elif not waiting:
            break
    else:
        pytest.fail("rows wait for ever")
    for tag, completion in done.items():
        request = requests_by_tag[tag]
        assert completion.tokens == greedy(logits, request.tokens, request.max_tokens)


def test_a_row_that_is_alone_uses_nothing_but_its_prefix():
    """Whatever was asked before, it is decoded in the same batches."""
    decoder = FakeDecoder(random_logits(), n_seq=2)
    engine = Engine(VOCAB, decoder, rows=1, exact=True)
    talk = PREFIX + VOCAB.encode("a talk: ")
    framed = Request(talk, max_tokens=5, shared=len(PREFIX), alone=True, keep=True)
    raw = Request(VOCAB.encode("raw text"), max_tokens=5, alone=True)
    other = replace(framed, alone=False)
    for request in (framed, framed, raw, other, framed, raw, raw, other, *asked(OTHER, 1), framed):
        done = engine.complete([request])[0]
        if request.alone:
            assert done.cached_tokens in (0, request.shared)
            assert decoder.batches[-5:] == [8, 1, 1, 1, 1], "its own tokens, then one by one"
    engine.complete([replace(other, tokens=[*talk, *done.tokens])])
    assert decoder.batches[-5] < 8, "others go on from what is there"
