"""Columns of a terminal, counted in its cells: a Japanese character takes two, an accent none."""

from __future__ import annotations

import re

_WORD = re.compile(" +|[^ ]+")


def width_of(text: str) -> int:
    """Cells that a text without line breaks takes."""
    from rich.cells import cell_len

    return cell_len(text)


def padded(text: str, width: int) -> str:
    """The text with blanks up to `width` cells; longer ones as they are."""
    return text + " " * max(0, width - width_of(text))


def cut(text: str, width: int) -> str:
    """As much of the beginning as fits into `width` cells, and at least one character."""
    if _fits(text, width):
        return text
    # Cells never grow fewer with more characters, so the border is found by halving.
    low, high = 1, min(len(text), _looked_at(width))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_of(text[:middle]) <= width else (low, middle - 1)
    return text[:low]


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` cells, broken at blanks where there are some. Blanks at a break go,
    all others stay."""
    return [line for part in text.split("\n") for line in _wrapped(part.expandtabs(), width)]


def _wrapped(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in _WORD.findall(text):
        room = width - width_of(line)
        if _fits(word, room):
            line += word
        elif word[0] == " ":
            lines.append(line)
            line = ""
        elif _fits(word, width):
            lines.append(line)
            line = word
        else:
            while not _fits(word, room):
                head = cut(word, room) if room > 1 or not line else ""
                lines.append(line + head)
                word, line, room = word[len(head) :], "", width
                if not word:
                    break
            line += word
    kept = [done.rstrip(" ") for done in [*lines, line]]
    return [done for i, done in enumerate(kept) if done or i == 0] or [""]


def _fits(text: str, width: int) -> bool:
    return len(text) <= _looked_at(width) and width_of(text) <= width


def _looked_at(width: int) -> int:
    """Characters that are measured: more stand in so many cells only where nothing is to see."""
    return 4 * max(width, 0) + 16
