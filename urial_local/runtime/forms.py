"""Answers that fill in a form: fixed text, free text in quotes, and a choice among words.

A form is a grammar without recursion, so nothing is parsed afterwards and nothing can be malformed:
the model writes the free texts and the choices, the rest is put there as it is, without being
drawn. The free texts hold no quote, backslash or line break, so the whole may be JSON. A choice
keeps the model's whole distribution over its options.

Knows nothing of what is judged. The decode loop is the engine's: see `Row`.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError

FloatRow = npt.NDArray[np.float32]
_QUOTE = b'"'
MAX_BEFORE = 4  # bytes of a token before its quote; and of a character
_UNSAFE = bytes([*range(32), 0x22, 0x5C, 0x7F])


@dataclass(frozen=True, slots=True)
class Literal:
    """Text that stands there."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """Free text of 1 … max_tokens tokens; the literal after it must begin with a quote."""

    name: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several words, none of which holds a quote; a literal with a quote follows."""

    name: str
    options: tuple[str, ...]


Part = Literal | Text | Choice


@dataclass(frozen=True, slots=True)
class Field:
    """What stands in a form's place. `probabilities`, of a choice: of each option, given that it is
    one of them; None where the options share a beginning and only one course was followed."""

    name: str
    text: str
    probabilities: Mapping[str, float] | None = None


class Tokens(Protocol):
    """What a form needs of a vocabulary."""

    size: int

    def piece(self, token: int) -> bytes: ...
    def continuation(self, prompt: str, answer: str) -> npt.NDArray[np.int32]: ...


