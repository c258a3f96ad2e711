"""Reads a run folder back: its rows as arrays, its tokens' texts, its summary, its positions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from urial_local.base.errors import RunError, UsageError
from urial_local.records.runlog import latest_rows, read_run, write_json
from urial_local.tasks.shift.record import KEY, Answer, jaccard, same_top
from urial_local.tasks.shift.summary import CLASSES, classes, summarise

SCALARS = ("base_logprob", "kl_base_aligned", "kl_aligned_base", "js", "base_entropy")
CSV_COLUMNS = (
    *("aligned", "id", "context", "position", "token_id", "token", "class", "status"),
    *("base_rank", "aligned_rank", *SCALARS, "aligned_logprob", "aligned_entropy"),
    *("same_top", "jaccard", "is_end"),
)


def read_answers(folder: Path) -> Iterator[Answer]:
    """The scored rows of a run, one at a time. Raises RunError for a row that is none."""
    for row in latest_rows(folder, KEY):
        if row.get("error"):
            continue
        try:
            yield Answer.read(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(
                f"The row {row.get('id')!r} of {folder} is damaged ({error!r}).",
                "Remove its line from rows.jsonl; the same command then makes it again.",
            ) from None


def error_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows that could not be made: id, aligned, error."""
    return [
        {name: row.get(name) for name in ("id", "aligned", "error")}
        for row in latest_rows(folder, KEY)
        if row.get("error")
    ]


def token_texts(folder: Path, aligned: str) -> list[str]:
    """What the ids in an aligned model's rows stand for. Raises RunError where it is missing."""
    path = folder / f"tokens-{aligned}.json"
    try:
        texts = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from None
    if not isinstance(texts, list):
        raise RunError(f"{path} is not a list of tokens.")
    return [str(t) for t in texts]


def aligned_names(info: dict[str, Any]) -> list[str]:
    """Names of the aligned models in a run's configuration. Raises UsageError for other runs."""
    config = info["config"]
    if config.get("task") != "shift":
        raise UsageError(f"This is a run of {config.get('task')!r}, not of shift.")
    return [str(m["name"]) for m in config["aligned"]]


def write_summary(folder: Path) -> dict[str, Any]:
    """Make `summary.json` from the rows; returns it."""
    info = read_run(folder)
    names = aligned_names(info)
    texts: dict[str, Sequence[str]] = {
        n: token_texts(folder, n) for n in names if (folder / f"tokens-{n}.json").exists()
    }
    errors = error_rows(folder)
    summary = {
        "format": 1,
        "task": "shift",
        "config": info["config"],
        "errors": errors,
        "aligned": summarise(read_answers(folder), texts),
    }
    write_json(folder / "summary.json", summary)
    return summary


def write_csv(folder: Path, path: Path) -> None:
    """One line for each position of each answer in each context."""
    info = read_run(folder)
    texts = {n: token_texts(folder, n) for n in aligned_names(info)}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for answer in read_answers(folder):
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
                            int(answer.ended and t == len(answer.ids) - 1),
                        ]
                    )


def _cell(value: np.float64) -> str:
    return f"{value:.7g}" if np.isfinite(value) else ""
