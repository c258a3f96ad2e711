"""The runtime on real models: tiny random ones made here, and the shared ones where they are."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from urial_local.base.errors import TokenizeError, UrialError
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Turn
from urial_local.runtime import llama_api
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.row_scores import score_rows_numpy
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.sequences import BatchToken, Sequences
from urial_local.runtime.stops import StopPolicy
from urial_local.tasks.prompted import PromptedModel

F32 = {"kv_type": "f32", "threads": 1, "disk_cache": False}
KINDS = ["tiny_llama", "tiny_mamba", "tiny_hybrid", "tiny_windowed"]  # four kinds of memory
TEXTS = ["the rain then", "the sea is there", "an ant ate the tea", "!", "hesitate, the other"]


def requests(model: Model, *, shared: bool, n: int = 12) -> list[Request]:
    prefix = model.vocab.tokenize("the constant prefix that all of them share, then: ").tolist()
    return [
        Request(
            [*prefix, *model.vocab.tokenize(t).tolist()[1:]],
            max_tokens=n,
            shared=len(prefix) if shared else 0,
        )
        for t in TEXTS
    ]


def alone(path, request: Request) -> tuple[int, ...]:
    """The oracle: a fresh context, one row, nothing shared."""
    with open_engine(path, RuntimeOptions(**F32)) as (_, engine):
        plain = Request(request.tokens, request.sampling, request.stop, request.max_tokens)
        return engine.complete([plain])[0].tokens


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_shared_rows_equal_rows_alone(kind, parallel, request):
    path = request.getfixturevalue(kind)
    with open_engine(path, RuntimeOptions(ctx_size=256, parallel=parallel, **F32)) as (m, engine):
        for _ in range(2):  # the second time over a prefix that is there already
            batch = requests(m, shared=True)
            done = engine.complete(batch)
            assert [c.tokens for c in done] == [alone(path, r) for r in batch]
        assert all(c.cached_tokens > 10 for c in done)


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_turn_equals_a_fresh_start(kind, request):
    path = request.getfixturevalue(kind)
    with open_engine(path, RuntimeOptions(ctx_size=256, **F32)) as (m, engine):
        first = requests(m, shared=True)[0]
        answer = engine.complete([first])[0].tokens
        for more in ("the end", "then"):  # the second one goes back to before the first
            tokens = [*first.tokens, *answer[:-2], *m.vocab.tokenize(more).tolist()[1:]]
            second = Request(tokens, max_tokens=10, shared=first.shared)
            done = engine.complete([second])[0]
            assert done.tokens == alone(path, second)
            assert done.cached_tokens >= first.shared


@pytest.mark.parametrize("kind", KINDS)
def test_a_warm_start_equals_a_cold_one(kind, request):
    path = request.getfixturevalue(kind)
    options = RuntimeOptions(ctx_size=512, threads=1)
    results = []
    for _ in range(2):
        with open_engine(path, options) as (m, engine):
            prefix = m.vocab.tokenize("the rain in the sea, " * 6).tolist()
            asked = Request(
                [*prefix, *m.vocab.tokenize("then").tolist()[1:]], max_tokens=16, shared=len(prefix)
            )
            results.append(engine.complete([asked])[0])
    cold, warm = results
    assert cold.tokens == warm.tokens
    assert cold.logprobs == warm.logprobs
    assert cold.cached_tokens == 0
    assert warm.cached_tokens == len(prefix)


def test_logits_of_shared_and_unshared_rows_agree(tiny_llama):
    with Model(tiny_llama) as model:
        ids = model.vocab.tokenize("the rain in the sea, then the heat").tolist()
        sequences = Sequences(model, cells=256, n_seq=4, kv_type="f32", threads=1)

        def batch(start: int, seq: int) -> list[BatchToken]:
            return [BatchToken(t, i, seq, i == len(ids) - 1) for i, t in enumerate(ids)][start:]

        whole = sequences.decode(batch(0, 1))[0].copy()
        sequences.decode([BatchToken(t, i, 0, False) for i, t in enumerate(ids[:20])])
        assert sequences.copy(0, 2, 20)
        assert sequences.copy(0, 3, 15)
        both = sequences.decode([*batch(20, 2), *batch(15, 3)]).copy()
        np.testing.assert_allclose(both, np.stack([whole, whole]), atol=1e-4)
        assert sequences.cut(1, 10)
        again = sequences.decode(batch(10, 1))[0]
        np.testing.assert_allclose(again, whole, atol=1e-4)
        sequences.close()


def test_sequences_with_parts_of_their_own_are_copied_as_a_whole_only(tiny_llama):
    """llama.cpp ends the process where a piece is copied between them; rows begin anew instead."""
    with Model(tiny_llama) as model:
        sequences = Sequences(model, cells=256, n_seq=3, threads=1, unified=False)
        ids = [3 + i % 20 for i in range(40)]
        sequences.decode([BatchToken(t, i, 0, False) for i, t in enumerate(ids)])
        assert not sequences.copy(0, 1, 20)
        assert sequences.length(1) == 0
        assert sequences.copy(0, 1, 40)
        assert sequences.length(1) == 40
        engine = Engine(model.vocab, sequences)
        asked = [Request([*ids[:20], n, n + 1], max_tokens=4, shared=20) for n in (5, 9, 5, 7)]
        one_by_one = [engine.complete([r])[0].tokens for r in asked]
        assert [c.tokens for c in engine.complete(asked)] == one_by_one
        sequences.close()


def test_greedy_and_logprobs_follow_from_the_logits(tiny_llama):
    with open_engine(tiny_llama, RuntimeOptions(**F32)) as (m, engine):
        asked = requests(m, shared=False, n=6)[0]
        done = engine.complete([asked])[0]
        sequences = Sequences(m, cells=256, n_seq=1, kv_type="f32", threads=1)
        ids = [*asked.tokens, *done.tokens]
        logits = sequences.decode([BatchToken(t, i, 0, True) for i, t in enumerate(ids)])
        rows = np.arange(len(asked.tokens) - 1, len(ids) - 1, dtype=np.int32)  # t-1 scores t
        scores = score_rows_numpy(logits, rows, np.array(done.tokens, np.int32))
        assert scores.rank.tolist() == [1] * 6
        np.testing.assert_allclose(done.logprobs, scores.logprob, atol=1e-4)
        sequences.close()


def test_the_size_of_a_token_in_the_cache(tiny_llama, tiny_hybrid):
    with Model(tiny_llama) as model:
        assert model.kv_bytes_per_token == 2 * 4 * (16 + 16) * 2  # layers, heads, key + value, f16
    with Model(tiny_hybrid) as model:
        assert model.kv_bytes_per_token == 1 * 2 * (16 + 16) * 2
        assert model.recurrent


def test_sampling_with_a_seed_repeats(tiny_llama):
    def draw(seed: int, parallel: int) -> list[tuple[int, ...]]:
        with open_engine(tiny_llama, RuntimeOptions(ctx_size=256, parallel=parallel, **F32)) as (
            m,
            e,
        ):
            batch = [
                Request(r.tokens, Sampling(temperature=0.8, seed=seed + i), max_tokens=12)
                for i, r in enumerate(requests(m, shared=False))
            ]
            return [c.tokens for c in e.complete(batch)]

    assert draw(1, 1) == draw(1, 1) == draw(1, 4)
    assert draw(1, 1) != draw(100, 1)


def test_context_of_the_model_is_kept(tiny_llama):
    with open_engine(tiny_llama, RuntimeOptions(ctx_size=64, **F32)) as (m, engine):
        assert engine.ctx_size == 64
        done = engine.complete([Request(m.vocab.tokenize("x" * 40), max_tokens=-1)])[0]
        assert done.finish_reason in ("context", "eos")
        assert done.prompt_tokens + len(done.tokens) <= 64


# --- vocabulary ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chat_model(tiny_chat):
    with Model(tiny_chat) as model:
        yield model


def test_bos_stands_exactly_once(chat_model):
    vocab = chat_model.vocab
    assert vocab.tokenize("hi").tolist().count(vocab.bos) == 1
    assert vocab.tokenize("<s>hi", parse_special=True).tolist().count(vocab.bos) == 1
    assert vocab.tokenize("<s>hi").tolist().count(vocab.bos) == 1, "here <s> is the user's text"
    assert vocab.tokenize("").tolist() == [vocab.bos]


def test_pieces_join_to_the_text(chat_model):
    text = "the heat, naïve ☃ 😀\n\n  x"
    assert chat_model.vocab.detokenize(chat_model.vocab.tokenize(text)).lstrip(" ") == text


@pytest.mark.slow
@given(
    text=st.lists(
        st.one_of(
            st.sampled_from(["<|start|>", "<|end|>", "</s>", "<s>", "<|", "|>", "\n", "user"]),
            st.text(st.characters(codec="utf-8"), max_size=4),
        )
    ).map("".join)
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_user_text_never_becomes_control_tokens(chat_model, text):
    vocab = chat_model.vocab
    for prompt in ("chat", "urial-mini"):
        asker = PromptedModel(chat_model, load_prompt(prompt))
        tokens = asker.request(text, [Turn(text, text)]).tokens
        plain = asker.request("x", [Turn("x", "x")]).tokens
        controls = [t for t in tokens if t in vocab.controls]
        assert controls == [t for t in plain if t in vocab.controls]


def test_chat_templates_are_tokenised_as_llama_cpp_does(chat_model):
    """Splitting at control tokens ourselves gives what llama.cpp's own parser gives."""
    lib, handle = llama_api.lib, chat_model.vocab._handle
    text = "<s><|start|>user\nthe heat <|end|>\n<|start|>assistant\n"
    data = text.encode()
    ids = (lib.llama_token * 200)()
    n = lib.llama_tokenize(handle, data, len(data), ids, 200, False, True)
    assert chat_model.vocab.tokenize(text, parse_special=True).tolist() == list(ids[:n])


