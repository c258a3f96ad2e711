"""Writes a generation run in the shapes that other tools read.

Shapes: just-eval and AlpacaEval files as the URIAL code writes them, MT-bench answers as the URIAL
code and as FastChat write them, CSV, and plain text for reading. Ids are those of the dataset, so
they are right even when a run was merged from shards.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.records.generated import AnsweredTurn, Candidate, Generated
from urial_local.records.tables import SpreadsheetWriter

CSV_COLUMNS = (
    *("id", "repeat", "turn", "query", "answer", "finish_reason", "flags", "prompt_tokens"),
    *("completion_tokens", "mean_logprob", "error"),
)


@dataclass(frozen=True, slots=True)
class Export:
    """What an export says about the run besides its rows. `compat` is "" or "urial"."""

    generator: str
    sampling: Mapping[str, Any]
    compat: str = ""

    def text(self, answer: str) -> str:
        """An answer, with the reference's post-processing where asked: every fence is deleted and
        `<|endoftext|>` becomes a blank, then blanks at both ends go (its `clear_output`)."""
        if self.compat != "urial":
            return answer
        return answer.replace("```", "").replace("<|endoftext|>", " ").strip()


def export(rows: Iterable[Generated], shape: str, about: Export) -> Iterator[str]:
    """The file's text in pieces, of rows in their order. Error rows are left out, except in CSV.

    Raises UsageError for an unknown shape, and for MT-bench's where rows have no question_id.
    """
    if shape not in SHAPES:
        raise UsageError(f"There is no shape {shape!r}.", f"Known: {', '.join(SHAPES)}.")
    return SHAPES[shape](rows, about)


def place(row: Generated) -> tuple[int, int]:
    """Where a row stands in an export."""
    return row.number, row.repeat


def _just_eval(rows: Iterable[Generated], about: Export) -> Iterator[str]:
    yield from array(
        {
            "id": _id(row),
            "instruction": row.query,
            "source_id": row.fields.get("source_id", row.id),
            "dataset": row.fields.get("dataset", ""),
            **_some(row, "category"),
            "output": about.text(row.turns[0].answer),
            "generator": about.generator,
            "datasplit": "just_eval",
        }
        for row in _answered(rows)
    )


def _alpaca_eval(rows: Iterable[Generated], about: Export) -> Iterator[str]:
    def output(row: Generated) -> Any:
        first = row.turns[0]
        several: Sequence[Candidate | AnsweredTurn] = first.candidates or (first,)
        texts = [about.text(one.answer) for one in several]
        return texts if about.compat == "urial" else about.text(first.answer)

    yield from array(
        {
            "instruction": row.query,
            "output": output(row),
            "generator": about.generator,
            "dataset": row.fields.get("dataset", ""),
        }
        for row in _answered(rows)
    )


def _mt_bench(rows: Iterable[Generated], about: Export) -> Iterator[str]:
    yield from array(
        {
            "question_id": _question_id(row),
            "category": row.fields.get("category", ""),
            f"turn{n}_output": about.text(turn.answer),
            "model_id": about.generator,
            "turn_id": n,
            "configs": dict(about.sampling),
        }
        for row in _answered(rows)
        for n, turn in enumerate(row.turns, 1)
    )


def _fastchat(rows: Iterable[Generated], about: Export) -> Iterator[str]:
    for row in _answered(rows):
        turns = [about.text(turn.answer) for turn in row.turns]
        digest = hashlib.sha256(json.dumps([about.generator, row.id, turns]).encode())
        record = {
            "question_id": _question_id(row),
            "answer_id": digest.hexdigest()[:22],
            "model_id": about.generator,
            "choices": [{"index": 0, "turns": turns}],
        }
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _csv(rows: Iterable[Generated], about: Export) -> Iterator[str]:
    out = io.StringIO()
    writer = SpreadsheetWriter(out)
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        for n, turn in enumerate(row.turns or (None,), 1):
            writer.writerow(_cells(row, turn, n, about))
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


def _cells(row: Generated, turn: AnsweredTurn | None, n: int, about: Export) -> list[Any]:
    """A line of CSV_COLUMNS; an error row has no turn."""
    if turn is None:
        return [row.id, row.repeat, n, row.query, *[""] * 6, row.error]
    return [
        *(row.id, row.repeat, n, turn.query, about.text(turn.answer), turn.finish_reason),
        *(" ".join(turn.flags), turn.prompt_tokens, turn.completion_tokens),
        *("" if turn.mean_logprob is None else turn.mean_logprob, ""),
    ]


def _text(rows: Iterable[Generated], about: Export) -> Iterator[str]:
    for row in _answered(rows):
        for turn in row.turns:
            yield f"[{row.id}] {turn.query}\n\n{about.text(turn.answer)}\n\n\n"


SHAPES: dict[str, Callable[[Iterable[Generated], Export], Iterator[str]]] = {
    "just-eval": _just_eval,
    "alpaca-eval": _alpaca_eval,
    "mt-bench": _mt_bench,
    "fastchat": _fastchat,
    "csv": _csv,
    "text": _text,
}


def _answered(rows: Iterable[Generated]) -> Iterator[Generated]:
    return (row for row in rows if not row.error)


def array(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """A list as json.dumps writes it with indent=2, an entry at a time."""
    before = "[\n  "
    for record in records:
        text = json.dumps(record, ensure_ascii=False, indent=2)
        yield before + text.replace("\n", "\n  ")  # only ends of lines: in texts they are escaped
        before = ",\n  "
    yield "[]\n" if before.startswith("[") else "\n]\n"


def _id(row: Generated) -> Any:
    """The id as the dataset had it, a number or a text; the place where it had none."""
    found = row.fields.get("id")
    return found if str(found) == row.id else plain_id(row.id)


def plain_id(text: str) -> str | int:
    """An id as a number where it reads as one, as in the files of others."""
    number = text.isascii() and text.isdigit() and len(text) < 19 and str(int(text)) == text
    return int(text) if number else text


def _question_id(row: Generated) -> Any:
    if "question_id" not in row.fields:
        raise UsageError(
            f"The row {row.id!r} has no question_id, so this is not an MT-bench run.",
            "Other shapes: just-eval, alpaca-eval, csv, text.",
        )
    return row.fields["question_id"]


def _some(row: Generated, *names: str) -> dict[str, Any]:
    return {name: row.fields[name] for name in names if name in row.fields}
