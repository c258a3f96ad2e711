"""Texts in other encodings than UTF-8, told by their first bytes.

A byte order mark says UTF-16 or UTF-32 beyond doubt: such a text is read. Without one, NUL bytes
between the letters say so as well, but not in which order: such a text is refused, with the command
that converts it.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable
from typing import BinaryIO, cast

from urial_local.base.errors import UsageError

MARKS = (  # the longer ones first: UTF-32's begins as UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)
LOOKED_AT = 1024  # bytes
PIECE = 1 << 16  # bytes that are converted at a time
_BROKEN = "\uffff"  # stands for what cannot be decoded; a noncharacter, which no text holds
codecs.register_error("urial-broken", lambda e: (_BROKEN, getattr(e, "end", 0)))


def as_utf8(file: BinaryIO, name: str) -> io.BufferedReader:
    """The rest of a file as UTF-8 without a byte order mark, read no further than is asked for.

    What is broken in UTF-16 or UTF-32 becomes a byte that is not valid in UTF-8. Raises UsageError
    for UTF-16 and UTF-32 without a mark; `name` is what the user called the file.
    """
    source = file if isinstance(file, io.BufferedReader) else io.BufferedReader(_Raw(file.read))
    start = source.peek(LOOKED_AT)[:LOOKED_AT]
    mark, codec = next((m for m in MARKS if start.startswith(m[0])), (b"", "utf-8"))
    if not mark:
        _refuse_unmarked(start, name)
    source.read(len(mark))
    if codec == "utf-8":
        return source
    decoder = codecs.getincrementaldecoder(codec)("urial-broken")

    def recoded(data: bytes) -> bytes:
        text = decoder.decode(data, final=not data)
        return text.encode("utf-8", "replace").replace(_BROKEN.encode(), b"\xff")

    return converted(source, recoded)


def converted(file: io.BufferedReader, convert: Callable[[bytes], bytes]) -> io.BufferedReader:
    """A file whose bytes pass through `convert`, which gets b"" at the end."""
    ended = False

    def read(size: int) -> bytes:
        nonlocal ended
        while not ended:
            data = file.read1(PIECE)
            ended = not data
            if found := convert(data):
                return found
        return b""

    return io.BufferedReader(_Raw(read), PIECE)


def decoded(data: bytes, name: str) -> str:
    """A whole text. Raises UsageError where it is not in UTF-8, nor in UTF-16 or UTF-32 with a
    byte order mark."""
    try:
        return as_utf8(cast(BinaryIO, io.BytesIO(data)), name).read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not valid UTF-8 (byte {error.start:,}).",
            "Convert it first, for instance with iconv -f latin1 -t utf-8.",
        ) from None


class _Raw(io.RawIOBase):
    """What a function gives, as a file. It may give more than was asked for."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read, self._rest = read, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._rest or self._read(len(buffer))
        size = min(len(data), len(buffer))
        buffer[:size], self._rest = data[:size], data[size:]
        return size


def _refuse_unmarked(start: bytes, name: str) -> None:
    """NULs in every second byte, or in three of four, are letters of UTF-16 or UTF-32."""
    nuls = start.count(0)
    if 5 * nuls < len(start) or len(start) < 4:
        return
    if 5 * nuls > 3 * len(start):
        codec, little = "UTF-32", start[3::4].count(0) >= start[0::4].count(0)
    else:
        codec, little = "UTF-16", start[1::2].count(0) >= start[0::2].count(0)
    order = "le" if little else "be"
    raise UsageError(
        f"{name} looks like {codec} without a byte order mark: there are NULs between its letters.",
        f"Convert it first, for instance with iconv -f {codec.lower()}{order} -t utf-8.",
    )
