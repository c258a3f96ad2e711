"""How much of an answer is copied from the prompt: the fault of small models under long examples.

    share = |{i : (wᵢ … wᵢ₊₇) stands in the prompt}| / (n − 7)      of an answer of n words w

Words are runs of letters and digits, an apostrophe inside included, in lower case; the prompt is
its system text and its examples, each a text of its own. An answer of fewer than eight words has no
8-gram and a share of 0. The question does not count as prompt: to repeat it is not to copy an
example.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from urial_local.prompting.prompts import Turn

GRAM = 8  # words
COPIED = 0.3  # an answer with a larger share is copied
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class Shown:
    """The texts that an answer could be copied from."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._grams = {gram for text in texts for gram in _grams(_words(text))}

    @staticmethod
    def of(system: str, examples: Sequence[Turn]) -> Shown:
        return Shown([system, *(text for e in examples for text in (e.query, e.answer))])

    def share(self, answer: str) -> float:
        """Of the answer's 8-grams of words, those that stand in a text; see the module's text."""
        grams = _grams(_words(answer))
        return sum(gram in self._grams for gram in grams) / len(grams) if grams else 0.0

    def copied(self, answer: str) -> bool:
        return self.share(answer) > COPIED


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(words: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)]