@dataclass(frozen=True)
class Form:
    """A form in a vocabulary's tokens. Raises UsageError where the vocabulary cannot fill it in."""

    vocab: Tokens
    parts: tuple[Part, ...]
    _literals: dict[str, list[int]] = field(default_factory=dict)
    _next: dict[tuple[Choice, str], npt.NDArray[np.int64]] = field(default_factory=dict)
    _going_on: dict[bytes, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kinds = [type(part) for part in self.parts]
        if kinds[:1] != [Literal] or kinds[-1] is not Literal:
            raise UsageError("A form begins and ends with fixed text.")
        for before, after in zip(self.parts, self.parts[1:], strict=False):
            if isinstance(before, Literal) == isinstance(after, Literal):
                raise UsageError("In a form, fixed text and places take turns.")
            if not isinstance(before, Literal) and not str(getattr(after, "text", "")).startswith(
                '"'
            ):
                raise UsageError("In a form, a quote ends each place.")
        for part in self.parts:
            if isinstance(part, Choice):
                for option in part.options:
                    if not len(self.next_of(part, "")):
                        raise UsageError(f"This model's vocabulary cannot write {option!r}.")
        if not self.closing.any() or not self.safe.any():
            raise UsageError("This model's vocabulary has no quote, so it fills in no form.")

    @cached_property
    def _pieces(self) -> list[bytes]:
        return [self.vocab.piece(token) for token in range(self.vocab.size)]

    @cached_property
    def _clean(self) -> list[int]:
        """Tokens without a byte that JSON could not hold in a text."""
        return [t for t, p in enumerate(self._pieces) if p and p == p.translate(None, _UNSAFE)]

    @cached_property
    def _partial(self) -> list[int]:
        """Of those, the ones that are not whole characters of UTF-8."""
        return [t for t in self._clean if _unfinished(self._pieces[t]) != b""]

    @cached_property
    def safe(self) -> npt.NDArray[np.bool_]:
        """Tokens that may begin, or follow whole characters in, a free text, [n_vocab]."""
        allowed = np.zeros(self.vocab.size, np.bool_)
        allowed[self._clean] = True
        for token in self._partial:  # a character may be begun where it can be ended
            rest = _unfinished(self._pieces[token])
            allowed[token] = rest is not None and self.going_on(rest).any()
        return allowed

    def going_on(self, pending: bytes) -> npt.NDArray[np.bool_]:
        """Tokens that go on with a character of which these bytes are written, [n_vocab]."""
        if pending not in self._going_on:
            allowed = np.zeros(self.vocab.size, np.bool_)
            for token in self._partial:
                allowed[token] = _unfinished(pending + self._pieces[token]) is not None
            self._going_on[pending] = allowed
        return self._going_on[pending]

    @cached_property
    def closing(self) -> npt.NDArray[np.bool_]:
        """Tokens that say that a place is filled in, [n_vocab]: a quote, after a few characters at
        most that belong to the text (a sentence's end and the quote are often one token)."""
        return np.array([self.before_quote(p) is not None for p in self._pieces])

    def before_quote(self, piece: bytes) -> str | None:
        """The text of a token before its first quote; None where it closes nothing."""
        text, quote, _ = piece.partition(_QUOTE)
        if not quote or len(text) > MAX_BEFORE or text != text.translate(None, _UNSAFE):
            return None
        return text.decode() if _unfinished(text) == b"" else None

    @property
    def opening(self) -> list[int]:
        """Token ids of the fixed text at the start: the prompt's last ones."""
        return self.literal(0)

    @cached_property
    def max_tokens(self) -> int:
        """The longest that an answer can be, the opening aside, in tokens."""
        total = 0
        for i, part in enumerate(self.parts[1:], 1):
            if isinstance(part, Literal):
                total += len(self.literal(i))
            elif isinstance(part, Text):  # a character's last bytes, or those before its quote
                total += part.max_tokens + MAX_BEFORE
            else:
                total += max(len(o.encode()) for o in part.options) + 1
        return total

    def literal(self, index: int) -> list[int]:
        """Token ids of a fixed text as it goes on after other text."""
        part = self.parts[index]
        assert isinstance(part, Literal)
        return self.ids(part.text, "\n" if index == 0 else "a")

    def ids(self, text: str, before: str = "a") -> list[int]:
        """Token ids of a text as it goes on after another, whose blank is not put before it."""
        if text not in self._literals:
            self._literals[text] = self.vocab.continuation(before, text).tolist() if text else []
        return self._literals[text]

    def next_of(self, choice: Choice, begun: str) -> npt.NDArray[np.int64]:
        """Token ids that go on with an option of which `begun` is written, or that end it."""
        if (choice, begun) not in self._next:
            rests = [o[len(begun) :].encode() for o in choice.options if o.startswith(begun)]
            found = [
                token
                for token, piece in enumerate(self._pieces)
                if piece
                and (
                    any(rest.startswith(piece) for rest in rests)
                    or (b"" in rests and piece.startswith(_QUOTE))
                )
            ]
            self._next[choice, begun] = np.array(found, np.int64)
        return self._next[choice, begun]

    def text(self, token: int) -> str:
        return self._pieces[token].decode("utf-8", "replace")


class Filling:
    """One answer that is filling in a form. The opening stands at the end of its prompt."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.fields: list[Field] = []
        self.done = False
        self._at = 1  # the part that is being written
        self._written: list[int] = []  # its tokens
        self._probabilities: dict[str, float] | None = None

    @property
    def _part(self) -> Part:
        return self.form.parts[self._at]

    @property
    def _begun(self) -> str:
        data = b"".join(self.form.vocab.piece(t) for t in self._written)
        return data.decode("utf-8", "replace")

    def masked(self, logits: FloatRow) -> FloatRow:
        """The logits, [n_vocab], with -inf for all that may not stand here; a copy."""
        part = self._part
        if isinstance(part, Choice):
            ids = self.form.next_of(part, self._begun)
            if not self._written:
                self._probabilities = self._distribution(part, ids, logits)
            out = np.full_like(logits, -np.inf)
            out[ids] = logits[ids]
            return out
        pending = self._pending
        if pending:
            allowed = self.form.going_on(pending)
        else:
            allowed = self.form.safe | self.form.closing if self._written else self.form.safe
        return np.where(allowed, logits, np.float32(-np.inf))

    @property
    def _pending(self) -> bytes:
        """The first bytes of a character whose rest is not written yet."""
        return _unfinished(b"".join(map(self.form.vocab.piece, self._written))) or b""

    def take(self, token: int) -> list[int]:
        """The model's token; returns what is appended: it, the fixed text after it, or both."""
        part = self._part
        closes = bool(self.form.closing[token])
        appended = [token]
        if closes:  # in its place what it says before its quote, often nothing
            appended = self.form.ids(self.form.before_quote(self.form.vocab.piece(token)) or "")
        self._written += appended
        if isinstance(part, Choice):
            begun = self._begun
            closes = closes or [o for o in part.options if o.startswith(begun)] == [begun]
        elif isinstance(part, Text):
            closes = closes or (len(self._written) >= part.max_tokens and not self._pending)
        return appended + self._close() if closes else appended

    def _close(self) -> list[int]:
        """The place is filled in: the fixed text after it, and on to the next."""
        part = self._part
        assert not isinstance(part, Literal)
        self.fields.append(Field(part.name, self._begun, self._probabilities))
        self._written, self._probabilities = [], None
        fixed = self.form.literal(self._at + 1)
        self._at += 2
        self.done = self._at >= len(self.form.parts)
        return fixed

    def _distribution(
        self, choice: Choice, ids: npt.NDArray[np.int64], logits: FloatRow
    ) -> dict[str, float] | None:
        """P(option) = Σ over the tokens that begin it of exp(logit), over the same sum for all.

        None where a token begins several options, so that its mass cannot be told apart here.
        """
        x = logits[ids].astype(np.float64)
        mass = np.exp(x - x.max())
        mass /= mass.sum()
        found = dict.fromkeys(choice.options, 0.0)
        for token, p in zip(ids.tolist(), mass.tolist(), strict=True):
            begins = [o for o in choice.options if o.startswith(self.form.text(token))]
            if len(begins) != 1:
                return None
            found[begins[0]] += p
        return found


def _unfinished(data: bytes) -> bytes | None:
    """What is left of text in UTF-8 after its last whole character; None where it is no text."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return None
    rest: bytes = decoder.getstate()[0]
    # Python waits for a third byte here, which never makes a character: half of a surrogate pair.
    return None if rest[:1] == b"\xed" and rest[1:2] >= b"\xa0" else rest


def filled_text(form: Form, values: Sequence[Field]) -> str:
    """The whole form as text, with these values in its places."""
    texts = iter(values)
    return "".join(
        part.text if isinstance(part, Literal) else next(texts).text for part in form.parts
    )
