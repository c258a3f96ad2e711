"""What a row means: its id, its question or questions, its answer, its tags.

Known sets are recognised by their fields: just-eval-instruct, AlpacaEval, MT-bench (two turns),
conversations as in LIMA, the reference's output files, and our own runs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from urial_local.base.errors import UsageError
from urial_local.records.field_texts import (
    BY_COLUMNS,
    first_text,
    is_alpaca_input,
    reply_of,
    says_more,
    tags_of,
    turns_of,
)
from urial_local.records.ids import id_text, shown
from urial_local.records.plain import Packed
from urial_local.records.sources import RawRow, Source, open_source, read_rows

QUERY_FIELDS = (
    *("query", "instruction", "question", "prompt", "pure_input"),
    *("turns", "conversations", "messages", "input"),
)
ANSWER_FIELDS = ("answer", "output", "response", "completion", "text", "output_cand", "choices")
ID_FIELDS = ("id", "question_id")
MAX_QUERY = 16 << 20  # characters
_NUMBER = re.compile(r"(line-)?[0-9]{1,18}")  # what rows without an id are called
_ROW = re.compile(r"row(-+)")


@dataclass(frozen=True, slots=True)
class Fields:
    """Names of fields that the user chose; None is ours to find."""

    query: str | None = None
    answer: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a dataset. `error` says why a row cannot be used; then its query is empty."""

    id: str
    number: int  # of the row, from 0
    query: str
    answer: str | None = None
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    error: str = ""
    later: tuple[str, ...] = ()  # questions of later turns
    cut: bool = False  # a conversation of which only the first question is asked
    fields: Mapping[str, Any] = field(default_factory=dict)  # the row as it was
    unnamed: bool = False  # the row has no id; `id` is where it stands
    max_tokens: int = 0  # longest answer that makes sense; 0 where the row has no say. No column


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are wanted; all that is given must hold."""

    limit: int | None = None
    ids: frozenset[str] | None = None
    where: tuple[tuple[str, str], ...] = ()  # field and value
    shard: tuple[int, int] | None = None  # (i, n), i from 1

    def takes(self, item: Item) -> bool:
        """Whether a row is wanted, its place and its shard aside."""
        if self.ids is not None and item.id not in self.ids:
            return False
        return all(_holds(item, name, value) for name, value in self.where)


class Count(NamedTuple):
    """Rows to do; how many of them are bad, and how many are conversations asked in part."""

    rows: int
    bad: int
    cut: int


def iterate(
    source: Source, fields: Fields = Fields(), selection: Selection = Selection()
) -> Iterator[Item]:
    """The wanted rows of a source, one at a time; `limit` counts before shards are taken."""
    taken = 0
    for item, _ in items_of(source, fields):
        if selection.limit is not None and taken >= selection.limit:
            return
        if selection.takes(item):
            taken += 1
            if in_shard(item, selection.shard):
                yield item


def items_of(source: Source, fields: Fields = Fields()) -> Iterator[tuple[Item, RawRow]]:
    """Every row of a source with its meaning, one at a time."""
    for number, row in enumerate(read_rows(source)):
        item = as_item(number, row, fields)
        if item.unnamed:
            if fields.id not in source.unnamed:
                source.unnamed[fields.id] = _before_numbers(source, fields)
            if before := source.unnamed[fields.id]:
                item = replace(item, id=f"{before}{number + 1}")
        yield item, row


def _before_numbers(source: Source, fields: Fields) -> str:
    """What stands before the number of a row without an id: nothing, as long as no row of the file
    has such a number for its id, so that what a run has already keeps its name. Else `row-`, with
    as many dashes as no id of the file begins with."""
    if numbered(source, fields):
        return ""
    given: set[str] = set()  # ids that look like the numbers of rows
    dashes = 0
    for number, row in enumerate(read_rows(source)):
        item = as_item(number, row, fields)
        if not item.unnamed:
            if _NUMBER.fullmatch(item.id):
                given.add(item.id)
            elif match := _ROW.match(item.id):
                dashes = max(dashes, len(match.group(1)))
    if given:
        for number, row in enumerate(read_rows(source)):
            item = as_item(number, row, fields)
            if item.unnamed and item.id in given:
                return "row" + "-" * (dashes + 1)
    return ""


class Survey:
    """One pass over a source: its wanted rows, and what is to be said of all of them, which is
    known once the last one was taken."""

    def __init__(self, source: Source, fields: Fields, selection: Selection) -> None:
        self.source, self.fields, self.selection = source, fields, selection
        self.done = False  # the pass came to its end
        self.rows = self.bad = self.cut = 0  # of this shard so far, as in Count

    def items(self) -> Iterator[Item]:
        """The wanted rows, one at a time, as `iterate` has them.

        Raises UsageError, at the end, for a file that is empty, in which no row can be used, or
        without a row that --ids names; and for the same id twice, to find which some 120 bytes a
        row are held, where ids are not the numbers of rows."""
        source, selection = self.source, self.selection
        seen: dict[bytes, int] | None = None if numbered(source, self.fields) else {}
        wanted = total = usable = 0
        first_error = ""
        found: set[str] = set()
        for number, (item, _) in enumerate(items_of(source, self.fields)):
            total += 1
            usable += not item.error
            first_error = first_error or item.error
            if seen is not None:
                self._refuse_double(seen, item, number)
            if selection.ids and item.id in selection.ids:
                found.add(item.id)
            if selection.takes(item) and (selection.limit is None or wanted < selection.limit):
                wanted += 1
                if in_shard(item, selection.shard):
                    self.rows += 1
                    self.bad += bool(item.error)
                    self.cut += item.cut
                    yield item
            elif seen is None and usable and wanted == selection.limit and not selection.ids:
                break  # no id further on could be wrong
        absent = sorted((selection.ids or frozenset()) - found)
        if absent and total:
            raise UsageError(f"{source.name} has no row {', '.join(map(repr, absent[:10]))}.")
        if not total:
            raise UsageError(f"{source.name} is empty.")
        if not usable:
            raise UsageError(f"No row of {source.name} can be used. The first: {first_error}")
        if not wanted:
            raise UsageError(f"No row of {source.name} matches `ids` or `where`.")
        self.done = True

    def _refuse_double(self, seen: dict[bytes, int], item: Item, number: int) -> None:
        key = hashlib.blake2b(item.id.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        before = seen.setdefault(key, number)
        if before != number:
            raise UsageError(
                f"{self.source.name} has the id {item.id!r} twice: in rows {before + 1} and"
                f" {number + 1}.",
                "Ids tell rows apart when a run is resumed: make them different, or use"
                " `id_field=none` to count rows instead.",
            )


def numbered(source: Source, fields: Fields) -> bool:
    """Whether the ids of a source's rows are their numbers, so that no two can be the same."""
    return source.kind == "text" or fields.id == "none"


