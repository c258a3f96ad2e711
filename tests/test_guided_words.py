"""Nudging by words: two models of different vocabularies that exchange text."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fakes import END, FakeDecoder, WordVocab, text_script
from urial_local.runtime.engine import Engine
from urial_local.runtime.guided_words import GuidedWords, Loops
from urial_local.runtime.guides import Rule
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import Aborted
from urial_local.runtime.voice import Voice

BASE = WordVocab(("the", " the", " sky", " is", " blue"))
OTHER = WordVocab(("Sur", "e,", " sk", "y", " gr", "een", " glad", "ly"))
GUIDED = "Sure, the sky is green today"


def follows(answer, sure_of=()):
    """Goes on with `answer` from wherever the text stands, sure only of what `sure_of` holds."""

    def says(text):
        said = text[text.index("|") + 1 :] if "|" in text else ""
        if not answer.startswith(said):
            return ".", 0.9
        rest = answer[len(said) :]
        return rest, 0.9 if any(rest.startswith(s) for s in sure_of) else 0.2

    return says


def opened(base_says, guide_says, gamma=0.4, rows=2, eager=False, batch=64):
    decoder = FakeDecoder(text_script(OTHER, guide_says), n_seq=rows, batch_size=batch)
    chooser = GuidedWords(Rule("nudge", gamma=gamma), Voice(decoder), BASE, OTHER, END, eager=eager)
    base = FakeDecoder(text_script(BASE, base_says), n_seq=rows + 1)
    return Engine(BASE, base, rows=rows, chooser=chooser), decoder


def request(n=0, most=60):
    return Request(BASE.encode("q" * (n + 1) + "|"), max_tokens=most,
                   others=(OTHER.encode("hint" * n + "|"),))  # fmt: skip


def test_the_guides_word_becomes_the_bases_tokens():
    """Unsure at the start, then sure of three words, then unsure again."""
    says = follows("Sure, the sky is green today", (" the", " sky", " is", " today"))
    engine, decoder = opened(says, follows(GUIDED))
    (done,) = engine.complete([request(most=20)])
    assert done.text.startswith("Sure, the sky is green")
    marked = [done.text[a:b] for a, b in done.guidance.spans]
    assert marked[:2] == ["Sure,", " green"]
    assert done.tokens[:5] == tuple(BASE.encode("Sure,")), "several tokens at once"
    assert done.guidance.base_top[0] == pytest.approx(0.2, abs=1e-6)
    assert len(done.logprobs) == len(done.tokens) - len(done.guidance.at)
    assert done.guidance.decoded == decoder.decoded


def test_gamma_0_is_the_base_alone_and_above_1_the_guide():
    for gamma, expected in ((0.0, "the sky is blue"), (1.1, GUIDED)):
        engine, decoder = opened(follows("the sky is blue"), follows(GUIDED), gamma)
        (done,) = engine.complete([request()])
        assert (done.text, done.finish_reason) == (expected, "eos")
        assert bool(decoder.decoded) == (gamma > 1)


def test_a_guide_that_says_the_same_changes_no_text():
    engine, _ = opened(follows(GUIDED), follows(GUIDED))
    (done,) = engine.complete([request()])
    assert (done.text, done.finish_reason) == (GUIDED, "eos")


def test_the_base_ends_only_where_the_guide_does():
    engine, _ = opened(follows("Sure, the", ("",)), follows(GUIDED))
    (done,) = engine.complete([request()])
    assert done.text.startswith("Sure, the sky")
    engine, _ = opened(follows("Sure, the", ("",)), follows("Sure, the"))
    (done,) = engine.complete([request()])
    assert (done.text, done.finish_reason) == ("Sure, the", "eos")


def test_the_same_word_three_times_with_the_same_between_ends_it():
    def base(text):
        return (".", 0.9) if text.endswith("gladly") else ("x", 0.1)

    engine, _ = opened(
        base, lambda text: (" gladly", 0.9) if not text.endswith("glad") else ("ly ", 0.9)
    )
    (done,) = engine.complete([request()])
    assert done.finish_reason == "loop"
    assert not done.ended
    assert done.text == " gladly. gladly."


def test_loops_need_the_same_text_between():
    loops = Loops()
    answer = [5, 1, 2, 5, 1, 3, 5, 1, 3]
    found = [loops.third("a", answer[:n], (5,)) for n in (0, 3, 6)]
    assert found == [False, False, False], "what is between differs"
    assert loops.third("a", answer, (5,))


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("batch", [4, 64])
def test_eight_rows_equal_one_by_one_and_lazy_equals_eager(rows, batch):
    says = follows(GUIDED, (" the", " is", "n"))
    found = []
    for eager in (False, True):
        engine, decoder = opened(says, follows(GUIDED), rows=rows, eager=eager, batch=batch)
        done = engine.complete([request(n) for n in range(8)])
        found.append([(d.text, d.guidance.at) for d in done])
        assert not any(decoder.tokens(s) for s in range(rows))
    assert found[0] == found[1]
    assert len(set(found[0])) == 1


def test_a_word_right_after_a_word_costs_no_decode_for_what_is_known():
    """The token that showed where the last word ended is the first of the next one."""
    engine, decoder = opened(follows(GUIDED), follows(GUIDED), gamma=1.1, rows=1)
    (done,) = engine.complete([request()])
    assert done.text == GUIDED
    told = len(OTHER.encode("|")) + len(OTHER.encode(GUIDED))
    assert decoder.decoded == told, "each token is read once"
    assert len(decoder.batches) == len(OTHER.encode(GUIDED)) + 1, "the prompt goes with the first"


def test_rows_that_are_nudged_share_the_guides_decodes():
    counts = []
    for rows in (1, 8):
        engine, decoder = opened(follows(GUIDED), follows(GUIDED), gamma=1.1, rows=rows)
        engine.complete([request() for _ in range(8)])
        counts.append(len(decoder.batches))
    assert counts[0] == 8 * counts[1]


def test_characters_of_several_tokens_are_not_torn():
    vocab = WordVocab()
    vocab.piece = lambda token: {1: b"\xc3", 2: b"\xa9"}.get(
        token, bytes([token]) if token else b""
    )

    def base(context):
        row = np.zeros(128, np.float32)
        row[2 if context[-1] == 1 else 1] = 1.0  # never sure
        return row

    decoder = FakeDecoder(text_script(OTHER, lambda text: ("x ", 0.9)), n_seq=1)
    chooser = GuidedWords(Rule("nudge"), Voice(decoder), vocab, OTHER, END)
    engine = Engine(vocab, FakeDecoder(base), rows=1, chooser=chooser)
    begun = Request([65, 124], max_tokens=1, prefill=[1], others=([124],))
    (done,) = engine.complete([begun])
    assert done.text == "é"
    assert done.guidance.at == (), "the base finishes the character"


def test_a_guide_that_is_stopped_leaves_all_sound():
    engine, decoder = opened(follows(GUIDED), follows(GUIDED))
    decoder.abort_after = 2
    with pytest.raises(Aborted):
        engine.complete([request(n) for n in range(3)])
    assert not engine._live
    assert not any(decoder.tokens(s) for s in range(2))
    decoder.abort_after = -1
    assert {d.text for d in engine.complete([request(n) for n in range(3)])} == {GUIDED}


def test_no_room_for_the_guide():
    engine, _ = opened(follows(GUIDED), follows(GUIDED))
    engine.chooser.room = 5
    (done,) = engine.complete([request()])
    assert (done.text, done.finish_reason) == ("", "context")
