"""Vocabularies that differ by tokens no text is made of: what passes between base and guide."""

from __future__ import annotations

import numpy as np
import pytest

import urial_local
from tests.command import urial
from tests.fakes import END, FakeDecoder, random_logits
from tests.tiny_gguf import PLAIN_CHAT, write_llama
from urial_local.runtime.common_ids import Exchange, exchange
from urial_local.runtime.engine import Engine
from urial_local.runtime.guided import Ends, Guided
from urial_local.runtime.guides import PARAMETERS, Rule, combine, softmax
from urial_local.runtime.model import Model, open_vocabulary
from urial_local.runtime.rows import Request
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.voice import Voice

NORMAL, CONTROL, USER, UNUSED, BYTE = 4, 8, 16, 2, 32  # llama.cpp's attributes


class Made:
    """A vocabulary: ids 1 … 127 are ASCII, 0 ends; further tokens are told, by their texts."""

    type, add_bos = 2, False

    def __init__(self, *more: tuple[str, int], ends: tuple[int, ...] = (END,), **texts: str):
        self.texts = [chr(i) for i in range(128)] + [text for text, _ in more]
        self.kinds = [CONTROL] + [NORMAL] * 127 + [kind for _, kind in more]
        for name, text in texts.items():
            self.texts[int(name[1:])] = text
        self.ends, self.size = ends, len(self.texts)

    def text(self, token):
        return self.texts[token]

    def kind(self, token):
        return self.kinds[token]

    def is_special(self, token):
        return not self.kinds[token] & (NORMAL | BYTE) or token in self.ends

    def is_end(self, token):
        return token in self.ends

    def piece(self, token):
        return b"" if self.kinds[token] & CONTROL else self.texts[token].encode()

    def tokenize(self, text):
        return np.array([ord(c) for c in text], np.int32)


