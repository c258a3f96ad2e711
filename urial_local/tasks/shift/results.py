"""Reads a run folder back: its rows as arrays, its tokens' texts, its summary, its positions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from urial_local.base.errors import RunError, UsageError
from urial_local.base.files import replacing
from urial_local.records.runlog import RunRows, read_run, write_json
from urial_local.records.tables import SpreadsheetWriter
from urial_local.tasks.shift.record import Answer, jaccard, same_top
from urial_local.tasks.shift.summary import CLASSES, classes, summarise

SCALARS = ("base_logprob", "kl_base_aligned", "kl_aligned_base", "js", "base_entropy")
CSV_COLUMNS = (
    *("aligned", "id", "context", "position", "token_id", "token", "class", "status"),
    *("base_rank", "aligned_rank", *SCALARS, "aligned_logprob", "aligned_entropy"),
    *("same_top", "jaccard", "is_end"),
)


def read_answers(rows: RunRows) -> Iterator[Answer]:
    """The scored rows of a run, one at a time. Raises RunError for a row that is none."""
    for row in rows:
        yield as_answer(row, rows.folder)


def as_answer(row: dict[str, Any], folder: Path) -> Answer:
    """Raises RunError for a row that is not one of shift."""
    try:
        return Answer.read(row)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"The row {row.get('id')!r} of {folder} is damaged ({error!r}).",
            "Remove its line from rows.jsonl; the same command then makes it again.",
        ) from None


class TokenTexts(dict[str, list[str]]):
    """What the ids in each aligned model's rows stand for, read when asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, aligned: str) -> list[str]:
        self[aligned] = texts = token_texts(self._folder, aligned)
        return texts


def token_texts(folder: Path, aligned: str) -> list[str]:
    """What the ids in an aligned model's rows stand for. Raises RunError where it is missing."""
    path = folder / f"tokens-{aligned}.json"
    try:
        texts = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read: {error}",
            "It says what token ids stand for; copy it from another run of the same model.",
        ) from None
    if not isinstance(texts, list):
        raise RunError(f"{path} is not a list of tokens.")
    return [str(t) for t in texts]


def aligned_names(info: dict[str, Any]) -> list[str]:
    """Names of the aligned models in a run's configuration. Raises UsageError for other runs."""
    config = info["config"]
    if config.get("task") != "shift":
        raise UsageError(f"This is a run of {config.get('task')!r}, not of shift.")
    return [str(m["name"]) for m in config["aligned"]]


def write_summary(folder: Path, rows: RunRows) -> dict[str, Any]:
    """Make `summary.json` from the rows; returns it."""
    info = read_run(folder)
    aligned_names(info)
    summary = {
        "format": 1,
        "task": "shift",
        "config": info["config"],
        "errors": [{n: row.get(n) for n in ("id", "aligned", "error")} for row in rows.errors()],
        "aligned": summarise(read_answers(rows), TokenTexts(folder)),
    }
    write_json(folder / "summary.json", summary)
    return summary


def write_csv(rows: RunRows, path: Path) -> None:
    """One line for each position of each answer in each context."""
    texts = TokenTexts(rows.folder)
    with replacing(path) as file:
        writer = SpreadsheetWriter(file)
        writer.writerow(CSV_COLUMNS)
        for answer in read_answers(rows):
            theirs = answer.aligned_columns
            for name, ours in answer.contexts.items():
                kinds = classes(ours["status"], ours["base_rank"])
                same, overlap = same_top(answer, name), jaccard(answer, name)
                for t, token in enumerate(answer.ids):
                    writer.writerow(
                        [
                            answer.aligned,
                            answer.id,
                            name,
                            t,
                            token,
                            texts[answer.aligned][token],
                            CLASSES[kinds[t]] if kinds[t] >= 0 else "",
                            ours["status"][t],
                            ours["base_rank"][t],
                            theirs["aligned_rank"][t],
                            *(_cell(ours[s][t]) for s in SCALARS),
                            _cell(theirs["aligned_logprob"][t]),
                            _cell(theirs["aligned_entropy"][t]),
                            int(same[t]),
                            _cell(overlap[t]),
                            int(answer.end_token and t == len(answer.ids) - 1),
                        ]
                    )


def _cell(value: np.float64) -> str:
    return f"{value:.7g}" if np.isfinite(value) else ""
