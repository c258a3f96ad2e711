"""Turns a row's token ids into text: bytes are the truth, and text is decoded as they come."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from urial_local.runtime.stops import StopPolicy, StopScanner


class TextStream:
    """One answer. A character that spans tokens appears when its last byte is there."""

    def __init__(self, piece: Callable[[int], bytes], policy: StopPolicy) -> None:
        self._piece = piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.scanner = StopScanner(policy)
        self._shown: list[str] = []

    def feed(self, token: int) -> str:
        """Take a token; return the text that it makes certain. See `scanner.reason` for the end."""
        return self._keep(self.scanner.feed(self._decoder.decode(self._piece(token))))

    def close(self) -> str:
        """The rest of the text; bytes that never became a character show as U+FFFD."""
        shown = self._keep(self.scanner.feed(self._decoder.decode(b"", final=True)))
        return shown + self._keep(self.scanner.close())

    @property
    def text(self) -> str:
        """What may be shown so far."""
        return "".join(self._shown)

    def begun(self) -> tuple[int, int]:
        """Of what was fed so far: how many characters at its start are no part of the answer, and
        how many after them are, or may turn out to be."""
        blanks = len(self.raw) - len(self.raw.lstrip()) if self.scanner.policy.framed else 0
        return blanks, max(len(self.text), len(self.raw) - blanks)

    @property
    def raw(self) -> str:
        return self.scanner.raw

    def _keep(self, text: str) -> str:
        self._shown.append(text)
        return text
