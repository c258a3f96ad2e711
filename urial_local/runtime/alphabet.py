"""A vocabulary's tokens by what their bytes may do in a text: begin it, go on with a character that
is begun, spell a word, or end it with a quote. Knows nothing of forms; made once for a model."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]  # [n_vocab]
QUOTE = b'"'
MAX_BEFORE = 4  # bytes of a token before its quote; and of a character
_UNSAFE = bytes([*range(32), 0x22, 0x5C, 0x7F])  # what a text in JSON cannot hold as it is


class Tokens(Protocol):
    """What is needed of a vocabulary."""

    size: int

    def piece(self, token: int) -> bytes: ...
    def continuation(self, prompt: str, answer: str) -> npt.NDArray[np.int32]: ...


class Alphabet:
    """The tokens of one vocabulary."""

    def __init__(self, vocab: Tokens) -> None:
        self.vocab = vocab
        self.pieces = [vocab.piece(token) for token in range(vocab.size)]
        self._going_on: dict[bytes, Mask] = {}
        self._ids: dict[tuple[str, str], list[int]] = {}

    @cached_property
    def by_piece(self) -> dict[bytes, list[int]]:
        """Tokens by their bytes; a byte token and a letter may be the same."""
        found = defaultdict(list)
        for token, piece in enumerate(self.pieces):
            if piece:
                found[piece].append(token)
        return dict(found)

    @cached_property
    def _clean(self) -> list[int]:
        return [t for t, p in enumerate(self.pieces) if p and p == p.translate(None, _UNSAFE)]

    @cached_property
    def _partial(self) -> list[int]:
        """Clean tokens that are not whole characters of UTF-8."""
        return [t for t in self._clean if unfinished(self.pieces[t]) != b""]

    @cached_property
    def safe(self) -> Mask:
        """Tokens that may begin, or follow whole characters in, a text without quotes."""
        allowed = np.zeros(self.vocab.size, np.bool_)
        allowed[self._clean] = True
        # A character may be begun where every one can be ended, byte by byte.
        bytewise = all(bytes([b]) in self.by_piece for b in range(0x80, 0xC0))
        for token in self._partial:
            allowed[token] = bytewise and unfinished(self.pieces[token]) is not None
        return allowed

    def going_on(self, pending: bytes) -> Mask:
        """Tokens that go on with a character of which these bytes are written."""
        if pending not in self._going_on:
            allowed = np.zeros(self.vocab.size, np.bool_)
            for token in self._partial:
                allowed[token] = unfinished(pending + self.pieces[token]) is not None
            self._going_on[pending] = allowed
        return self._going_on[pending]

    @cached_property
    def closing(self) -> Mask:
        """Tokens that end a text: a quote, after a few characters at most that belong to the text
        (a sentence's end and the quote are often one token)."""
        return np.array([self.before_quote(t) is not None for t in range(self.vocab.size)])

    @cached_property
    def quotes(self) -> list[int]:
        """Tokens that begin with a quote."""
        return [t for t, piece in enumerate(self.pieces) if piece.startswith(QUOTE)]

    def before_quote(self, token: int) -> str | None:
        """The text of a token before its first quote; None where it ends nothing."""
        text, quote, _ = self.pieces[token].partition(QUOTE)
        if not quote or len(text) > MAX_BEFORE or text != text.translate(None, _UNSAFE):
            return None
        return text.decode() if unfinished(text) == b"" else None

    def spells(self, text: bytes) -> bool:
        """Whether tokens make exactly this text."""
        ends = {0}  # each place up to which tokens make the text
        for end in range(1, len(text) + 1):
            if any(text[start:end] in self.by_piece for start in ends):
                ends.add(end)
        return len(text) in ends

    def beginning(self, text: bytes) -> list[int]:
        """Tokens that write the first part of a text whose rest can be written."""
        return [
            token
            for n in range(1, len(text) + 1)
            if text[:n] in self.by_piece and self.spells(text[n:])
            for token in self.by_piece[text[:n]]
        ]

    def ids(self, text: str, before: str = "a") -> list[int]:
        """Token ids of a text as it goes on after another, so that no blank is put before it."""
        if (text, before) not in self._ids:
            self._ids[text, before] = self.vocab.continuation(before, text).tolist() if text else []
        return self._ids[text, before]


def unfinished(data: bytes) -> bytes | None:
    """What is left of a text in UTF-8 after its last whole character; None where it is not text."""
    if data.isascii():
        return b""
    try:
        data.decode("utf-8")
        return b""
    except UnicodeDecodeError as error:
        rest = data[error.start :]
        if error.reason != "unexpected end of data":
            return None
        # Python waits for a third byte here, which never makes a character: half of a surrogate.
        return None if rest[:1] == b"\xed" and rest[1:2] >= b"\xa0" else rest
