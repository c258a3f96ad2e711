"""Prompts that are scored token by token: against the oracle, whatever was scored before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import FakeDecoder, random_logits
from urial_local.base.errors import ContextOverflow, ModelError, UrialError
from urial_local.runtime import prompt_scores
from urial_local.runtime.prompt_scores import PromptScorer, ScoreJob
from urial_local.runtime.row_scores import score_rows_numpy

LOGITS = random_logits()


def scorer(monkeypatch=None, *, exact=False, batch_size=8, logits=LOGITS, **more) -> PromptScorer:
    decoder = FakeDecoder(logits, n_seq=2, cells=200, batch_size=batch_size, **more)
    decoder.n_vocab = 128
    return PromptScorer(decoder, exact)


def run(scored: PromptScorer, tokens: list[int], first: int = 1) -> ScoreJob:
    job = ScoreJob(tokens, first)
    while not job.done:
        scored.advance(job)
    return job


def check(job: ScoreJob, first: int = 1) -> None:
    """Every score against float64, and the argmax with the identical number."""
    assert len(job.scores) == len(job.tokens)
    assert job.scores[0] is None
    for i in range(first, len(job.tokens) + 1):
        found = job.next if i == len(job.tokens) else job.scores[i]
        row = LOGITS(tuple(job.tokens[:i]))[None]
        target = int(row.argmax()) if i == len(job.tokens) else job.tokens[i]
        oracle = score_rows_numpy(row, np.zeros(1, np.int32), np.array([target], np.int32))
        assert found.token == target
        assert found.logprob == pytest.approx(oracle.logprob[0], abs=1e-6)
        assert found.rank == oracle.rank[0]
        assert found.ids[0] == int(row.argmax())
        assert list(found.logprobs) == sorted(found.logprobs, reverse=True)
        if target in found.ids:
            assert found.logprobs[found.ids.index(target)] == found.logprob, "the identical number"


@settings(max_examples=40)
@given(
    prompts=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=40), min_size=1, max_size=6),
    exact=st.booleans(),
    recurrent=st.booleans(),
    firsts=st.lists(st.integers(0, 45), min_size=6, max_size=6),
)
def test_scores_are_the_oracles_whatever_was_scored_before(prompts, exact, recurrent, firsts):
    scored = scorer(exact=exact, recurrent=recurrent)
    for prompt, first in zip(prompts, firsts, strict=False):
        check(run(scored, prompt, first), max(1, first))


def test_what_prompts_share_is_decoded_once():
    scored = scorer()
    context = list(range(1, 60))
    for i, choice in enumerate(([61], [62, 63], [64], [65, 66, 67])):
        before = scored.decoded
        job = run(scored, context + choice)
        check(job)
        if i:
            assert scored.decoded - before == len(choice) + 1, "its own and the context's last"
            assert job.cached == len(context) - 1


def test_the_same_prompt_again_is_not_decoded_at_all():
    scored = scorer()
    first = run(scored, list(range(1, 30)))
    before = scored.decoded
    again = run(scored, list(range(1, 30)))
    assert scored.decoded == before
    assert (again.scores, again.next) == (first.scores, first.next)


def test_exact_batches_have_the_shape_that_they_have_alone():
    alone = scorer(exact=True)
    run(alone, list(range(1, 31)))
    shared = scorer(exact=True)
    run(shared, [*range(1, 20), 99, 98])
    before = len(shared.sequences.batches)
    run(shared, list(range(1, 31)))
    assert alone.sequences.batches == [8, 8, 8, 6]
    assert shared.sequences.batches[before:] == [8, 6], "19 in common: two whole batches are kept"


def test_two_prompts_stay_at_hand():
    scored = scorer()
    a, b = list(range(1, 50)), list(range(60, 110))
    run(scored, a), run(scored, b)
    before = scored.decoded
    run(scored, [*a, 7]), run(scored, [*b, 7])
    assert scored.decoded - before == 4


def test_logits_are_bounded_whatever_the_vocabulary(monkeypatch):
    monkeypatch.setattr(prompt_scores, "LOGITS_BYTES", 4 * 128 * 3)
    scored = scorer(batch_size=64)
    check(run(scored, list(range(1, 20))))
    assert max(scored.sequences.batches) == 3


def test_what_cannot_be_scored():
    scored = scorer()
    with pytest.raises(UrialError, match="empty"):
        ScoreJob([])
    with pytest.raises(ContextOverflow, match="101"):
        run(scored, [1] * 101)
    check(run(scored, [1] * 100))
    bad = scorer(logits=lambda context: np.full(128, np.nan, np.float32))
    with pytest.raises(ModelError, match="finite"):
        run(bad, [1, 2, 3])


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_mamba", "tiny_hybrid", "tiny_windowed"])
@pytest.mark.parametrize("exact", [False, True])
def test_every_kind_of_memory(kind, exact, request):
    """Recurrent memory cannot be cut, windows forget: the scores are those of a fresh context."""
    from urial_local.runtime.sequences import BatchToken, Sequences
    from urial_local.tasks.model_file import model_file

    with model_file(str(request.getfixturevalue(kind))).load() as model:
        sequences = Sequences(model, cells=400, n_seq=2, batch=32, threads=1, unified=False)
        fresh = Sequences(model, cells=400, n_seq=2, batch=32, threads=1, unified=False)
        scored = PromptScorer(sequences, exact)
        shared = [1, *range(270, 340)]
        for prompt in (shared, [*shared, 300, 301], [*shared, 310], shared[:50], [1, 300], shared):
            job = run(scored, prompt)
            fresh.clear(0)
            for at in range(0, len(prompt), 32):
                piece = prompt[at : at + 32]
                batch = [BatchToken(t, at + i, 0, True) for i, t in enumerate(piece)]
                logits = fresh.decode(batch)
                targets = np.array(prompt[at + 1 : at + 33], np.int32)
                rows = np.arange(len(targets), dtype=np.int32)
                oracle = score_rows_numpy(logits, rows, targets).logprob
                found = [score.logprob for score in job.scores[at + 1 : at + 33]]
                assert found == pytest.approx(oracle.tolist(), abs=1e-4)
        fresh.close()
        sequences.close()
