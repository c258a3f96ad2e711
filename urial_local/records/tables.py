"""Rows of CSV and TSV, and CSV that a spreadsheet opens without running what is in it."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, BinaryIO, TextIO

Parsed = tuple[int, Mapping[str, Any], str]  # the line, its fields, or what is wrong with it
MAX_ROW = 64 << 20  # characters
# What a spreadsheet takes for a formula, and what was already guarded against that.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?")


def table_rows(file: BinaryIO, delimiter: str) -> Generator[Parsed, None, None]:
    """The rows of a table whose first line names its columns.

    Raises ValueError, with the line, where the file as a whole is malformed.
    """
    # Bytes that are not UTF-8 become lone surrogates here, and an error where the row is read.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
    lines = _Lines(text)
    csv.field_size_limit(MAX_ROW)
    # Strict: a quote that is never closed is an error, rather than a field of many rows.
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        named = [name for name in names if name]
        if len(set(named)) < len(named):
            (twice, _), *_ = Counter(named).most_common(1)
            raise ValueError(f"the column {twice!r} appears twice")
        for cells in reader:
            lines.size = 0
            if cells:
                yield _row(reader.line_num, names, cells)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"line {max(1, reader.line_num)}: {error}") from None
    finally:
        text.detach()  # the file is closed by who opened it


def _row(number: int, names: list[str], cells: list[str]) -> Parsed:
    if len(cells) > len(names):
        return number, {}, f"line {number} has more fields than the first line"
    try:
        "".join(cells).encode("utf-8")
    except UnicodeEncodeError:
        return number, {}, f"line {number} is not valid UTF-8"
    return number, dict(zip(names, cells, strict=False)), ""  # a short row lacks its last fields


class _Lines:
    """The lines of a table, bounded. `size` counts characters since somebody set it to 0."""

    def __init__(self, file: TextIO) -> None:
        self._file, self.size = file, 0

    def __iter__(self) -> Iterator[str]:
        while line := self._file.readline(MAX_ROW + 1):
            self.size += len(line)
            if self.size > MAX_ROW:
                raise ValueError(f"a row has more than {MAX_ROW >> 20} million characters")
            yield line


class SpreadsheetWriter:
    """Writes CSV in which no text is a formula: one that would be gets a ' before it, and one that
    begins with a ' before such a character gets another, so that the text can be had back."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file)

    def writerow(self, cells: Iterable[Any]) -> None:
        self._writer.writerow([_guarded(cell) for cell in cells])


def _guarded(cell: Any) -> Any:
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"
