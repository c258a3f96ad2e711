"""Models whose layers attend to a window, and states from disk that hold that window alone."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import ByteVocab, FakeDecoder, greedy, random_logits
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.teacher_forced import TeacherForced

LONG = list(range(3, 203))  # a prefix of 200 tokens; the tiny model's window is 32
SHORT = LONG[:90]  # another prompt's prefix, with which it begins
QUESTIONS = [[300, 301, 302], [310, 311], [320, 305, 306, 307]]


def asked(prefix: list[int], n: int = 8) -> list[Request]:
    return [Request([*prefix, *q], max_tokens=n, shared=len(prefix)) for q in QUESTIONS]


def plain(path, request: Request) -> tuple[int, ...]:
    """The oracle: a fresh context, nothing shared, nothing from disk."""
    options = RuntimeOptions(ctx_size=256, threads=1, kv_type="f32", disk_cache=False)
    with open_engine(path, options) as (_, engine):
        return engine.complete([Request(request.tokens, max_tokens=request.max_tokens)])[0].tokens


@pytest.mark.parametrize("parallel", [1, 8])
def test_every_way_to_a_prefix_gives_the_plain_answers(tiny_windowed, parallel):
    """Cold, warm, and after another prompt that begins alike, in both orders."""
    expected = {len(p): [plain(tiny_windowed, r) for r in asked(p)] for p in (LONG, SHORT)}
    options = RuntimeOptions(ctx_size=256, parallel=parallel, threads=1, kv_type="f32")
    for order in ((LONG, SHORT), (LONG, SHORT, LONG), (SHORT, LONG), (SHORT,)):
        with open_engine(tiny_windowed, options) as (_, engine):  # from the second on from disk
            for prefix in order:
                done = engine.complete(asked(prefix))
                assert [c.tokens for c in done] == expected[len(prefix)], order


def test_a_state_from_disk_is_not_taken_for_more_than_it_holds(tiny_windowed):
    with Model(tiny_windowed) as model:
        assert model.window == 32
        sequences = Sequences(model, cells=512, n_seq=3, threads=1, kv_type="f32")
        sequences.decode([BatchToken(t, i, 0, False) for i, t in enumerate(LONG)])
        assert sequences.holds(0, 90)
        assert not sequences.holds(0, 201)
        state = sequences.save(0)
        assert sequences.load(0, memoryview(bytearray(state)), 200)
        assert sequences.holds(0, 200)
        assert not sequences.holds(0, 90)
        assert not sequences.copy(0, 1, 90)
        assert sequences.length(1) == 0
        assert sequences.copy(0, 2, 200)
        assert not sequences.cut(2, 90)
        assert sequences.length(2) == 0, "nothing is kept of what cannot be used"
        sequences.close()


def test_the_engine_decodes_anew_what_the_disk_does_not_hold(tmp_path):
    logits, vocab = random_logits(), ByteVocab()
    long, short = vocab.encode("x" * 80 + "the long prompt"), vocab.encode("x" * 80)
    for _ in range(2):
        decoder = FakeDecoder(logits, n_seq=4, window=20)
        engine = Engine(vocab, decoder, cache=PrefixCache("key", tmp_path))
        for prefix in (long, short):
            requests = [
                Request([*prefix, *vocab.encode(q)], max_tokens=6, shared=len(prefix))
                for q in ("one", "two", "three")
            ]
            for request, done in zip(requests, engine.complete(requests), strict=True):
                assert done.tokens == greedy(logits, list(request.tokens), 6)
    assert decoder.decoded < 60, "both prefixes came from disk, once for all rows"


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_windowed", "tiny_hybrid", "tiny_mamba"])
def test_scores_are_the_same_on_every_start(kind, request, tmp_path):
    """Bit for bit: without a cache, with a new one, and from disk; whatever came before."""
    path = request.getfixturevalue(kind)
    answer = [310, 311, 312, 313, 314]

    def scores(cache: PrefixCache | None, rows: list[list[int]]) -> np.ndarray:
        with Model(path) as model:
            sequences = Sequences(model, cells=512, n_seq=1, threads=1, unified=False)
            forced = TeacherForced(sequences, cache)
            for question in rows:
                prompt = [*LONG, *question]
                forced.begin(0, prompt, len(LONG), len(answer))
                got = forced.logits(0, [prompt[-1], *answer[:-1]], [True] * 5).copy()
            sequences.close()
        return got

    cache = PrefixCache("key", tmp_path)
    first = scores(None, QUESTIONS)
    for cached, rows in ((cache, QUESTIONS), (cache, QUESTIONS), (cache, QUESTIONS[-1:])):
        np.testing.assert_array_equal(scores(cached, rows), first)
    np.testing.assert_array_equal(scores(None, QUESTIONS[-1:]), first)


def test_states_of_contexts_that_differ_are_kept_apart(tiny_llama):
    """An entry that could not be loaded, or would give other numbers, is not found."""
    ids = set()
    with Model(tiny_llama) as model:
        for more in (
            {},
            {"unified": False},
            {"unified": False, "n_seq": 3},
            {"batch": 64},
            {"kv_type": "f32"},
        ):
            sequences = Sequences(model, **{"cells": 512, "n_seq": 2, "threads": 1, **more})
            ids.add(sequences.cache_id)
            sequences.close()
        assert len(ids) == 5
