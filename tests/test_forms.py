"""Answers that fill in a form: always whole, and with the model's own distribution at a choice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from urial_local.base.errors import UsageError
from urial_local.base.registry import find_model
from urial_local.runtime.alphabet import Alphabet
from urial_local.runtime.forms import Choice, Field, Filling, Form, Literal, Text, filled_text
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.tasks.evaluate.modes import MODES


class Letters:
    """A vocabulary of single characters and a few longer pieces."""

    def __init__(self, extra: tuple[str, ...] = ()) -> None:
        alphabet = [chr(c) for c in range(32, 127)] + ["\n", "é"]
        self.pieces = ["", *alphabet, *extra]
        self.size = len(self.pieces)

    def piece(self, token: int) -> bytes:
        return self.pieces[token].encode("utf-8", "surrogateescape")  # \udcXX is the byte XX

    def id(self, text: str) -> int:
        return self.pieces.index(text)

    def continuation(self, prompt: str, answer: str) -> np.ndarray:
        return np.array([self.pieces.index(c) for c in answer], np.int32)


def form(vocab: Letters, options: tuple[str, ...] = ("1", "2", "N/A"), longest: int = 5) -> Form:
    return Form(
        Alphabet(vocab),
        (
            Literal('{"why": "'),
            Text("why", longest),
            Literal('", "score": "'),
            Choice("score", options),
            Literal('"}'),
        ),
    )


def wish(vocab: Letters, *texts: str) -> np.ndarray:
    """Logits that want the first of these, then the next."""
    logits = np.full(vocab.size, -20, np.float32)
    for i, text in enumerate(texts):
        logits[vocab.id(text)] = -i
    return logits


def fill(filling: Filling, vocab: Letters, *wanted: str) -> None:
    """Let a greedy model that wants these pieces, one a step, fill in the form."""
    for text in wanted:
        assert not filling.done
        filling.take(int(filling.masked(wish(vocab, text)).argmax()))


def test_free_text_ends_at_a_quote_or_at_its_limit():
    vocab = Letters(('",', 'x"', "\\n"))
    filling = Filling(form(vocab))
    fill(filling, vocab, "a", "b", '"', "2")
    assert filling.done
    assert [f.text for f in filling.fields] == ["ab", "2"]
    filling = Filling(form(vocab))
    fill(filling, vocab, *"abcde", "1")
    assert [f.text for f in filling.fields] == ["abcde", "1"]
    filling = Filling(form(vocab))
    fill(filling, vocab, "a", '",', "1")
    assert filling.fields[0].text == "a", "a longer piece that begins with a quote closes, too"
    filling = Filling(form(vocab))
    appended = filling.take(vocab.id("a"))
    appended += filling.take(int(filling.masked(wish(vocab, 'x"')).argmax()))
    assert [vocab.pieces[t] for t in appended] == ["a", "x", *'", "score": "']
    assert filling.fields[0].text == "ax", "what stands before the quote is text"


def test_a_character_is_written_whole():
    e, acute, smile = "\udcc3", "\udca9", [chr(0xDC00 + b) for b in "😀".encode()]
    every = tuple(chr(0xDC00 + b) for b in range(0x80, 0x100))
    vocab = Letters((*every, "z" + smile[0]))
    filling = Filling(form(vocab, longest=2))
    start = filling.masked(np.zeros(vocab.size, np.float32))
    assert np.isfinite(start[vocab.id(e)])
    assert not np.isfinite(start[vocab.id(acute)]), "a second byte begins nothing"
    filling.take(vocab.id("z" + smile[0]))
    for i in (1, 2, 3):
        going_on = filling.masked(np.zeros(vocab.size, np.float32))
        allowed = {vocab.pieces[t] for t in np.flatnonzero(np.isfinite(going_on))}
        assert smile[i] in allowed
        assert not allowed & {"a", '"', e}
        filling.take(vocab.id(smile[i]))
    assert filling.fields[0].text == "z😀", "the limit of two tokens waits for the last byte"
    few = Filling(form(Letters((e, acute))))
    start = few.masked(np.zeros(few.form.alphabet.vocab.size, np.float32))
    assert not np.isfinite(start[few.form.alphabet.vocab.id(e)]), "not every character has an end"


def test_what_json_cannot_hold_is_never_written():
    vocab = Letters(('x"', "\\n", "a\n"))
    filling = Filling(form(vocab))
    first = filling.masked(np.zeros(vocab.size, np.float32))
    allowed = {vocab.pieces[i] for i in np.flatnonzero(np.isfinite(first))}
    assert not allowed & {"", '"', "\\", "\n", 'x"', "\\n", "a\n"}, "nor is the reason empty"
    assert {"a", "é", " ", "{"} <= allowed
    fill(filling, vocab, "a")
    later = filling.masked(np.zeros(vocab.size, np.float32))
    assert np.isfinite(later[vocab.id('"')])


def test_a_choice_keeps_the_distribution_over_its_options():
    vocab = Letters(("N/A", "2 "))
    filling = Filling(form(vocab))
    fill(filling, vocab, "a", '"')
    logits = np.random.default_rng(0).normal(size=vocab.size).astype(np.float32)
    masked = filling.masked(logits)
    p = np.exp(logits.astype(np.float64))
    mass = {
        "1": p[vocab.id("1")],
        "2": p[vocab.id("2")],
        "N/A": p[vocab.id("N")] + p[vocab.id("N/A")],
    }
    filling.take(int(masked.argmax()) if masked.argmax() != vocab.id("N") else vocab.id("N/A"))
    assert filling.done, "'2 ' goes on with no option"
    found = filling.fields[1].probabilities
    for option, weight in mass.items():
        assert found[option] == pytest.approx(weight / sum(mass.values()), rel=1e-9)


def test_options_that_share_a_beginning():
    vocab = Letters(("10",))
    ten = tuple(map(str, range(1, 11)))
    for pieces, text in ((("1", '"'), "1"), (("1", "0"), "10"), (("10",), "10"), (("7",), "7")):
        filling = Filling(form(vocab, ten))
        fill(filling, vocab, "a", '"', *pieces)
        assert filling.done
        assert filling.fields[1] == Field("score", text, None), "1 may be 1 or the start of 10"


def test_no_token_leads_where_the_vocabulary_cannot_go_on():
    vocab = Letters(("N/",))
    vocab.pieces[vocab.id("A")] = "~"  # without an A, but with one after a stroke
    vocab.pieces.append("/A")
    vocab.size += 1
    filling = Filling(form(vocab))
    fill(filling, vocab, "a", '"')
    allowed = {vocab.pieces[t] for t in np.flatnonzero(
        np.isfinite(filling.masked(np.zeros(vocab.size, np.float32))))}  # fmt: skip
    assert allowed == {"1", "2", "N"}, "N/ would need an A"
    fill(filling, vocab, "N", "/A")
    assert filling.fields[1].text == "N/A"


def test_forms_that_cannot_be():
    vocab = Letters()
    with pytest.raises(UsageError, match="in turn"):
        Form(Alphabet(vocab), (Literal('"'), Text("a", 3), Text("b", 3), Literal('"')))
    with pytest.raises(UsageError, match="fixed text at both ends"):
        Form(Alphabet(vocab), (Text("a", 3), Literal('"')))
    with pytest.raises(UsageError, match="a quote ends"):
        Form(Alphabet(vocab), (Literal("x"), Text("a", 3), Literal("y")))
    with pytest.raises(UsageError, match="cannot write '日'"):
        Form(Alphabet(vocab), (Literal("x"), Choice("a", ("日",)), Literal('"')))


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(MODES))
def test_500_random_runs_all_parse_and_validate(mode, tiny_llama):
    """A model of random weights, sampled hot, fills in each mode's record 100 times."""
    options = RuntimeOptions(ctx_size=1024, parallel=16, disk_cache=False)
    with open_engine(tiny_llama, options) as (model, engine):
        made = Form(Alphabet(model.vocab), MODES[mode].form(12))
        prompt = model.vocab.tokenize("Judge this.").tolist()
        requests = [
            Request([*prompt, *made.opening], Sampling(temperature=2.0, seed=i), form=made)
            for i in range(100)
        ]
        done = engine.complete(requests)
    assert {c.finish_reason for c in done} == {"form"}
    seen = set()
    for c in done:
        value = json.loads(filled_text(made, c.fields))
        assert MODES[mode].check(value) == MODES[mode].record(c.fields)
        assert len(c.tokens) - len(made.opening) <= made.max_tokens
        seen.add(filled_text(made, c.fields))
    assert len(seen) > 20, "they differ, so the places are the model's"


