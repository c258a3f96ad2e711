"""How far an answer is another one.

same   tokens from a place on that are equal in both before the first difference; the end of an
       answer counts as a token where both have it there
f1     2 m / (n₁ + n₂) with n the words of each text and m the words in both, each as often as
       in the text that has it less often (the word F1 of question answering). Words are what
       stands between blanks, without the marks around it, in lower case. 1 for two texts
       without words, 0 where one has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from urial_local.tasks.prose import words

_END = -1


def same_tokens(
    ours: Sequence[int], ended: bool, theirs: Sequence[int], they_ended: bool, start: int
) -> tuple[int, bool]:
    """How many tokens are the same from `start` on, and whether nothing differs there."""
    a = [*ours[start:], *([_END] if ended else [])]
    b = [*theirs[start:], *([_END] if they_ended else [])]
    n = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return n, a == b


def word_f1(ours: str, theirs: str) -> float:
    a, b = (Counter(map(_bare, words(text))) for text in (ours, theirs))
    n = a.total() + b.total()
    if not n:
        return 1.0
    return 2 * (a & b).total() / n


def _bare(word: str) -> str:
    start = next(i for i, c in enumerate(word) if c.isalnum())
    end = next(i for i, c in enumerate(reversed(word)) if c.isalnum())
    return word[start : len(word) - end].casefold()
