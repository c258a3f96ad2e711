"""How steps become pieces: the text that the engine told, and the tokens that it is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("starlette")

from tests.fakes import FakeDecoder, script
from tests.serving import FakeVocab
from urial_local.runtime.engine import Engine
from urial_local.runtime.rows import Request
from urial_local.runtime.stops import StopPolicy
from urial_local.server.choices import Choice
from urial_local.server.entries import laid_out, token_text

VOCAB = FakeVocab()
ANSWERS = st.text(alphabet="ab `\n#", min_size=1, max_size=24)


def written(answer: str, policy: StopPolicy, begun: str = "", **more):
    """The pieces of an answer, and its completion."""
    tokens = VOCAB.encode("Q" + begun)
    request = Request(tokens, stop=policy, max_tokens=40, begun=len(begun), **more)
    engine = Engine(VOCAB, FakeDecoder(script({"Q": answer}), n_seq=2))
    choice = Choice(0, VOCAB, request)
    pieces = [p for step in engine.stream([request]) for p in choice.step(step)]
    return pieces, pieces[-1].done


@given(
    answer=ANSWERS,
    fence=st.sampled_from(["", "```"]),
    marker=st.sampled_from(["", "#"]),
    stops=st.lists(st.sampled_from(["ab", "b\n", "``", " "]), max_size=2),
    retry=st.booleans(),
    cut=st.integers(0, 5),
)
def test_pieces_are_what_the_engine_told(answer, fence, marker, stops, retry, cut):
    policy = StopPolicy(fence, marker, tuple(stops))
    begun = answer[: min(cut, len(answer) - 1)]
    pieces, done = written(answer, policy, begun, retry_empty=retry, top_logprobs=2)
    assert "".join(piece.text for piece in pieces) == done.text
    entries = [entry for piece in pieces for entry in piece.entries]
    ids = [entry.token for entry in entries if entry.token]
    assert tuple(ids) == done.tokens[: len(ids)], "in order, from the first"
    text = "".join(map(chr, ids))
    assert text.strip() == done.text.strip() or text.startswith(done.text)
    told = [entry for entry in entries if entry.token]
    if not policy.framed:
        assert [entry.offset for entry in told] == list(range(len(told)))
    for entry in entries:
        assert len(entry.top) == 2
        assert entry.top[0][1] >= entry.logprob
    if done.finish_reason == "eos":
        assert entries[-1].token == done.end_token == 0


def test_what_came_before_a_new_beginning_is_void():
    """An answer that ends before it begins is begun again: nothing is told of the first try."""
    pieces, done = written("```", StopPolicy("```"), retry_empty=True)
    assert done.restarts
    ids = [entry.token for piece in pieces for entry in piece.entries]
    assert ids.count(done.end_token or 0) <= 1
    assert "".join(piece.text for piece in pieces) == done.text


def test_tokens_as_they_are_written():
    VOCAB.pieces[5] = b"\xf0\x9f"
    try:
        assert [token_text(VOCAB, t) for t in (0, 65, 5)] == ["<end>", "A", "bytes:\\xf0\\x9f"]
        assert laid_out(VOCAB, [65, 5], None) == ("A\ufffd", [0, 1])
    finally:
        VOCAB.pieces[5] = b"\x05"
    assert laid_out(VOCAB, [32, 65], "A") == ("A", [0, 0])
    assert laid_out(VOCAB, [32, 65], " A") == (" A", [0, 1])