BASE = Made()
CHAT = Made(("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL), ends=(END, 129))
TAGS = Made(("<h1>", USER))


def test_the_same_vocabulary_needs_no_exchange():
    assert exchange(BASE, BASE, END) is None
    assert exchange(BASE, Made(), END) is None


def test_added_control_tokens_get_no_mass_and_ends_are_ends():
    found = exchange(BASE, CHAT, END)
    assert isinstance(found, Exchange)
    x = np.random.default_rng(1).normal(size=CHAT.size) * 3
    q = softmax(x)
    expected = q[:128].copy()
    expected[END] += q[129]  # the guide's end of turn
    expected /= expected.sum()  # what <|im_start|> had, dealt out
    np.testing.assert_allclose(softmax(found.row(x)), expected, rtol=1e-12)
    assert len(found.row(x)) == BASE.size


def test_a_base_with_more_tokens_keeps_them_to_itself():
    found = exchange(TAGS, BASE, END)
    row = found.row(np.zeros(128))
    assert row.tolist() == [0.0] * 128 + [-np.inf]
    assert found.told([65, 128, 66]) == [65, *b"<h1>", 66], "told by its text"
    other = exchange(Made(("<|x|>", CONTROL)), BASE, END)
    assert other.told([65, 128, 66]) == [65, 66], "a control token has none"


def test_control_tokens_of_other_names():
    base = Made(("<|reserved_0|>", CONTROL))
    guide = Made(("<|eot|>", CONTROL), ends=(END, 128))
    found = exchange(base, guide, END)
    row = found.row(np.zeros(129))
    assert row[END] == pytest.approx(np.log(2))
    assert row[128] == -np.inf
    assert not found.is_end(128), "the base's id means nothing to the guide"
    assert found.is_end(END)


def test_one_type_or_another_is_the_same_where_the_bytes_are():
    """Converters call a token of blanks normal or user-defined."""
    base, guide = Made(("\n\n", NORMAL)), Made(("\n\n", USER))
    assert exchange(base, guide, END) is None
    hidden = exchange(Made(("<b>", USER)), Made(("<b>", CONTROL)), END)
    assert hidden.row(np.zeros(129))[128] == -np.inf, "a control token writes nothing"


@pytest.mark.parametrize(
    ("base", "guide", "said"),
    [
        (Made(("the", NORMAL)), Made(("a", NORMAL)), "token 128 is 'the' in the base"),
        (Made(("the", NORMAL)), Made(("<x>", CONTROL)), "token 128 is 'the' in the base"),
        (BASE, Made(("the", NORMAL)), "only the guide has token 128, 'the'"),
        (Made(("the", NORMAL)), BASE, "only the base has token 128, 'the'"),
        (Made(t65="B", t66="A"), BASE, "token 65 is 'B'"),
    ],
)
def test_where_texts_are_concerned_they_do_not_agree(base, guide, said):
    assert said in exchange(base, guide, END)


def test_other_types_do_not_agree():
    guide = Made()
    guide.type = 1
    assert "different types" in exchange(BASE, guide, END)


# --- in the loop ----------------------------------------------------------------------------------


def chat_logits(context):
    """What <|im_end|> gets is often the most."""
    row = random_logits(CHAT.size)(context) * 2
    row[129] += 2.5
    return row


def base_logits(context):
    row = random_logits(TAGS.size)(context) * (4 if sum(context) % 3 else 1)
    row[128] += 3.0  # the base's own token is likely, too
    return row.astype(np.float32)


def opened(rule, rows, eager=False):
    passing = exchange(TAGS, CHAT, END)
    decoder = FakeDecoder(chat_logits, n_seq=rows)
    ends = Ends(TAGS, passing, END)
    chooser = Guided(rule, [Voice(decoder)], ends, exchanges=[passing], eager=eager)
    return Engine(TAGS, FakeDecoder(base_logits, n_seq=rows + 1), rows=rows, chooser=chooser)


def plainly(rule, prompt, hint, n):
    """The oracle: both models a token at a time, in probabilities."""
    answer, told = [], []
    for _ in range(n):
        x = chat_logits((*hint, *told)).astype(np.float64)
        q = np.append(softmax(x)[:128], 0.0)
        q[END] += softmax(x)[129]
        with np.errstate(divide="ignore"):
            q = np.log(q / q.sum())
        p = base_logits((*prompt, *answer)).astype(np.float64)
        found = combine(rule, [p, q], (END,))
        assert softmax(found).sum() == pytest.approx(1)
        token = int(found.astype(np.float32).argmax())
        if token == END:
            break
        answer.append(token)
        told += [token] if token < 128 else list(b"<h1>")
    return tuple(answer)


def asked(**more):
    return [Request([65, 66 + n, 67], max_tokens=9, others=([97, 98],), **more) for n in range(9)]


@pytest.mark.parametrize("name", [n for n in PARAMETERS if n not in ("proxy", "contrast")])
def test_every_rule_over_two_vocabularies_is_a_plain_loop(name):
    rule = Rule(name)
    done = opened(rule, 4).complete(asked())
    for request, found in zip(asked(), done, strict=True):
        assert found.tokens == plainly(rule, request.tokens, request.others[0], 9)
    # The base's own token is written, and told; under amplify only what the guide has has mass.
    assert any(128 in found.tokens for found in done) == (name != "amplify")
    if name != "bet":  # which keeps the base's own tokens at these logits
        assert any(found.finish_reason == "eos" for found in done)
    sampled = asked(sampling=Sampling(temperature=0.8, seed=3))
    found = [
        [d.tokens for d in opened(rule, rows, eager).complete(sampled)]
        for rows in (1, 8) for eager in (False, True)
    ]  # fmt: skip
    assert all(one == found[0] for one in found)


# --- made models ----------------------------------------------------------------------------------


def test_a_made_pair_with_added_control_tokens(tmp_path):
    base = write_llama(tmp_path / "base.gguf", endless=True)
    chat = write_llama(
        tmp_path / "chat.gguf", seed=1, extra=32, endless=True, chat_template=PLAIN_CHAT
    )
    renamed = [
        write_llama(tmp_path / f"{name}.gguf", special={f"<|{name}|>": 3}, endless=True)
        for name in ("spare", "tool")
    ]
    with open_vocabulary(base) as ours, open_vocabulary(chat) as theirs:
        found = exchange(ours, theirs, ours.eos)
        assert found.common.all()
        assert len(found.row(np.zeros(theirs.size))) == ours.size
    for pair in ((base, chat), (chat, base), renamed):
        with Model(pair[0]) as ours, Model(pair[1]) as theirs:
            assert isinstance(exchange(ours.vocab, theirs.vocab, 2), Exchange)
        for rule in ("nudge", "bet", "defer", "blend", "amplify"):
            with urial_local.load(
                str(pair[0]), prompt="zero-shot", max_tokens=8, guide=str(pair[1]), guide_rule=rule,
                guide_prompt="zero-shot",
            ) as assistant:  # fmt: skip
                done = assistant.complete("Hi")
            assert len(done.logprobs) == len(done.tokens), "by tokens, not by words"
            assert done.guidance.decoded > 0
    with urial_local.load(
        str(base), prompt="zero-shot", max_tokens=8, guide=str(chat), guide_base=str(chat),
        guide_rule="proxy",
    ) as assistant:  # fmt: skip
        assert assistant.complete("Hi").text


def test_the_same_weights_with_more_tokens_are_the_base(tmp_path):
    """A guide that is the base, but for rows of its head that the base lacks."""
    from tests.fakes import greedy

    def more(context):
        return np.append(random_logits()(context), 50.0)  # it is sure of a token of its own

    passing = exchange(BASE, Made(("<|think|>", CONTROL)), END)
    chooser = Guided(
        Rule("nudge", gamma=1.1), [Voice(FakeDecoder(more))], Ends(BASE, passing, END),
        exchanges=[passing],
    )  # fmt: skip
    engine = Engine(BASE, FakeDecoder(random_logits()), rows=1, chooser=chooser)
    (done,) = engine.complete([Request([65, 66], max_tokens=9, others=([65, 66],))])
    assert done.tokens == greedy(random_logits(), [65, 66], 9)


def test_a_refusal_names_what_texts_are_made_of(tmp_path):
    base = write_llama(tmp_path / "base.gguf", endless=True)
    other = write_llama(tmp_path / "other.gguf", extra=32, swapped=(300, 310), endless=True)
    done = urial("ask", "-m", base, "-p", "zero-shot", "--guide", other, "--guide-rule", "bet", "x")
    assert done.returncode != 0
    assert "token 300 is" in done.stderr