def count(source: Source, fields: Fields = Fields(), selection: Selection = Selection()) -> Count:
    """How many rows there are to do, and what is to be said of them, from one pass over the file.
    Raises UsageError as Survey does."""
    survey = Survey(source, fields, selection)
    for _ in survey.items():
        pass
    return Count(survey.rows, survey.bad, survey.cut)


def read_items(
    path: Path | str,
    fields: Fields = Fields(),
    selection: Selection = Selection(),
    kind: str | None = None,
) -> list[Item]:
    """All wanted rows at once, for files that fit memory. Raises UsageError like `count`."""
    with open_source(str(path), kind) as source:
        count(source, fields, selection)
        return list(iterate(source, fields, selection))


def as_item(number: int, row: RawRow, chosen: Fields = Fields()) -> Item:
    """A row with its meaning, or with the reason why it has none."""
    if row.error:
        error = f"{row.error[:1].upper()}{row.error[1:]}."
        return Item(f"line-{row.line}", number, "", error=error, unnamed=True)
    fields = row.fields
    plainly = _plain_question(number, fields, chosen) if len(fields) == 1 else None
    if plainly is not None:
        return plainly
    found, problem = identity_of(fields, chosen)
    identity, unnamed = (str(number), True) if found is None else (found, False)
    names = (chosen.query,) if chosen.query else QUERY_FIELDS
    if not chosen.query and "output_cand" in fields:
        names = ("input",)  # judged files: their prompt is the judge's
    turns: tuple[str, ...] = ()
    try:
        asked = (turns_of(name, fields[name]) for name in names if name in fields)
        turns = next(filter(None, asked), ())
        if turns and not chosen.query and is_alpaca_input(fields):
            turns = (f"{turns[0]}\n\n{fields['input']}", *turns[1:])
        problem = problem or _problem(turns, names, fields)
    except ValueError as error:
        problem = problem or str(error)
    if problem:
        said = f"Row {number + 1} {problem}."
        return Item(identity, number, "", error=said, fields=fields, unnamed=unnamed)
    return Item(
        identity,
        number,
        turns[0],
        answer_of(fields, chosen),
        tags_of(fields),
        later=turns[1:],
        cut=len(turns) == 1
        and any(says_more(value) for name in names if isinstance(value := fields.get(name), list)),
        fields=fields,
        unnamed=unnamed,
    )


