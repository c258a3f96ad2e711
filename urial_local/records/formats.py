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
from urial_local.records.tables import SpreadsheetWriter

Row = Mapping[str, Any]
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


def export(rows: Iterable[Row], shape: str, about: Export) -> Iterator[str]:
    """The file's text in pieces. Error rows are left out, except in CSV.

    Raises UsageError for an unknown shape, and for MT-bench's where rows have no question_id.
    """
    if shape not in SHAPES:
        raise UsageError(f"There is no shape {shape!r}.", f"Known: {', '.join(SHAPES)}.")
    ordered = sorted(rows, key=lambda r: (int(r["number"]), int(r.get("repeat", 0))))
    return SHAPES[shape](ordered, about)


def turns_of(row: Row) -> list[Mapping[str, Any]]:
    """The turns of a row: those of a dialogue, or its one."""
    return list(row.get("turns") or [row])


def _just_eval(rows: Sequence[Row], about: Export) -> Iterator[str]:
    yield _array(
        {
            "id": _id(row),
            "instruction": row["query"],
            "source_id": row["fields"].get("source_id", str(row["id"])),
            "dataset": row["fields"].get("dataset", ""),
            **_some(row, "category"),
            "output": about.text(row["answer"]),
            "generator": about.generator,
            "datasplit": "just_eval",
        }
        for row in _answered(rows)
    )


def _alpaca_eval(rows: Sequence[Row], about: Export) -> Iterator[str]:
    def output(row: Row) -> Any:
        texts = [about.text(c["answer"]) for c in row.get("candidates") or [row]]
        return texts if about.compat == "urial" else about.text(row["answer"])

    yield _array(
        {
            "instruction": row["query"],
            "output": output(row),
            "generator": about.generator,
            "dataset": row["fields"].get("dataset", ""),
        }
        for row in _answered(rows)
    )


def _mt_bench(rows: Sequence[Row], about: Export) -> Iterator[str]:
    yield _array(
        {
            "question_id": _question_id(row),
            "category": row["fields"].get("category", ""),
            f"turn{n}_output": about.text(turn["answer"]),
            "model_id": about.generator,
            "turn_id": n,
            "configs": dict(about.sampling),
        }
        for row in _answered(rows)
        for n, turn in enumerate(turns_of(row), 1)
    )


def _fastchat(rows: Sequence[Row], about: Export) -> Iterator[str]:
    for row in _answered(rows):
        turns = [about.text(turn["answer"]) for turn in turns_of(row)]
        digest = hashlib.sha256(json.dumps([about.generator, row["id"], turns]).encode())
        record = {
            "question_id": _question_id(row),
            "answer_id": digest.hexdigest()[:22],
            "model_id": about.generator,
            "choices": [{"index": 0, "turns": turns}],
        }
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _csv(rows: Sequence[Row], about: Export) -> Iterator[str]:
    out = io.StringIO()
    writer = SpreadsheetWriter(out)
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        for n, turn in enumerate(turns_of(row), 1):
            cells = {**row, **turn, "turn": n, "answer": about.text(str(turn.get("answer", "")))}
            cells["flags"] = " ".join(turn.get("flags", ()))
            writer.writerow([cells.get(name, "") for name in CSV_COLUMNS])
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()


def _text(rows: Sequence[Row], about: Export) -> Iterator[str]:
    for row in _answered(rows):
        for turn in turns_of(row):
            yield f"[{row['id']}] {turn['query']}\n\n{about.text(turn['answer'])}\n\n\n"


SHAPES: dict[str, Callable[[Sequence[Row], Export], Iterator[str]]] = {
    "just-eval": _just_eval,
    "alpaca-eval": _alpaca_eval,
    "mt-bench": _mt_bench,
    "fastchat": _fastchat,
    "csv": _csv,
    "text": _text,
}


def _answered(rows: Sequence[Row]) -> Iterator[Row]:
    return (row for row in rows if not row.get("error"))


def _array(records: Iterable[Mapping[str, Any]]) -> str:
    return json.dumps(list(records), ensure_ascii=False, indent=2) + "\n"


def _id(row: Row) -> Any:
    """The id as the dataset had it, a number or a text; the place where it had none."""
    found = row["fields"].get("id")
    if str(found) == row["id"]:
        return found
    text = str(row["id"])
    number = text.isascii() and text.isdigit() and len(text) < 19 and str(int(text)) == text
    return int(text) if number else text


def _question_id(row: Row) -> Any:
    if "question_id" not in row["fields"]:
        raise UsageError(
            f"The row {row['id']!r} has no question_id, so this is no MT-bench run.",
            "Other shapes: just-eval, alpaca-eval, csv, text.",
        )
    return row["fields"]["question_id"]


def _some(row: Row, *names: str) -> dict[str, Any]:
    return {name: row["fields"][name] for name in names if name in row["fields"]}
