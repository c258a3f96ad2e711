"""Scores against independent computations: closed-form fakes, and raw logits in float64."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from tests.fakes import FakeDecoder, random_logits
from tests.tiny_gguf import PLAIN_CHAT, write_llama
from urial_local.base.errors import ContextOverflow, UsageError
from urial_local.runtime import teacher_forced
from urial_local.runtime.model import Model, open_vocabulary
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.shift_rows import COLUMNS, shift_rows_numpy
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.runtime.vocabulary_pair import VocabularyPair, compare_vocabularies
from urial_local.tasks.shift.scoring import NOT_IN_BASE, Bridge, Side, score_answer

V = 128


class Vocab:
    """Just enough of a vocabulary for a bridge between equal ones."""

    size = V


def same_vocabulary() -> Bridge:
    pair = VocabularyPair("", "", V, V, np.arange(V, dtype=np.int32))
    return Bridge(pair, Vocab(), Vocab())  # type: ignore[arg-type]


def fake(seed: str, n_seq: int = 1, recurrent: bool = False, batch: int = 8) -> FakeDecoder:
    known = random_logits(V)
    decoder = FakeDecoder(
        lambda context: known((*map(ord, seed), *context)),
        n_seq=n_seq,
        cells=400 * n_seq,
        batch_size=batch,
        recurrent=recurrent,
    )
    decoder.n_vocab = V  # type: ignore[attr-defined]
    decoder.model = decoder  # type: ignore[attr-defined]  # carries `recurrent`
    return decoder


def oracle(seed: str, prompt: list[int], answer: list[int]) -> np.ndarray:
    """Logits that score each token of an answer: those after prompt + answer[:t]."""
    known = random_logits(V)
    rows = [known((*map(ord, seed), *prompt, *answer[:t])) for t in range(len(answer))]
    return np.array(rows, np.float32)


def agree(found: dict, base: np.ndarray, aligned: np.ndarray, answer: list[int]) -> None:
    want = shift_rows_numpy(base, aligned, np.array(answer, np.int32))
    for name in COLUMNS:
        np.testing.assert_allclose(
            found[name], getattr(want, name), rtol=2e-5, atol=1e-6, err_msg=name
        )


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 40])
def test_logits_after_t_minus_1_score_token_t(length, recurrent):
    """Every context, every position, against the closed form; rows do not see each other."""
    bases = TeacherForced(fake("base", n_seq=2, recurrent=recurrent))
    aligned = TeacherForced(fake("aligned", recurrent=recurrent))
    rng = np.random.default_rng(length)
    for row in range(4):  # the second row finds prefixes in place
        answer = rng.integers(1, V, length).tolist()
        shared = list(range(20, 50))
        query = rng.integers(1, V, row + 1).tolist()
        contexts = [[*shared, *query], query]
        prompt = [7, *query]
        scored = score_answer(
            Side(aligned, 0, prompt, 1),
            [
                (Side(bases, 0, contexts[0], len(shared)), same_vocabulary()),
                (Side(bases, 1, contexts[1], 0), same_vocabulary()),
            ],
            answer,
        )
        theirs = oracle("aligned", prompt, answer)
        for found, context in zip(scored.contexts, contexts, strict=True):
            agree(found, oracle("base", context, answer), theirs, answer)
    assert bases.prefix_tokens_decoded == 30, "the shared prefix is decoded once"


def test_chunks_change_nothing(monkeypatch):
    answer = np.random.default_rng(0).integers(1, V, 30).tolist()
    found = []
    for most_logits in (1, 3, 8, 1000):
        monkeypatch.setattr(teacher_forced, "LOGITS_BYTES", most_logits * 4 * V)
        bases, aligned = TeacherForced(fake("base", batch=64)), TeacherForced(fake("a", batch=64))
        assert bases.chunk == min(most_logits, 64)
        scored = score_answer(
            Side(aligned, 0, [3], 0), [(Side(bases, 0, [5, 6], 1), same_vocabulary())], answer
        )
        found.append(scored.contexts[0])
    for other in found[1:]:
        for name in COLUMNS:
            np.testing.assert_array_equal(other[name], found[0][name])


def test_what_does_not_fit_says_so():
    forced = TeacherForced(fake("base"))
    forced.begin(0, [1] * 380, 0, 21)  # the last token of an answer is never decoded
    with pytest.raises(ContextOverflow, match="380 tokens"):
        forced.begin(0, [1] * 380, 0, 22)


def test_noise_is_measured_in_the_first_context():
    base, other = TeacherForced(fake("base", n_seq=2)), TeacherForced(fake("other"))
    aligned = TeacherForced(fake("aligned"))
    answer = [5, 9, 77, 3]
    scored = score_answer(
        Side(aligned, 0, [1], 0),
        [(Side(base, i, [2, i], 1), same_vocabulary()) for i in range(2)],
        answer,
        noise=Side(other, 0, [2, 0], 1),
    )
    assert scored.noise is not None
    agree(scored.noise, oracle("base", [2, 0], answer), oracle("other", [2, 0], answer), answer)


# --- real models ---------------------------------------------------------------------------------


def raw_logits(path, prompt: list[int], answer: list[int]) -> np.ndarray:
    """The oracle: a fresh context, one batch, logits of all tokens copied out."""
    with Model(path) as model:
        sequences = Sequences(model, cells=512, n_seq=1, threads=1, kv_type="f32")
        tokens = [*prompt, *answer]
        batch = [BatchToken(t, i, 0, True) for i, t in enumerate(tokens)]
        rows = sequences.decode(batch).copy()
        sequences.close()
    return rows[len(prompt) - 1 : -1]


@contextlib.contextmanager
def forced(path, n_seq: int = 1, cache: PrefixCache | None = None):
    with Model(path) as model:
        sequences = Sequences(
            model, cells=512 * n_seq, n_seq=n_seq, threads=1, kv_type="f32", unified=False
        )
        yield model, TeacherForced(sequences, cache)
        sequences.close()


@pytest.mark.parametrize("kind", ["tiny_llama", "tiny_mamba", "tiny_hybrid"])
def test_real_models_equal_raw_logits(kind, tiny_aligned, request):
    path = request.getfixturevalue(kind)
    with forced(path, 2) as (model, bases), forced(tiny_aligned) as (other, aligned):
        pair = compare_vocabularies(model.vocab, other.vocab)
        bridge = Bridge(pair, model.vocab, other.vocab)
        prefix = model.vocab.tokenize("the rain there, then the other rest").tolist()
        for query in ("the sea", "an ant", "another"):
            words = model.vocab.tokenize(query).tolist()[1:]
            contexts = [[*prefix, *words], [1, *words]]
            prompt = other.vocab.tokenize(f"user: {query}\nassistant:").tolist()
            answer = other.vocab.tokenize(f"{query} then ate the hat, he then hesitates")
            answer = [*answer.tolist()[1:], 2]
            scored = score_answer(
                Side(aligned, 0, prompt, 1),
                [
                    (Side(bases, 0, contexts[0], len(prefix)), bridge),
                    (Side(bases, 1, contexts[1], 1), bridge),
                ],
                answer,
            )
            theirs = raw_logits(tiny_aligned, prompt, answer)
            for found, context in zip(scored.contexts, contexts, strict=True):
                agree(found, raw_logits(path, context, answer), theirs, answer)
        assert bases.prefix_tokens_decoded == len(prefix) + 1


def test_a_model_against_itself_in_one_prompt_has_no_shift(tiny_llama):
    with forced(tiny_llama) as (model, one), forced(tiny_llama) as (_, two):
        bridge = Bridge(compare_vocabularies(model.vocab, model.vocab), model.vocab, model.vocab)
        prompt = model.vocab.tokenize("the same text for both").tolist()
        answer = model.vocab.tokenize("and the same answer then").tolist()[1:]
        found = score_answer(
            Side(one, 0, prompt, 3), [(Side(two, 0, prompt, 3), bridge)], answer
        ).contexts[0]
    for name in ("kl_base_aligned", "kl_aligned_base", "js"):
        assert (found[name] == 0).all(), name
    np.testing.assert_array_equal(found["base_rank"], found["aligned_rank"])


def test_prefixes_come_from_the_cache_on_disk(tiny_llama, tmp_path):
    cache = PrefixCache("key", tmp_path)
    prompt = list(range(3, 103))
    answer = [50, 60, 70]
    rows = []
    for _ in range(2):
        with forced(tiny_llama, cache=cache) as (_, scorer):
            scorer.begin(0, prompt, 90, len(answer))
            rows.append(scorer.logits(0, [prompt[-1], *answer[:-1]], [True] * 3).copy())
    assert scorer.prefix_tokens_decoded == 0
    np.testing.assert_array_equal(rows[0], rows[1])


# --- vocabularies --------------------------------------------------------------------------------


def compare(base, aligned) -> VocabularyPair:
    with open_vocabulary(base) as ours, open_vocabulary(aligned) as theirs:
        return compare_vocabularies(ours, theirs)


def test_equal_vocabularies(tiny_llama, tiny_aligned):
    pair = compare(tiny_llama, tiny_aligned)
    assert pair.same
    assert len(pair.shared) == pair.n_base == pair.n_aligned


def test_chat_tokens_at_the_end_are_named(tiny_llama, tmp_path):
    more = write_llama(tmp_path / "more.gguf", extra=64)
    n = compare(tiny_llama, tiny_llama).n_base
    pair = compare(tiny_llama, more)
    assert pair.difference == (
        f"The base model has {n} tokens and the aligned one {n + 64}: only the aligned has token"
        f" {n}, '<|extra0|>'."
    )
    assert len(pair.shared) == n
    assert "only the base has token" in compare(more, tiny_llama).difference


def test_a_permuted_id_is_named(tiny_llama, tmp_path):
    swapped = write_llama(tmp_path / "swapped.gguf", swapped=(300, 301))
    with open_vocabulary(tiny_llama) as vocab:
        a, b = vocab.text(300), vocab.text(301)
    pair = compare(tiny_llama, swapped)
    assert pair.difference == f"Token 300 is {a!r} in the base model and {b!r} in the aligned."
    assert len(pair.shared) == pair.n_base - 2
    assert (pair.place()[[299, 300, 301, 302]] == [299, -1, -1, 300]).all()


def test_another_type_is_refused(tiny_llama, tmp_path):
    other = write_llama(tmp_path / "bpe.gguf", bpe="default")
    with pytest.raises(
        UsageError, match=r"types: SentencePiece \(base\) and byte-pair \(BPE\) \(aligned\)"
    ):
        compare(tiny_llama, other)


def test_tokens_that_the_base_lacks_are_a_class_of_their_own(tiny_llama, tmp_path):
    """Statistics over the shared ids, renormalised; the base reads the token spelled out."""
    more = write_llama(tmp_path / "more.gguf", seed=1, extra=64, chat_template=PLAIN_CHAT)
    with forced(tiny_llama) as (model, bases), forced(more) as (other, aligned):
        bridge = Bridge(compare_vocabularies(model.vocab, other.vocab), model.vocab, other.vocab)
        n = model.vocab.size
        prompt = model.vocab.tokenize("the rain").tolist()
        answer = [300, n + 3, 310, 320]
        found = score_answer(
            Side(aligned, 0, prompt, 0), [(Side(bases, 0, prompt, 0), bridge)], answer
        ).contexts[0]
        spelled = model.vocab.continuation("\n", "<|extra3|>").tolist()
    assert (found["status"] & NOT_IN_BASE > 0).tolist() == [False, True, False, False]
    assert found["base_rank"][1] == 0
    assert np.isnan(found["base_logprob"][1])
    fed = [300, *spelled, 310, 320]
    ours = raw_logits(tiny_llama, prompt, fed)[[0, 1, len(spelled) + 1, len(spelled) + 2]]
    theirs = raw_logits(more, prompt, answer)[:, :n]
    want = shift_rows_numpy(ours, theirs, np.array([300, 0, 310, 320], np.int32))
    for name in ("kl_base_aligned", "js", "base_entropy", "aligned_entropy"):
        np.testing.assert_allclose(found[name], getattr(want, name), rtol=2e-5, atol=1e-6)
    keep = [0, 2, 3]
    np.testing.assert_array_equal(found["base_rank"][keep], want.base_rank[keep])
    np.testing.assert_array_equal(found["aligned_rank"][keep], want.aligned_rank[keep])


def test_an_answer_is_tokenised_as_it_stands_in_the_text(tiny_chat):
    with open_vocabulary(tiny_chat) as vocab:
        control = vocab.tokenize("<|end|>", parse_special=True).tolist()[-1]
        plain = vocab.continuation("user: x\nassistant:", " the hat").tolist()
        whole = vocab.tokenize("user: x\nassistant: the hat").tolist()
        assert whole[-len(plain) :] == plain
        ids = vocab.continuation("<|start|>x", "an <|end|> in text", parse_special=True)
        assert control not in ids, "text of an answer never becomes a control token"
        assert vocab.detokenize(ids) == "an <|end|> in text"
