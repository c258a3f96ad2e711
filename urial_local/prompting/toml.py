"""Reading TOML with the standard library, and writing prompts as TOML.

Before the library parses a text of others, its brackets, keys and numbers are looked at: nested
deep they end in a RecursionError, a key takes time with the square of its parts, and a number of
thousands of digits is refused by Python itself.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

MAX_DEPTH = 16  # brackets inside each other; a prompt has three
MAX_PARTS = 16  # of a dotted key; a prompt's have one
MAX_WORD = 100  # characters of a number, or of a key without quotes
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r")
_BEGINS = re.compile("\"\"\"|'''|[\"'#]")
_ENDS = {  # of what begins so; each looks at every character once
    "#": re.compile(r"[^\n]*"),
    "'": re.compile(r"[^'\n]*'"),
    "'''": re.compile(r"[^']*(?:'(?!'')[^']*)*'{3,5}"),
    '"': re.compile(r'[^"\\\n]*(?:\\.[^"\\\n]*)*"'),
    '"""': re.compile(r'[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"{3,5}', re.DOTALL),
}


class TOMLError(ValueError):
    """A text is not TOML, or not of a kind that prompts and frames need."""


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a text. Raises TOMLError."""
    _check(_without_strings(text))
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except (ValueError, OverflowError, RecursionError) as error:
        raise TOMLError(str(error)) from None
    return table


def _without_strings(text: str) -> str:
    """The text up to its first mistake, without comments and with all strings empty."""
    pieces, at = [], 0
    while begins := _BEGINS.search(text, at):
        kind = begins.group()
        pieces.append(text[at : begins.start()])
        ends = _ENDS[kind].match(text, begins.end())
        if ends is None:  # a string without its end: the library gets no further than this, either
            return "".join(pieces)
        pieces.append("" if kind == "#" else '""')
        at = ends.end()
    return "".join([*pieces, text[at:]])


def _check(bare: str) -> None:
    depth = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        if depth > MAX_DEPTH:
            raise TOMLError(f"lists and tables are more than {MAX_DEPTH} deep")
    if max(map(len, re.findall(r'[^\s=,.\[\]{}"]+', bare)), default=0) > MAX_WORD:
        raise TOMLError(f"a number or a name has more than {MAX_WORD} characters")
    if max(part.count(".") for part in re.split(r"[=,\[\]{}\n]", bare)) >= MAX_PARTS:
        raise TOMLError(f"a key has more than {MAX_PARTS} parts")


def toml_string(text: str) -> str:
    """A TOML string that reads back as exactly `text`, over several lines where `text` has them."""
    escaped = text.replace("\\", "\\\\")
    escaped = _CONTROL.sub(lambda m: f"\\u{ord(m.group()):04x}", escaped)
    if "\n" not in text:
        return '"' + escaped.replace('"', '\\"').replace("\t", "\\t") + '"'
    # A newline right after the opening quotes is dropped by TOML, so the text begins below them.
    if '"""' in text or text.endswith('"'):
        escaped = escaped.replace('"', '\\"')
    return '"""\n' + escaped + '"""'
