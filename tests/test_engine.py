"""The engine on a model with known logits: every answer is compared with a plain loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import END, ByteVocab, FakeDecoder, greedy, random_logits, script
from urial_local.base.errors import ContextOverflow, UrialError
from urial_local.runtime.engine import Engine
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.sequences import Aborted
from urial_local.runtime.stops import StopPolicy

VOCAB = ByteVocab()
PREFIX = VOCAB.encode("the constant prefix of all prompts: ")


def prompts(n: int) -> list[list[int]]:
    return [PREFIX + VOCAB.encode(f"question {i} " + "x" * (7 * i % 11)) for i in range(n)]


def requests(n: int, **more) -> list[Request]:
    return [Request(p, max_tokens=5 + 3 * i % 17, **more) for i, p in enumerate(prompts(n))]


@pytest.mark.parametrize("parallel", [1, 2, 8])
@pytest.mark.parametrize("shared", [0, len(PREFIX)])
@pytest.mark.parametrize("batch_size", [5, 64])
def test_a_batch_equals_one_by_one(parallel, shared, batch_size):
    logits = random_logits()
    decoder = FakeDecoder(logits, n_seq=parallel + 1, batch_size=batch_size)
    done = Engine(VOCAB, decoder).complete(requests(20, shared=shared))
    assert len(done) == 20
    for request, completion in zip(requests(20), done, strict=True):
        assert completion.tokens == greedy(logits, request.tokens, request.max_tokens)


def test_logprobs_are_those_of_the_known_logits():
    logits = random_logits()
    prompt = prompts(1)[0]
    done = Engine(VOCAB, FakeDecoder(logits)).complete([Request(prompt, max_tokens=8)])[0]
    for i, (token, logprob) in enumerate(zip(done.tokens, done.logprobs, strict=True)):
        row = logits((*prompt, *done.tokens[:i])).astype(np.float64)
        assert logprob == pytest.approx(row[token] - np.log(np.exp(row).sum()), abs=1e-5)


def test_the_prefix_is_decoded_once_and_rows_are_refilled():
    decoder = FakeDecoder(random_logits(), n_seq=5)
    Engine(VOCAB, decoder).complete(requests(20, shared=len(PREFIX)))
    suffixes = sum(len(p) - len(PREFIX) for p in prompts(20))
    answers = sum(r.max_tokens for r in requests(20))
    # Each row's last token is never decoded, and a row that ends early decodes less.
    assert decoder.decoded <= len(PREFIX) + suffixes + answers
    assert decoder.decoded < len(PREFIX) * 2 + suffixes + answers
    assert max(decoder.batches[3:]) > 1, "rows are decoded together"


def test_finished_rows_leave_no_cells_behind():
    decoder = FakeDecoder(random_logits(), n_seq=4)
    engine = Engine(VOCAB, decoder)
    engine.complete(requests(9, shared=len(PREFIX)))
    held = [s for s in range(1, 4) if decoder.sequences[s]]
    assert len(held) <= 1, "only the last row's cells stay, for a next turn"
    assert decoder.tokens(0) == tuple(PREFIX)


def test_rows_wait_when_cells_are_short():
    cells = len(PREFIX) + 2 * 60
    decoder = FakeDecoder(random_logits(), n_seq=9, cells=cells)
    logits = decoder.logits_of
    done = Engine(VOCAB, decoder, ctx_size=96).complete(requests(16, shared=len(PREFIX)))
    assert decoder.most_cells <= cells
    for request, completion in zip(requests(16), done, strict=True):
        assert completion.tokens == greedy(logits, request.tokens, request.max_tokens)


def test_the_next_turn_begins_where_the_last_one_ended():
    logits = random_logits()
    decoder = FakeDecoder(logits)
    engine = Engine(VOCAB, decoder)
    first = Request(prompts(1)[0], max_tokens=10, shared=len(PREFIX))
    answer = engine.complete([first])[0].tokens
    before = decoder.decoded
    second = Request([*first.tokens, *answer, *VOCAB.encode(" and then?")], max_tokens=4)
    done = engine.complete([second])[0]
    assert done.tokens == greedy(logits, second.tokens, 4)
    assert done.cached_tokens >= len(first.tokens) + len(answer) - 1
    assert decoder.decoded - before <= len(" and then?") + 1 + 4


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_memory_that_cannot_be_cut_gives_the_same_answers(parallel):
    logits = random_logits()
    decoder = FakeDecoder(logits, n_seq=parallel + 1, recurrent=True)
    engine = Engine(VOCAB, decoder)
    for _ in range(2):
        done = engine.complete(requests(6, shared=len(PREFIX)))
        for request, completion in zip(requests(6), done, strict=True):
            assert completion.tokens == greedy(logits, request.tokens, request.max_tokens)
    assert decoder.decoded < 2 * sum(len(p) for p in prompts(6)), (
        "the prefix is shared all the same"
    )


def test_a_new_prefix_replaces_the_old_one():
    logits = random_logits()
    engine = Engine(VOCAB, FakeDecoder(logits, n_seq=4))
    other = VOCAB.encode("another prefix, of another length: ")
    mixed = [
        Request(
            (PREFIX if i % 3 else other) + VOCAB.encode(f"q{i}"),
            max_tokens=6,
            shared=len(PREFIX if i % 3 else other),
        )
        for i in range(12)
    ]
    for request, completion in zip(mixed, engine.complete(mixed), strict=True):
        assert completion.tokens == greedy(logits, request.tokens, 6)


def test_context_limits_before_decoding_and_at_the_edge():
    decoder = FakeDecoder(random_logits(), cells=64)
    engine = Engine(VOCAB, decoder)
    with pytest.raises(ContextOverflow, match="64 tokens and the context 64"):
        engine.submit(Request([1] * 64))
    assert decoder.decoded == 0
    engine = Engine(VOCAB, FakeDecoder(script({"x": "y" * 200}), cells=64))
    done = engine.complete([Request(VOCAB.encode("x" * 63), max_tokens=50)])[0]
    assert (done.finish_reason, len(done.tokens)) == ("context", 1)
    done = engine.complete([Request(VOCAB.encode("x" * 10), max_tokens=-1)])[0]
    assert (done.finish_reason, len(done.tokens)) == ("context", 54)
    done = engine.complete([Request(VOCAB.encode("x" * 10), max_tokens=7)])[0]
    assert (done.finish_reason, len(done.tokens)) == ("length", 7)


def test_a_row_that_cannot_fit_fails_alone():
    logits = random_logits()
    engine = Engine(VOCAB, FakeDecoder(logits, n_seq=3, cells=128))
    batch = [Request(p, max_tokens=4) for p in ([1, 2, 3], [1] * 500, [4, 5, 6], [])]
    done = engine.complete(batch)
    assert [c.finish_reason for c in done] == ["length", "error", "length", "error"]
    assert "500 tokens" in done[1].error
    assert done[2].tokens == greedy(logits, [4, 5, 6], 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_end_only_their_row(bad):
    known = script({"good": "fine", "bad": "never"})

    def logits(context):
        row = known(context)
        if bytes(context).startswith(b"bad"):
            row[7] = bad
        return row

    engine = Engine(VOCAB, FakeDecoder(logits, n_seq=3))
    done = engine.complete([Request(VOCAB.encode(q)) for q in ("bad", "good")])
    assert done[0].finish_reason == "error"
    assert "not finite" in done[0].error
    assert done[1].text == "fine"


@pytest.mark.parametrize("batches", [0, 1, 2, 3, 6])
def test_abort_leaves_a_usable_engine_and_the_same_answers(batches):
    logits = random_logits()
    decoder = FakeDecoder(logits, n_seq=3, batch_size=16)
    engine = Engine(VOCAB, decoder)
    decoder.abort_after = batches
    with pytest.raises(Aborted):
        engine.complete(requests(5, shared=len(PREFIX)))
    decoder.abort_after = -1
    done = engine.complete(requests(5, shared=len(PREFIX)))
    for request, completion in zip(requests(5), done, strict=True):
        assert completion.tokens == greedy(logits, request.tokens, request.max_tokens)


def test_the_abort_flag_stops_between_batches():
    engine = Engine(VOCAB, FakeDecoder(script({"x": "y" * 100})))
    steps = engine.steps([Request(VOCAB.encode("x"), max_tokens=100)])
    next(steps)
    engine.decoder.abort_flag[0] = 1
    with pytest.raises(Aborted):
        next(steps)


def test_stops_cross_token_borders_and_hold_text_back():
    answer = "First.\n```python\n# Query: inside code\n```\nDone.\n```\n\n# Query:\n```\nmore"
    vocab = ByteVocab(130)
    vocab.pieces[128], vocab.pieces[129] = b".\n``", b"`\n\n# Qu"

    def logits(context):
        text = b"".join(vocab.piece(t) for t in context).decode()
        row = np.zeros(130, np.float32)
        rest = answer[len(text.removeprefix("?")) :]
        for token in (128, 129):
            if rest.encode().startswith(vocab.piece(token)):
                row[token] = 9.0
                return row
        row[ord(rest[0]) if rest else END] = 9.0
        return row

    engine = Engine(vocab, FakeDecoder(logits))
    shown = []
    for step in engine.stream([Request([ord("?")], stop=StopPolicy("```", "# Query:"))]):
        shown.append(step.text)
    assert step.completion.finish_reason == "frame"
    assert step.completion.text == "First.\n```python\n# Query: inside code\n```\nDone."
    assert "".join(shown) == step.completion.text


def test_half_characters_are_held_until_they_are_whole():
    vocab = ByteVocab(256)
    answer = "é✓😀".encode()

    def logits(context):
        row = np.zeros(256, np.float32)
        row[answer[len(context) - 1] if len(context) <= len(answer) else END] = 9.0
        return row

    steps = list(Engine(vocab, FakeDecoder(logits)).stream([Request([65])]))
    assert [s.text for s in steps if s.text] == ["é", "✓", "😀"]
    assert steps[-1].completion.text == "é✓😀"


def test_a_seed_gives_a_row_the_same_tokens_beside_any_neighbours():
    def sampled(n_seq: int, order: list[int]) -> dict[int, tuple[int, ...]]:
        batch = [
            Request(p, Sampling(temperature=1.0, seed=i), max_tokens=12)
            for i, p in enumerate(prompts(6))
        ]
        engine = Engine(VOCAB, FakeDecoder(random_logits(), n_seq=n_seq))
        done = engine.complete([batch[i] for i in order])
        return {i: c.tokens for i, c in zip(order, done, strict=True)}

    assert sampled(2, [0, 1, 2, 3, 4, 5]) == sampled(7, [5, 3, 1, 0, 2, 4])


def test_a_prefix_is_kept_on_disk_and_found_again(tmp_path):
    logits = random_logits()
    long = PREFIX * 3
    request = Request([*long, *VOCAB.encode("now")], max_tokens=5, shared=len(long))
    cold = FakeDecoder(logits)
    first = Engine(VOCAB, cold, cache=PrefixCache("k", tmp_path)).complete([request])[0]
    warm = FakeDecoder(logits)
    second = Engine(VOCAB, warm, cache=PrefixCache("k", tmp_path)).complete([request])[0]
    assert first.tokens == second.tokens
    assert (first.cached_tokens, second.cached_tokens) == (0, len(long))
    assert warm.decoded == cold.decoded - len(long)


def test_progress_of_a_long_prompt_is_told():
    heard = []
    engine = Engine(
        VOCAB, FakeDecoder(random_logits(), batch_size=16), on_prefill=lambda *a: heard.append(a)
    )
    engine.complete([Request([5] * 100, max_tokens=1, shared=80)])
    assert heard[:5] == [(16, 80), (32, 80), (48, 80), (64, 80), (80, 80)]
    assert heard[-1][1] == 100


def test_an_empty_prompt_is_refused():
    with pytest.raises(UrialError, match="empty"):
        Engine(VOCAB, FakeDecoder(random_logits())).submit(Request([]))


def test_a_held_row_waits_and_the_others_go_on():
    logits = random_logits()
    engine = Engine(VOCAB, FakeDecoder(logits, n_seq=4), rows=2)
    asked = requests(2, shared=0)
    first, second = (engine.submit(request) for request in asked)
    engine.step()
    engine.hold(first)
    done = {}
    for _ in range(60):
        done |= {s.index: s.completion for s in engine.step() if s.completion}
    assert list(done) == [second]
    batches = engine.batches
    assert engine.step() == []
    assert engine.batches == batches, "there is nothing to decode"
    assert (engine.running, engine.waiting) == (1, 0)
    engine.hold(first, False)
    while first not in done:
        done |= {s.index: s.completion for s in engine.step() if s.completion}
    for index, request in ((first, asked[0]), (second, asked[1])):
        wanted = greedy(logits, request.tokens, request.max_tokens)
        assert done[index].tokens == wanted


def test_after_a_fault_nothing_is_kept_and_the_engine_goes_on():
    logits = random_logits()
    decoder = FakeDecoder(logits, n_seq=4)
    engine = Engine(VOCAB, decoder, rows=2)
    asked = requests(3, shared=0)
    for request in asked:
        engine.submit(request)
    engine.step()
    engine.reset()
    assert (engine.running, engine.waiting, engine.held.cells) == (0, 0, 0)
    for request, done in zip(asked, engine.complete(asked), strict=True):
        assert done.tokens == greedy(logits, request.tokens, request.max_tokens)


def test_steps_tell_of_each_token_and_of_answers_that_begin_again():
    engine = Engine(VOCAB, FakeDecoder(random_logits(), n_seq=4), rows=2)
    steps = list(engine.stream([replace(requests(1)[0], top_logprobs=3, measured=True)]))
    done = steps[-1].completion
    logprobs = [value for step in steps for value in step.logprobs]
    top = [one for step in steps for one in step.top]
    assert tuple(logprobs[: len(done.logprobs)]) == done.logprobs
    assert tuple(top) == done.top
    assert all(one.rank == 1 and one.entropy > 0 and len(one.ids) == 3 for one in top)


def test_an_answer_that_has_begun_goes_on_in_its_block_of_code():
    """What is there already decides where a fence closes, and is not told again."""
    answers = {"Q": "ab\n```\ncode\n```\nend\n```\nmore"}
    policy = StopPolicy(fence="```")
    decoder = FakeDecoder(script(answers), n_seq=4)
    engine = Engine(VOCAB, decoder, rows=2)
    (whole,) = engine.complete([Request(VOCAB.encode("Q"), stop=policy, max_tokens=60)])
    for cut in range(1, len(whole.tokens) - 4):
        tokens = [*VOCAB.encode("Q"), *whole.tokens[:cut]]
        (rest,) = engine.complete([Request(tokens, stop=policy, max_tokens=60, begun=cut)])
        assert rest.finish_reason == "frame"
        assert rest.raw_text == whole.raw_text
        written = bytes(whole.tokens[:cut]).decode()
        assert (written + rest.text).rstrip() == whole.text
        assert rest.tokens == whole.tokens[cut:]