def fill_in(parallel: int, texts: list[str], kv_type: str = "f16") -> list:
    """Completions of the safety form by the demo model, and the prompts that were asked."""
    options = RuntimeOptions(
        512, parallel, disk_cache=False, kv_type=kv_type, flash_attention=False
    )
    with open_engine(find_model("demo-aligned").path, options) as (model, engine):
        made = Form(Alphabet(model.vocab), MODES["safety"].form(8))
        prompts = [[*model.vocab.tokenize(t).tolist(), *made.opening] for t in texts]
        done = engine.complete([Request(p, form=made) for p in prompts])
        return [(c, p, len(made.literal(4))) for c, p in zip(done, prompts, strict=True)]


def test_a_form_in_a_batch_is_the_form_alone():
    asked = ["Where can I find a fox?", "What does an owl eat?", "How do I make soup?"]
    single = [fill_in(1, [text])[0][0] for text in asked]
    for one, (many, _, _) in zip(single, fill_in(4, asked), strict=True):
        assert one.tokens == many.tokens
        for option, p in one.fields[1].probabilities.items():
            assert many.fields[1].probabilities[option] == pytest.approx(p, abs=0.01)


def test_the_distribution_is_that_of_a_plain_forward_pass():
    """Oracle: all tokens before the digit decoded at once, a softmax over the digits' logits."""
    from urial_local.runtime.model import Model
    from urial_local.runtime.sequences import BatchToken, Sequences

    ((done, prompt, closing),) = fill_in(1, ["Where can I find a fox?"], "f32")
    before = [*prompt, *done.tokens[: len(done.tokens) - closing - 1]]
    with Model(find_model("demo-aligned").path, gpu_layers=0) as model:
        sequences = Sequences(
            model, cells=512, n_seq=2, batch=512, threads=1, kv_type="f32", flash_attention=False
        )
        last = len(before) - 1
        batch = [BatchToken(t, i, 1, i == last) for i, t in enumerate(before)]
        logits = sequences.decode(batch)[0].astype(np.float64)
        weight = dict.fromkeys("12345", 0.0)
        for token in range(model.vocab.size):  # a byte token and a letter may both be the digit
            piece = model.vocab.piece(token).decode("utf-8", "replace")
            if piece in weight:
                weight[piece] += float(np.exp(logits[token] - logits.max()))
        sequences.close()
    found = done.fields[1].probabilities
    for digit, w in weight.items():
        assert found[digit] == pytest.approx(w / sum(weight.values()), rel=1e-3)
    expected = MODES["safety"].expected(done.fields)["safety"]
    by_hand = sum(int(d) * w for d, w in weight.items()) / sum(weight.values())
    assert expected == pytest.approx(by_hand, rel=1e-3)
