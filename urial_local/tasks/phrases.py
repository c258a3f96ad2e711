"""Phrases looked for in a text as whole words, and lists of them in `templates/phrases`.

Case, accents, kinds of apostrophe, the marks of bold text and separators of thousands do not
matter: both sides are folded. A phrase may end in `*` (any ending: `egg*`), and `|` separates
phrases of which one is enough. Scripts without blanks between words have no whole words, so there
a phrase is found anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

from urial_local.base.paths import shipped

_THOUSANDS = re.compile(r"(?<=\d)[,'’\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_ALIKE = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "“": '"', "”": '"', "‐": "-", "‑": "-"})
_VOICED = "\u3099\u309a"  # marks of kana that make another sound of it; no accents
_NO_BLANKS = (  # scripts, or, as Korean, words with endings that a phrase does not know
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x3040, 0x30FF)),
    *((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)


def folded(text: str) -> str:
    """The text as it is compared; blanks and line ends become one blank each."""
    text = _THOUSANDS.sub("", text)
    if not text.isascii():
        # Marks are put in order by exchanging neighbours, which takes a square for thousands.
        text = "".join(
            c
            for before, c in zip(" " + text, text, strict=False)
            if not (unicodedata.combining(c) and unicodedata.combining(before))
        )
        parts = unicodedata.normalize("NFKD", text)
        text = "".join(c for c in parts if not unicodedata.combining(c) or c in _VOICED)
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.casefold().translate(_ALIKE).replace("**", "").split())


def holds(text: str, phrase: str) -> bool:
    """Whether a folded text holds a phrase, or one of its alternatives."""
    return any(_stands(text, part, ending) for part, ending in alternatives(phrase))


@lru_cache(4096)
def alternatives(phrase: str) -> tuple[tuple[str, bool], ...]:
    """The folded phrases, each with whether any ending may follow."""
    parts = [(folded(part.rstrip("* ")), part.rstrip().endswith("*")) for part in phrase.split("|")]
    return tuple((part, ending) for part, ending in parts if part)


def _stands(text: str, phrase: str, ending: bool) -> bool:
    at = text.find(phrase)
    while at >= 0:
        end = at + len(phrase)
        if _is_edge(text, at) and (ending or _is_edge(text, end)):
            return True
        at = text.find(phrase, at + 1)
    return False


def _is_edge(text: str, at: int) -> bool:
    """Whether no word, and no number, goes on over this place."""
    if at in (0, len(text)):
        return True
    before, after = text[at - 1], text[at]
    if before.isdigit() and after in ".," and text[at + 1 : at + 2].isdigit():
        return False
    if after.isdigit() and before in ".," and text[max(0, at - 2) : at - 1].isdigit():
        return False
    return not (_is_of_word(before) and _is_of_word(after))


def _is_of_word(character: str) -> bool:
    if character.isascii():
        return character.isalnum()
    return character.isalnum() and not any(low <= ord(character) <= up for low, up in _NO_BLANKS)


def phrase_text(name: str) -> str:
    """The text of a shipped list."""
    return (shipped("templates") / "phrases" / f"{name}.txt").read_text("utf-8")


@cache
def phrase_lists(name: str) -> dict[str, tuple[str, ...]]:
    """The lists of a shipped file, one phrase a line, under the `[names]` above them; what stands
    before any name is under ""."""
    lists: dict[str, list[str]] = {}
    section = ""
    for line in map(str.strip, phrase_text(name).splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and not line.startswith("#"):
            lists.setdefault(section, []).append(line)
    return {key: tuple(lines) for key, lines in lists.items()}