def _plain_question(number: int, fields: Mapping[str, Any], chosen: Fields) -> Item | None:
    """A row that is a question and nothing else, as those of a text are, the short way: a run of a
    million rows goes through all that are done. None where it takes more to say what it means."""
    text = fields.get("query")
    if type(text) is not str or chosen.query or chosen.answer or chosen.id not in (None, "none"):
        return None
    if _problem((text,), QUERY_FIELDS, fields):
        return None
    return Item(str(number), number, text, fields=fields, unnamed=True)


def unsound(text: str) -> str:
    """Why a text cannot be given to a model, to follow its name; empty where it can."""
    if isinstance(text, Packed):
        return "holds bytes that are not text"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "holds a lone surrogate, which is not valid Unicode"
    return ""


def _problem(turns: Sequence[str], names: Sequence[str], fields: Mapping[str, Any]) -> str:
    """What keeps the questions of a row from being asked, or an empty text."""
    if not turns or not turns[0].strip():
        has = ", ".join(map(str, list(fields)[:12])) or "none"
        table = any(isinstance(fields.get(name), Mapping) for name in names)
        more = f"; {BY_COLUMNS}" if table else ""
        return f"has no text in {' or '.join(names)}; its fields: {has}{more}"
    if max(map(len, turns)) > MAX_QUERY:
        return f"has more than {MAX_QUERY >> 20} million characters"
    if any("\0" in turn for turn in turns):
        return "holds a NUL in its question, as UTF-16 and binary data do"
    return next(filter(None, map(unsound, turns)), "")


def in_shard(item: Item, shard: tuple[int, int] | None) -> bool:
    """Whether a row is this process's. By a hash of its id, so that no order of rows matters."""
    if shard is None:
        return True
    i, n = shard
    digest = hashlib.sha256(item.id.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") % n == i - 1


def answer_of(fields: Mapping[str, Any], chosen: Fields = Fields()) -> str | None:
    """The answer that a row holds, or None."""
    names = (chosen.answer,) if chosen.answer else ANSWER_FIELDS
    given = (fields[name] for name in names if name in fields)
    answer = next((a for one in given if (a := first_text(one)) is not None), None)
    if answer is None and not chosen.answer:
        answer = reply_of(fields.get("conversations"))
    return answer


def identity_of(fields: Mapping[str, Any], chosen: Fields = Fields()) -> tuple[str | None, str]:
    """A row's id as text, or None where it has none; and what is wrong with it, or an empty text,
    to follow the row's name."""
    if chosen.id == "none":
        return None, ""
    for name in (chosen.id,) if chosen.id else ID_FIELDS:
        try:
            found = id_text(fields.get(name))
        except ValueError as error:
            return None, f"has {error} for its {name}, but an id is a text or a whole number"
        if found is not None:
            return found, ""
    return None, ""


def _holds(item: Item, name: str, value: str) -> bool:
    found = item.tags.get(name)
    if found is None and name not in item.fields:
        return False
    if found is None:
        raw = item.fields.get(name)
        found = tuple(map(shown, raw if isinstance(raw, list) else [raw]))
    return value in found
