"""Rows of JSON: a file that is one list is cut at its own commas, and each row parsed alone.

So a row that is malformed, too deep or too large costs itself only, and no more than one row is in
memory, whatever the size of the file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from urial_local.records.plain import MAX_DEPTH

Parsed = tuple[int, Mapping[str, Any], str]  # the row's number from 1, its fields, or what is wrong
MAX_ROW = 64 << 20  # bytes
PIECE = 1 << 16  # bytes
BLANKS = b" \t\r\n"
_TEXT = rb'[^"\\]*(?:\\.[^"\\]*)*'  # of a string, up to its quote or as far as it goes
_STRING = re.compile(_TEXT, re.DOTALL)
_OUTSIDE = re.compile(
    rb'"%b"|["\[\]{},]' % _TEXT, re.DOTALL
)  # a whole string, or what may end a row
_INSIDE = re.compile(rb'"%b"|["\[\]{}]' % _TEXT, re.DOTALL)


def read_object(text: str) -> Any:
    """The value of a JSON text. Raises ValueError where it is none, has an object's field twice at
    its top, or is nested so deep that the parser gives up."""
    pairs: list[tuple[str, Any]] = []

    def made(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # the outermost object is the last one
        return dict(found)

    try:
        value = json.loads(text, object_pairs_hook=made)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if isinstance(value, dict) and len(value) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the field {twice!r} appears twice")
    return value


def json_rows(file: BinaryIO) -> Iterator[Parsed]:
    """The rows of a list, or the one of an object; texts in a list are questions.

    Raises ValueError where the file as a whole is not JSON.
    """
    start = b""
    while not start and (piece := file.read(PIECE)):
        start = piece.lstrip(BLANKS)
    if start[:1] == b"{":
        yield 1, _whole(start + file.read(MAX_ROW)), ""
        return
    if not start:
        return
    if start[:1] != b"[":
        raise ValueError("it begins neither with a list nor with an object")
    for number, (data, problem) in enumerate(_cut(file, start[1:]), 1):
        yield _row(number, data, problem)


def _whole(data: bytes) -> Mapping[str, Any]:
    if len(data) > MAX_ROW:
        raise ValueError(f"its one object has more than {MAX_ROW >> 20} MB")
    value: Mapping[str, Any] = read_object(data.decode("utf-8"))
    return value


def _row(number: int, data: bytes, problem: str) -> Parsed:
    value: Any = {}
    if not problem:
        try:
            value = read_object(data.decode("utf-8"))
        except UnicodeDecodeError:
            problem = "is not valid UTF-8"
        except ValueError as error:
            problem = f"is not JSON: {error}"
    if isinstance(value, str):
        value = {"query": value}
    if not problem and not isinstance(value, dict):
        problem = "is not an object"
    return number, {} if problem else value, f"row {number} {problem}" if problem else ""


@dataclass
class _Item:
    """The text of a row as far as it was read."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    problem: str = ""

    def add(self, part: bytes) -> None:
        self.size += len(part)
        if self.size > MAX_ROW:
            self.drop(f"has more than {MAX_ROW >> 20} MB")
        elif not self.problem:
            self.parts.append(part)

    def drop(self, problem: str) -> None:
        self.parts, self.problem = [], self.problem or problem


def _cut(file: BinaryIO, piece: bytes) -> Iterator[tuple[bytes, str]]:
    """The text of each row, or what is wrong with it. The list's bracket was read."""
    item, depth, quoted, escaped, commas = _Item(), 0, False, False, 0
    piece = piece or file.read(PIECE)
    while piece:
        at = begin = 0
        while at < len(piece):
            if escaped:
                at, escaped = at + 1, False
            elif quoted:
                at = _STRING.match(piece, at).end()  # type: ignore[union-attr]  # it matches ""
                escaped = at < len(piece) and piece[at] != 0x22
                quoted = escaped or at == len(piece)
                at += 1
            elif (found := (_INSIDE if depth else _OUTSIDE).search(piece, at)) is None:
                break
            else:
                at, mark = found.end(), found.group()
                quoted = mark == b'"'
                if len(mark) > 1:  # a string
                    continue
                if mark in b"[{":
                    depth += 1
                    if depth > MAX_DEPTH:
                        item.drop("is nested too deeply")
                elif mark in b"]}" and depth:
                    depth -= 1
                elif mark in b",]}":  # the end of a row, of the list, or of nothing
                    item.add(piece[begin : found.start()])
                    begin = at
                    text = b"".join(item.parts)
                    if mark == b"}":
                        raise ValueError(f"row {commas + 1} closes an object that was not opened")
                    if mark == b"," or commas or item.problem or text.strip(BLANKS):
                        yield text, item.problem
                    if mark == b"]":
                        _refuse_more(file, piece[at:])
                        return
                    item, commas = _Item(), commas + 1
        item.add(piece[begin:])
        piece = file.read(PIECE)
    raise ValueError(f"it ends within row {commas + 1}")


def _refuse_more(file: BinaryIO, piece: bytes) -> None:
    while piece:
        if piece.strip(BLANKS):
            raise ValueError("there is more after the end of its list")
        piece = file.read(PIECE)
