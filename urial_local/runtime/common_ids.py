"""Two vocabularies that differ only by tokens no text is made of, as those of a base and of a chat
model that was trained from it: <|im_start|> and its kind on one side only, other names for spare
tokens, or more padding.

An id is *common* where both vocabularies have it, with the same text and the same type, or at least
the same bytes in a text. It is *special* in a vocabulary where it is a control, unused, unknown or
user-defined token there, or ends an answer: neither normal nor a byte. The two *agree* where every
id that is not common is special in each vocabulary that has it. Then they can exchange tokens:

* A row of the guide's logits becomes one over the base's ids, q' float64 [n_base], from the guide's
  x [n_guide], with e the base's own end and E the ends of the guide that are not common:

      q'[v] = x[v]            for common v ≠ e
      q'[e] = log Σ exp x[u]  over u ∈ E, and e if common
      q'[v] = -∞              elsewhere

  The guide's tokens that the base lacks get no mass,
  but for its ends, which are an end here, too; softmax deals what they had out among the others in
  proportion. The base's own row is never changed, so its own special tokens keep their mass where a
  rule takes the base's row or a part of it. So every combined row is a distribution over the base's
  vocabulary, what a guide has no say in is the base's to the last digit, and asking when nothing
  is needed changes nothing.
* The base's tokens are told to the guide as they are where they are common, and otherwise by their
  text in the guide's own tokens; control tokens have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import TokenizeError
from urial_local.runtime.guides import FloatRow
from urial_local.runtime.vocabulary import Ids


class Tokens(Protocol):
    """What is needed of a vocabulary here."""

    type: int
    size: int
    add_bos: bool

    def text(self, token: int) -> str: ...
    def piece(self, token: int) -> bytes: ...
    def kind(self, token: int) -> int: ...
    def is_special(self, token: int) -> bool: ...
    def is_end(self, token: int) -> bool: ...
    def tokenize(self, text: str) -> Ids: ...


@dataclass(frozen=True, eq=False)
class Exchange:
    """How rows of a guide and tokens of a base pass between two vocabularies that agree."""

    base: Tokens
    guide: Tokens
    end: int  # the base's own
    common: npt.NDArray[np.bool_]  # [the smaller size], by id
    _moved: list[int] = field(init=False)  # the guide's ends that are not common
    _told: dict[int, tuple[int, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        moved = [t for t in apart(self.common, self.guide.size) if self.guide.is_end(t)]
        object.__setattr__(self, "_moved", moved)

    def is_end(self, token: int) -> bool:
        """Whether an id of the base is an end of the guide."""
        return self._shared(token) and self.guide.is_end(token)

    def row(self, logits: FloatRow) -> FloatRow:
        """The guide's row over the base's ids; see the module's text."""
        found = np.full(self.base.size, -np.inf)
        kept = np.flatnonzero(self.common)
        found[kept] = logits[kept]
        if self._moved:
            found[self.end] = np.logaddexp.reduce([found[self.end], *logits[self._moved]])
        return found

    def told(self, tokens: Iterable[int]) -> list[int]:
        """The base's tokens as the guide is told of them."""
        found: list[int] = []
        for token in tokens:
            if self._shared(token):
                found.append(int(token))
            else:
                found += self._spelled(int(token))
        return found

    def _shared(self, token: int) -> bool:
        return token < len(self.common) and bool(self.common[token])

    def _spelled(self, token: int) -> tuple[int, ...]:
        if token not in self._told:
            text = self.base.piece(token).decode("utf-8", "replace")
            try:
                ids = self.guide.tokenize(text).tolist() if text else []
            except TokenizeError:
                ids = []
            self._told[token] = tuple(ids[1:] if ids and self.guide.add_bos else ids)
        return self._told[token]


def exchange(base: Tokens, guide: Tokens, end: int) -> Exchange | str | None:
    """How the two pass tokens. None where they are the same, and the first difference that matters
    where they do not agree. `end`: the base's own."""
    if base is guide:
        return None
    if base.type != guide.type:
        return "they are of different types."
    smaller = min(base.size, guide.size)
    common = np.array([_is_common(base, guide, i) for i in range(smaller)], bool)
    for vocabulary, name in ((base, "the base"), (guide, "the guide")):
        for token in apart(common, vocabulary.size):
            if not vocabulary.is_special(token):
                return _difference(base, guide, token, name)
    if common.all() and base.size == guide.size:
        return None
    return Exchange(base, guide, end, common)


def apart(common: npt.NDArray[np.bool_], size: int) -> Sequence[int]:
    """Ids of a vocabulary of this size that are not common."""
    return [*map(int, np.flatnonzero(~common)), *range(len(common), size)]


def _is_common(base: Tokens, guide: Tokens, token: int) -> bool:
    if base.text(token) != guide.text(token):
        return False
    return base.kind(token) == guide.kind(token) or base.piece(token) == guide.piece(token)


def _difference(base: Tokens, guide: Tokens, token: int, name: str) -> str:
    if token < min(base.size, guide.size):
        return (
            f"token {token} is {base.text(token)!r} in the base model and {guide.text(token)!r} in"
            " the guide."
        )
    longer = base if token < base.size else guide
    return f"only {name} has token {token}, {longer.text(token)!r}."