def test_half_a_surrogate_is_refused(chat_model):
    with pytest.raises(TokenizeError, match="a lone surrogate"):
        chat_model.vocab.tokenize("a\ud800")


def test_a_vocabulary_without_bytes_refuses_what_it_cannot_spell(shared_file):
    path = shared_file("models/tinystories656K-base-q8_0.gguf")
    with Model(path) as model:
        assert len(model.vocab.tokenize("Once upon a time")) > 3
        with pytest.raises(TokenizeError, match=r"'☃' \(U\+2603\)"):
            model.vocab.tokenize("a ☃ b")


# --- the installed llama-cpp-python --------------------------------------------------------------


def test_other_releases_are_refused():
    llama_api.check_version(llama_api.TESTED_VERSIONS[0])
    for version in ("0.3.35", "0.4.0", "0.2.90"):
        with pytest.raises(UrialError, match=version) as error:
            llama_api.check_version(version)
        assert "pip install" in error.value.hint
    with pytest.raises(UrialError, match="llama_decode"):
        llama_api.check_symbols(object())


def test_every_symbol_that_the_runtime_uses_is_checked():
    from pathlib import Path

    folder = Path(llama_api.__file__).parent
    source = "".join(p.read_text() for p in folder.glob("*.py"))
    used = set(re.findall(r"\blib\.([A-Za-z]+_[A-Za-z0-9_]+)", source))
    assert used == set(llama_api.NEEDED)


