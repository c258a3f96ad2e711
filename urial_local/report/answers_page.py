"""`report.html` of generation runs: questions with their answers, runs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from urial_local.records.generated import AnsweredTurn, GenerateConfig, Generated
from urial_local.records.runs import latest_rows, read_run
from urial_local.report.page import sessions, template, write_html
from urial_local.tasks.generate.job import KEY
from urial_local.tasks.generate.summary import summarise

Key = tuple[str, int]  # id and repeat


def write_answers_page(folders: Sequence[Path], path: Path) -> Path:
    """Write the page of runs; rows are matched by id and repeat."""
    tables = [
        {(row.id, row.repeat): row for row in latest_rows(folder, KEY, Generated.read)}
        for folder in folders
    ]
    keys: dict[Key, Generated] = {}
    for table in tables:
        for key, row in table.items():
            keys.setdefault(key, row)
    ordered = sorted(keys, key=lambda k: (keys[k].number, k))
    names = [folder.resolve().name for folder in folders]
    data = {
        "runs": [
            _run(name, folder, table)
            for name, folder, table in zip(names, folders, tables, strict=True)
        ],
        "rows": [_row(key, [table.get(key) for table in tables]) for key in ordered],
    }
    write_html(
        path,
        title=f"Answers: {', '.join(names)}",
        body=template("answers.html"),
        styles=[template("base.css"), template("answers.css")],
        scripts=[template("charts.js"), template("answers.js")],
        data=data,
    )
    return path


def _run(name: str, folder: Path, table: Mapping[Key, Generated]) -> dict[str, Any]:
    info = read_run(folder)
    config = info.config_as(GenerateConfig)
    model = config.model
    about = [
        ["model", f"{model.title} ({model.file}, {model.quantisation})"],
        ["fingerprint", model.fingerprint],
        ["sampling", json.dumps(config.sampling) if config.sampling else "greedy"],
    ]
    about += sessions(info)
    return {
        "name": name,
        "model": model.name,
        "prompt": config.prompt_name,
        "about": about,
        **summarise(table.values()).as_json(),
    }


def _row(key: Key, rows: Sequence[Generated | None]) -> dict[str, Any]:
    turns = []
    for n in range(max(max(len(row.turns), 1) for row in rows if row)):
        asked = [row.turns[n].query for row in rows if row and n < len(row.turns)]
        query = asked[0] if asked else next(row.query for row in rows if row)
        turns.append({"query": query, "answers": [_answer(row, n) for row in rows]})
    label = f"{key[0]} ({key[1] + 1})" if key[1] else key[0]
    return {"id": label, "turns": turns}


def _answer(row: Generated | None, n: int) -> dict[str, Any] | None:
    """What was answered in a row's n-th turn; None where it has none."""
    if row and row.error and n == 0:
        return {"error": row.error, "flags": [], "text": ""}
    if row is None or n >= len(row.turns):
        return None
    turn: AnsweredTurn = row.turns[n]
    return {
        "text": turn.answer,
        "flags": list(turn.flags),
        "tokens": turn.completion_tokens,
        "reason": turn.finish_reason,
        "guide": _guided(turn),
    }


def _guided(turn: AnsweredTurn) -> dict[str, Any] | None:
    """The answer in pieces, each with whether a guide wrote it. None without one."""
    if turn.guide is None:
        return None
    parts: list[tuple[str, bool]] = []
    at = 0
    for span in turn.guide.spans:
        start, end = (*span, at, at)[:2]
        parts += [(turn.answer[at:start], False), (turn.answer[start:end], True)]
        at = max(at, end)
    parts.append((turn.answer[at:], False))
    return {"rate": turn.guide.rate, "parts": [part for part in parts if part[0]]}
