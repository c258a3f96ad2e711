"""What is told in one pass over a text is what the plain definition says, on every short text."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urial_local.base.fences import FenceStart, FenceTracker
from urial_local.base.placeholders import Names, restore
from urial_local.runtime.alphabet import Alphabet
from urial_local.runtime.stops import StopPolicy, StopScanner
from urial_local.tasks.evaluate.endpoint import _STRING_OR_COMMA, read_record
from urial_local.tasks.evaluate.modes import MODES
from urial_local.tasks.generate.flags import runaway
from urial_local.tasks.retrieve import first_words


def texts(*pieces: str, most: int = 12) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=most).map("".join)


LINES = texts(*("`", "```", "~", "~~~", " ", "   ", "\t", "x", "py", "\r", "é", "\u3000"), most=8)
FENCE_LINE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*?)[ \t]*$")


@pytest.mark.slow
@given(LINES)
@settings(max_examples=800, deadline=None)
def test_a_line_that_is_a_fence(line):
    match = FENCE_LINE.match(line.rstrip("\r"))
    tracker = FenceTracker("```", begun=True)
    closes = tracker.line(line)
    assert closes == bool(match and match.groups() == ("```", ""))
    assert tracker.inner == (match[1] if match and not closes else "")


@pytest.mark.slow
@given(LINES, st.integers(1, 4))
@settings(max_examples=800, deadline=None)
def test_a_line_that_may_become_a_fence(line, size):
    start = FenceStart()
    for at in range(0, len(line), size):
        start.take(line[at : at + size])
    body = line.lstrip(" ")
    bare = any(not body.strip(c).strip(" \t") for c in "`~")
    assert start.possible == (bare and len(line) - len(body) <= 3)


TURN = re.compile(
    r"^\s*(#{1,3} ?)?(\*\*)?(user|human|query|question|instruction|assistant|answer|q|a)(\*\*)?"
    r" ?\d*:(\*\*)?(\s|$)|^\s*<\|?(user|im_start|assistant|start_header_id)\b|^\s*\[INST\]",
    re.IGNORECASE | re.MULTILINE,
)


DIALOGUES = texts(
    *("\n", "\n\n", " ", "Q:", "A:", "Answer: ", "## ", "**", "user 1:", "<|user", "[INST]"),
    *("x", "```", "\r\n", "\u2028"),
)


@pytest.mark.slow
@given(DIALOGUES)
@settings(max_examples=800, deadline=None)
def test_a_dialogue_with_itself(text):
    turns = list(TURN.finditer(re.sub(r"```.*?(```|$)", "", text, flags=re.DOTALL)))
    control = any(m.group().lstrip().startswith(("<", "[INST]")) for m in turns)
    assert runaway(text) == (control or len([m for m in turns if m.start() > 0]) >= 2)


@pytest.mark.slow
@given(texts("a", "b", "aa", "aba", "ab"), st.integers(1, 5), st.sampled_from(["aab", "abab", "a"]))
@settings(max_examples=800, deadline=None)
def test_a_stop_string_in_pieces(text, size, stop):
    scanner = StopScanner(StopPolicy(strings=(stop,)))
    shown = ""
    for at in range(0, len(text), size):
        shown += scanner.feed(text[at : at + size])
        read = text[: at + size]
        held = max(n for n in range(len(stop)) if read.endswith(stop[:n]))
        if not scanner.reason:
            assert shown == read[: len(read) - held], "no more is held than must be"
    assert shown + scanner.close() == text.partition(stop)[0]
    assert scanner.reason == ("stop" if stop in text else "")


def test_of_stop_strings_the_one_that_ends_first_counts():
    for pieces in (["xabcd"], list("xabcd")):
        scanner = StopScanner(StopPolicy(strings=("abcd", "bc", "abc")))
        assert "".join(map(scanner.feed, pieces)) == "x"


@pytest.mark.slow
@given(texts("<", "<|", "<|end|>", "<|end", "|>", "[I]", "x", " "))
@settings(max_examples=800, deadline=None)
def test_control_tokens_in_a_text(text):
    known = ["<|end|>", "<|", "[I]", "<|end|>x", ""]
    names = Names(known)
    pattern = "|".join(map(re.escape, sorted(filter(None, known), key=len, reverse=True)))
    assert list(names.find(text)) == [(m.start(), m.group()) for m in re.finditer(pattern, text)]
    literals: dict[str, str] = {}
    hidden = names.hide(text, literals)
    assert not re.search(pattern, hidden)
    assert restore(hidden, literals) == text
    assert list(Names([""]).find(text)) == []


JSON = texts('"', '\\"', "\\", "\\\\", ",", ", ", "}", "]", "[", "{", "a", '": ', " ", "\n")


@pytest.mark.slow
@given(JSON)
@settings(max_examples=800, deadline=None)
def test_commas_that_nothing_follows(text):
    found = "{" + text + "}"
    plain = re.sub(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', lambda m: m[1] or "", found, flags=re.S)
    tidy = _STRING_OR_COMMA.sub(lambda m: "" if m[0] == "," else m[0], found)

    def parsed(said: str) -> object:
        try:
            return json.loads(said, strict=False)
        except ValueError:
            return "not JSON"

    assert parsed(tidy) == parsed(plain)


def test_a_reply_of_escaped_quotes_is_refused():
    with pytest.raises(ValueError, match="it is not JSON"):
        read_record("{" + '\\"' * 10_000 + "}", MODES["safety"])


@pytest.mark.slow
@given(texts("a", "b ", " ", "\n", "\u3000"), st.integers(0, 3))
@settings(max_examples=500, deadline=None)
def test_the_first_words_of_an_answer(text, most):
    words = re.findall(r"\s*\S+", text)
    plain = "".join(words[:most]).strip() + (" …" if len(words) > most else "")
    assert first_words(text, most) == plain


class _Pieces:
    def __init__(self, pieces: list[str]) -> None:
        self._pieces = [piece.encode() for piece in pieces]
        self.size = len(pieces)

    def piece(self, token: int) -> bytes:
        return self._pieces[token]


@pytest.mark.slow
@given(texts("a", "b", "c"), st.lists(st.sampled_from(["a", "ab", "bc", "ca", "cab"]), max_size=4))
@settings(max_examples=500, deadline=None)
def test_what_tokens_spell(text, pieces):
    spelt = re.fullmatch(f"(?:{'|'.join(pieces)})*" if pieces else "", text) is not None
    assert Alphabet(_Pieces(pieces)).spells(text.encode()) == spelt  # type: ignore[arg-type]
