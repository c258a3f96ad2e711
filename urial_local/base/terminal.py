"""Text for terminals: what others wrote must not drive the screen."""

from __future__ import annotations

import re

# Control characters but newline and tab; what turns the direction of text; byte order marks; halves
# of characters. All else stays: blanks of any width, joiners, what Python's tables do not know yet.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_BREAKS = re.compile("[\n\u2028\u2029]+")


def printable(text: str) -> str:
    """The text without the characters that could drive a terminal or turn its lines around."""
    return UNSAFE.sub("", text)


def one_line(text: str) -> str:
    """The same on one line, for a cell of a table."""
    return _BREAKS.sub(" ", printable(text))
