"""Text for terminals: what others wrote must not drive the screen."""

from __future__ import annotations

from urial_local.base.fences import LINE_BREAKS

_KEPT = frozenset("\n\t\u00a0" + "".join(c for c in LINE_BREAKS if ord(c) > 0xFF))


def printable(text: str) -> str:
    """The text without control and formatting characters, which could drive a terminal."""
    return "".join(c for c in text if c in _KEPT or c.isprintable())
