"""Answers that are given rather than made: read from any file of rows or from a run folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.records.datasets import Fields, Item, answer_of, as_item, items_of
from urial_local.records.runs import RunRows, any_row, read_run
from urial_local.records.sources import RawRow, open_source


@dataclass(frozen=True, slots=True)
class _Given:
    id: str | None
    query: str | None
    text: str


def given_answers(
    name: str, items: Iterable[Item], fields: Fields | None = None, kind: str | None = None
) -> Mapping[str, str]:
    """Answers from a file, by the id of the question they belong to.

    A row of the file belongs to the question with its id, unless it states another question; a
    question without such a row gets the answer to the same text, if the file has exactly one.
    Questions may stay without an answer. Raises UsageError where none at all has one, or where a
    run folder holds answers of several models.
    """
    found = _read(name, fields or Fields(), kind)
    if not found:
        raise UsageError(
            f"{name} holds no answers.", "Answers are read from the fields answer and output."
        )
    by_id = {g.id: g for g in found if g.id is not None}
    by_query: dict[str, set[str]] = {}
    for g in found:
        if g.query is not None:
            by_query.setdefault(g.query, set()).add(g.text)
    answers: dict[str, str] = {}
    for item in items:
        if item.error:
            continue
        own = by_id.get(item.id)
        same = by_query.get(item.query, set())
        if own is not None and own.query in (None, item.query):
            answers[item.id] = own.text
        elif len(same) == 1:
            answers[item.id] = next(iter(same))
    if not answers:
        raise UsageError(f"No question has an answer in {name}.")
    return answers


def _read(name: str, fields: Fields, kind: str | None) -> list[_Given]:
    folder = user_path(name)
    if folder.is_dir():
        return _from_run(folder)
    found, named = [], False
    with open_source(name, kind) as source:
        for item, row in items_of(source, fields):
            named = named or not item.unnamed
            text = None if row.error else answer_of(row.fields, fields)
            if text is not None:
                found.append((item.unnamed, _Given(item.id, item.query or None, text)))
    # Where rows stand says whose answers they hold only if none of them says so itself.
    return [replace(g, id=None) if unnamed and named else g for unnamed, g in found]


def _from_run(folder: Path) -> list[_Given]:
    read_run(folder)
    every = RunRows(folder, ("aligned", "id", "repeat"), any_row)
    rows = [row for row in every if not row.get("repeat")]
    models = sorted({str(row.get("aligned", "")) for row in rows})
    if len(models) > 1:
        raise UsageError(
            f"{folder} holds answers of several models: {', '.join(models)}.",
            "Give a file with the answers of one.",
        )
    found = []
    for number, row in enumerate(rows):
        text = answer_of(row, Fields())
        if text is not None:
            item = as_item(number, RawRow(number, row))
            found.append(_Given(str(row["id"]), item.query or None, text))
    return found
