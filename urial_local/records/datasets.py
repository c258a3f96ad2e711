"""Reads questions, and answers where a file has them, from JSON, JSONL, CSV, TSV and plain text.

Known sets are recognised by their fields: just-eval-instruct, AlpacaEval, MT-bench, conversations
as in LIMA, the reference's output files and our own runs.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urial_local.base.errors import UsageError, near

QUERY_FIELDS = (
    "query",
    "instruction",
    "question",
    "prompt",
    "pure_input",
    "turns",
    "conversations",
    "input",
)
ANSWER_FIELDS = ("answer", "output", "response", "completion", "output_cand", "choices")
ID_FIELDS = ("id", "question_id")
TAG_FIELDS = ("category", "task", "topic", "difficulty", "dataset")
FORMATS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv"}
MAX_ROW = 16 << 20  # characters


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a dataset. `error` says why a row cannot be used; then its query is empty."""

    id: str
    number: int  # of the row, from 0
    query: str
    answer: str | None = None
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""


def read_items(path: Path, query_field: str | None = None) -> list[Item]:
    """All rows of a file, or of a run folder.

    Raises UsageError for a file that is missing, empty, of an unknown format, without a field that
    holds queries, or with the same id twice.
    """
    if path.is_dir():
        path = path / "rows.jsonl"
    if not path.is_file():
        known = {*FORMATS, ".txt"}
        siblings = [p.name for p in path.parent.glob("*") if p.suffix in known]
        raise UsageError(f"There is no file {path}.", near(path.name, siblings) if siblings else "")
    items = [_item(n, row, query_field) for n, row in enumerate(_rows(path))]
    if not items:
        raise UsageError(f"{path} is empty.")
    if all(item.error for item in items):
        raise UsageError(f"No row of {path} can be used. The first: {items[0].error}")
    seen: dict[str, int] = {}
    for item in items:
        if item.id in seen:
            raise UsageError(
                f"{path} has the id {item.id!r} twice: in rows {seen[item.id] + 1} and"
                f" {item.number + 1}.",
                "Ids tell rows apart when a run is resumed; make them different.",
            )
        seen[item.id] = item.number
    return items


def _rows(path: Path) -> Iterator[Any]:
    """Parsed rows: objects, or an exception's text for a row that does not parse."""
    kind = FORMATS.get(path.suffix.lower(), "text")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if kind == "json":
        try:
            parsed = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{path} is not JSON: {error}", "A file with one object a line is .jsonl."
            ) from None
        yield from parsed if isinstance(parsed, list) else [parsed]
        return
    lines = data.split(b"\n")
    if kind in ("csv", "tsv"):
        text = io.StringIO(_decoded(data, path), newline="")
        reader = csv.DictReader(text, delimiter="," if kind == "csv" else "\t")
        try:
            yield from reader
        except csv.Error as error:
            raise UsageError(f"{path}, line {reader.line_num}: {error}") from None
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text_line = line.decode("utf-8").removesuffix("\r")
            yield {"query": text_line} if kind == "text" else json.loads(text_line)
        except UnicodeDecodeError:
            yield f"line {number} is not valid UTF-8"
        except (ValueError, RecursionError) as error:
            yield f"line {number} is not JSON: {error}"


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not valid UTF-8 (byte {error.start:,}).") from None


def _item(number: int, row: Any, query_field: str | None) -> Item:
    if isinstance(row, str):
        return Item(str(number), number, "", error=f"Row {number + 1}: {row}.")
    if not isinstance(row, Mapping):
        return Item(str(number), number, "", error=f"Row {number + 1} is not an object.")
    name = next((f for f in ID_FIELDS if isinstance(row.get(f), str | int)), None)
    identity = str(row[name]) if name else str(number)
    fields = (query_field,) if query_field else QUERY_FIELDS
    query = next((q for f in fields if (q := _first_text(row.get(f), user=True))), "")
    problem = ""
    if not query.strip():
        has = ", ".join(map(str, row))
        problem = f"Row {number + 1} has no text in {' or '.join(fields)}; its fields: {has}."
    elif len(query) > MAX_ROW:
        problem = f"Row {number + 1} has {len(query):,} characters."
    if problem:
        return Item(identity, number, "", error=problem)
    extra = row.get("input")
    if not query_field and _is_alpaca_input(row, extra):
        query = f"{query}\n\n{extra}"
    answer = next((a for f in ANSWER_FIELDS if (a := _first_text(row.get(f))) is not None), None)
    return Item(identity, number, query, answer, _tags(row))


def _is_alpaca_input(row: Mapping[str, Any], extra: Any) -> bool:
    """Whether `input` is Alpaca's second part of an instruction, rather than a copy of it."""
    instruction = row.get("instruction")
    return (
        isinstance(instruction, str)
        and isinstance(extra, str)
        and bool(extra.strip())
        and "generator" not in row
        and extra.strip() != instruction.strip()
    )


def _first_text(value: Any, user: bool = False) -> str | None:
    """The text of a field: itself, its first entry, or the first message of a conversation."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value:
        return _first_text(value[0], user)
    if isinstance(value, Mapping):
        for key in ("content", "value", "turns", "text"):
            if key in value:
                return _first_text(value[key], user)
    return None


def _tags(row: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    inner = row.get("tags")
    found: dict[str, tuple[str, ...]] = {}
    for source in (row, inner if isinstance(inner, Mapping) else {}):
        for name in TAG_FIELDS:
            value = source.get(name)
            values = value if isinstance(value, list) else [value]
            texts = tuple(v for v in values if isinstance(v, str) and v)
            if texts:
                found[name] = texts
    return found
