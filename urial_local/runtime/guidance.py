"""What a second model did to an answer: which tokens it wrote, why, and what that cost."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from urial_local.runtime.text_stream import TextStream

HIGH_RATE = 0.2  # of an answer's tokens; more says that the two do not suit each other


@dataclass(frozen=True, slots=True)
class Guidance:
    """Of a choice, or of a whole answer. A token is the guide's where a router took the guide's
    row, or its word; under `defer` and `bet` where all of its probability came from the guide;
    under the others where it is not the one that the base puts first."""

    at: tuple[int, ...] = ()  # places of its tokens, from 0
    base_top: tuple[float, ...] = ()  # the base's top-1 probability there: why it was asked
    decoded: int = 0  # tokens that guides decoded for it
    rate: float = 0.0  # its share of the tokens that were written
    spans: tuple[tuple[int, int], ...] = ()  # where its tokens stand in the text, in characters

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rate": round(self.rate, 6),
            "at": list(self.at),
            "base_top": [round(p, 6) for p in self.base_top],
            "decoded_tokens": self.decoded,
            "spans": [list(span) for span in self.spans],
        }


@dataclass(slots=True)
class GuidanceLog:
    """Guidance of a row as it comes."""

    given: int  # tokens that the answer began with
    guided: bool = False
    decoded: int = 0
    _at: list[int] = field(default_factory=list)
    _base_top: list[float] = field(default_factory=list)

    def begin(self) -> None:
        """The answer begins anew; what was decoded, was."""
        self._at, self._base_top = [], []

    def take(self, found: Guidance | None, start: int) -> None:
        """Guidance of a choice whose first token is the answer's `start`-th."""
        if found is None:
            return
        self.guided = True
        self.decoded += found.decoded
        self._at += [start + place for place in found.at]
        self._base_top += found.base_top

    def whole(
        self,
        tokens: Sequence[int],
        stream: TextStream,
        piece: Callable[[int], bytes],
        begun: int = 0,
        known: int = 0,
    ) -> Guidance | None:
        """Of an answer of these tokens and its text. None without a guide. The first `begun` tokens
        and `known` characters were there before, and are no part of the answer.

        Ends that the guide chose stand past the tokens, and are left out."""
        if not self.guided:
            return None
        pairs = zip(self._at, self._base_top, strict=True)
        kept = [(at, top) for at, top in pairs if at < len(tokens) - begun]
        at = tuple(place for place, _ in kept)
        spans = _spans(tokens, [begun + place for place in at], piece, stream.raw, stream.text)
        return Guidance(
            at,
            tuple(top for _, top in kept),
            self.decoded,
            len(at) / max(1, len(tokens) - begun - self.given),
            tuple((low - known, high - known) for low, high in spans),
        )


def _spans(
    tokens: Sequence[int], at: Sequence[int], piece: Callable[[int], bytes], raw: str, text: str
) -> tuple[tuple[int, int], ...]:
    """Stretches of `text` that tokens at these places wrote; neighbours are one stretch. `text` is
    a part of `raw`, which the tokens spell."""
    offset, wanted = max(0, raw.find(text)), set(at)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    found: list[tuple[int, int]] = []
    end = 0
    for place, token in enumerate(tokens):
        start, end = end, end + len(decoder.decode(piece(token)))
        if place not in wanted:
            continue
        low, high = max(0, start - offset), min(len(text), end - offset)
        if low >= high:
            continue
        if found and found[-1][1] == low:
            low = found.pop()[0]
        found.append((low, high))
    return tuple(found)
