"""Texts of control tokens inside a user's text: found, hidden behind placeholders, put back.

Each is one pass over the text, however many names there are and however often they stand in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

# Private-use characters: no vocabulary's control token has them in its text.
_PLACEHOLDER = re.compile("\U000f0000[0-9]+\U000f0001")


class Names:
    """Names that may stand anywhere in a text; of several at one place the longest counts."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(filter(None, names))
        lengths: dict[str, set[int]] = {}
        for name in self._names:
            lengths.setdefault(name[0], set()).add(len(name))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        starts = "".join(map(re.escape, sorted(self._lengths)))
        self._start = re.compile(f"[{starts}]" if starts else "(?!)")

    def find(self, text: str) -> Iterator[tuple[int, str]]:
        """Each name with its offset, from left to right; none overlaps the one before it."""
        at = 0
        while match := self._start.search(text, at):
            at = match.start()
            parts = (text[at : at + size] for size in self._lengths[match.group()])
            name = next((part for part in parts if part in self._names), "")
            if name:
                yield at, name
            at += len(name) or 1

    def hide(self, text: str, literals: dict[str, str]) -> str:
        """The text with placeholders for names; what each stands for is put into `literals`."""
        keys = {name: key for key, name in literals.items()}
        pieces, end = [], 0
        for at, name in self.find(text):
            if name not in keys:
                keys[name] = f"\U000f0000{len(literals)}\U000f0001"
                literals[keys[name]] = name
            pieces += [text[end:at], keys[name]]
            end = at + len(name)
        return "".join([*pieces, text[end:]])


def restore(text: str, literals: Mapping[str, str]) -> str:
    """The text with what stood in the place of its placeholders."""
    if not literals:
        return text
    return _PLACEHOLDER.sub(lambda match: literals.get(match.group(), match.group()), text)
