"""Answers that fill in a form: fixed text, free text in quotes, and a choice among words.

A form is a grammar without recursion, so nothing is parsed afterwards and nothing can be malformed:
the model writes the free texts and the choices, the rest is put there as it is, without being
drawn. The free texts hold no quote, backslash or line break, so the whole may be JSON. A choice
keeps the model's whole distribution over its options.

Knows nothing of what is judged. The decode loop is the engine's: see `Row`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError
from urial_local.runtime.alphabet import MAX_BEFORE, Alphabet, unfinished

FloatRow = npt.NDArray[np.float32]


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


@dataclass(frozen=True)
class Form:
    """A form in a vocabulary's tokens. Raises UsageError where the vocabulary cannot fill it in."""

    alphabet: Alphabet
    parts: tuple[Part, ...]
    _next: dict[tuple[Choice, str], npt.NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        places = [part for part in self.parts if not isinstance(part, Literal)]
        fixed = self.parts[::2]
        if len(fixed) != len(places) + 1 or not all(isinstance(p, Literal) for p in fixed):
            raise UsageError("A form is fixed text and places in turn, fixed text at both ends.")
        if not all(isinstance(p, Literal) and p.text.startswith('"') for p in fixed[1:]):
            raise UsageError("In a form, a quote ends each place.")
        for choice in places:
            for option in choice.options if isinstance(choice, Choice) else ():
                if not self.alphabet.spells(option.encode()):
                    raise UsageError(f"This model's vocabulary cannot write {option!r}.")
        if not self.alphabet.closing.any() or not self.alphabet.safe.any():
            raise UsageError("This model's vocabulary has no quote, so it cannot fill in a form.")

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
        return self.alphabet.ids(part.text, "\n" if index == 0 else "a")

    def next_of(self, choice: Choice, begun: str) -> npt.NDArray[np.int64]:
        """Token ids that go on with an option of which `begun` is written, or that end it. None of
        them leads where the vocabulary cannot go on."""
        if (choice, begun) not in self._next:
            rests = [o[len(begun) :].encode() for o in choice.options if o.startswith(begun)]
            found = {token for rest in rests for token in self.alphabet.beginning(rest)}
            found |= set(self.alphabet.quotes) if b"" in rests else set()
            self._next[choice, begun] = np.array(sorted(found), np.int64)
        return self._next[choice, begun]


class Filling:
    """One answer that is filling in a form. The opening stands at the end of its prompt."""

    def __init__(self, form: Form) -> None:
        self.form, self._alphabet = form, form.alphabet
        self.fields: list[Field] = []
        self.done = False
        self._at = 1  # the part that is being written
        self._written: list[int] = []  # its tokens
        self._pending = b""  # the first bytes of a character whose rest is not written yet
        self._probabilities: dict[str, float] | None = None

    @property
    def _part(self) -> Part:
        return self.form.parts[self._at]

    @property
    def _begun(self) -> str:
        data = b"".join(self._alphabet.pieces[t] for t in self._written)
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
        if self._pending:
            allowed = self._alphabet.going_on(self._pending)
        else:
            allowed = (
                self._alphabet.safe | self._alphabet.closing
                if self._written
                else self._alphabet.safe
            )
        return np.where(allowed, logits, np.float32(-np.inf))

    def take(self, token: int) -> list[int]:
        """The model's token; returns what is appended: it, the fixed text after it, or both."""
        part = self._part
        closes = bool(self._alphabet.closing[token])
        appended = [token]
        if closes:  # in its place what it says before its quote, often nothing
            appended = self._alphabet.ids(self._alphabet.before_quote(token) or "")
        self._written += appended
        pieces = b"".join(self._alphabet.pieces[t] for t in appended)
        self._pending = unfinished(self._pending + pieces) or b""
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
        self._written, self._pending, self._probabilities = [], b"", None
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
            begins = [
                o for o in choice.options if o.encode().startswith(self._alphabet.pieces[token])
            ]
            if len(begins) != 1:
                return None
            found[begins[0]] += p
        return found


def filled_text(form: Form, values: Sequence[Field]) -> str:
    """The whole form as text, with these values in its places."""
    texts = iter(values)
    return "".join(
        part.text if isinstance(part, Literal) else next(texts).text for part in form.parts
    )