# --- the shared models ---------------------------------------------------------------------------

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
)


@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_greedy_from_bos_writes_the_known_story(shared_file, kind):
    path = shared_file(f"models/stories260K-base-{kind}.gguf")
    with open_engine(path, RuntimeOptions(threads=1, disk_cache=False)) as (m, engine):
        done = engine.complete([Request(m.vocab.tokenize(""), max_tokens=60)])[0]
    assert done.text.strip().startswith(STORY)


def test_a_base_model_ends_its_story_with_bos(shared_file):
    path = shared_file("models/stories260K-base-f32.gguf")
    with open_engine(path, RuntimeOptions(threads=1, disk_cache=False)) as (m, engine):
        done = engine.complete([Request(m.vocab.tokenize(""), max_tokens=-1)])[0]
        assert (done.finish_reason, done.end_token) == ("eos", m.vocab.bos)


def test_the_aligned_model_answers_in_its_own_template(shared_file):
    path = shared_file("models/stories260K-aligned-f32.gguf")
    with open_engine(path, RuntimeOptions(threads=1, disk_cache=False)) as (m, engine):
        asker = PromptedModel(m, load_prompt("chat"), max_tokens=-1)
        rendered = asker.render("Tell me a story about a dog.")
        assert rendered.text == "<s>User: Tell me a story about a dog.\nAssistant:"
        done = engine.complete([asker.request("Tell me a story about a dog.")])[0]
        assert (done.finish_reason, done.end_token) == ("eos", m.vocab.eos)


def test_urial_shapes_a_base_model(shared_file):
    """One base model, plain and under a URIAL prompt: the style of the examples is taken over."""
    path = shared_file("models/toyworld-base-q8_0.gguf")
    prompt = load_prompt(str(shared_file("models/toyworld-prompt.txt")))
    questions = ["Where does a fox live?", "How do I make soup?", "What is a hammer?"]
    with open_engine(path, RuntimeOptions(parallel=3, threads=1)) as (m, engine):
        for p, styled in ((prompt, True), (load_prompt("zero-shot"), False)):
            asker = PromptedModel(m, p, max_tokens=100)
            for c in engine.complete([asker.request(q) for q in questions]):
                assert c.finish_reason == "frame"
                assert c.text.startswith("Great question!") == styled
                assert c.text.endswith("I hope this helps!") == styled
                assert "```" not in c.text
                assert "#" not in c.text


def test_one_row_equals_the_high_level_api(shared_file):
    path = shared_file("models/stories260K-base-q8_0.gguf")
    prompt = "The dog and the cat went to the"
    with open_engine(path, RuntimeOptions(threads=1, disk_cache=False)) as (m, engine):
        ids = m.vocab.tokenize(prompt).tolist()
        ours = engine.complete([Request(ids, stop=StopPolicy(), max_tokens=64)])[0]
    llama = llama_api.lib.Llama(str(path), n_ctx=512, n_threads=1, verbose=False)
    try:
        theirs = llama.create_completion(ids, max_tokens=64, temperature=0, repeat_penalty=1.0)
    finally:
        llama.close()
    assert ours.text == theirs["choices"][0]["text"]
