"""Keeps a user's text inside the frame: markers escaped, fences outgrown.

A frame tells turns apart by marker lines ("# Query:") and fences. Text that holds such lines would
begin a turn of its own, so it is escaped, refused, or let through, as the user chooses.
"""

from __future__ import annotations

import re
from typing import Literal

from urial_local.base.errors import UnsafeText
from urial_local.base.fences import LINE_BREAKS

MarkerPolicy = Literal["escape", "raw", "refuse"]


def marker_lines(text: str, markers: tuple[str, ...]) -> int:
    """How many lines of `text` begin with one of `markers` (blanks before it do not matter)."""
    return len(_at_line_start(markers).findall(text)) if markers else 0


def contain(text: str, markers: tuple[str, ...], policy: MarkerPolicy) -> str:
    """The text as it may stand in the frame.

    `escape` puts a backslash before a marker at the start of a line (Markdown's own escape for
    `#`), `raw` changes nothing, as the reference does, and `refuse` raises UnsafeText.
    """
    if policy == "raw" or not marker_lines(text, markers):
        return text
    if policy == "refuse":
        raise UnsafeText(
            "The text has a line that begins with one of the frame's own markers"
            f" ({', '.join(markers)}).",
            "Use `markers=escape` to write it with a backslash, or `markers=raw` to keep it.",
        )
    return _at_line_start(markers).sub(r"\g<1>\\\g<2>", text)


def _at_line_start(markers: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(re.escape(m) for m in markers)
    return re.compile(rf"((?:^|[{LINE_BREAKS}])[^\S{LINE_BREAKS}]*)({names})")
