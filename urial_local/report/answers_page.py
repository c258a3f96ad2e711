"""`report.html` of generation runs: questions with their answers, runs side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from urial_local.records.formats import turns_of
from urial_local.records.runlog import latest_rows, read_run
from urial_local.report.page import sessions, template, write_html
from urial_local.tasks.generate.job import KEY
from urial_local.tasks.generate.summary import summarise


def write_answers_page(folders: Sequence[Path], path: Path) -> Path:
    """Write the page of runs; rows are matched by id and repeat."""
    tables = [
        {tuple(str(row.get(k, "")) for k in KEY): row for row in latest_rows(folder, KEY)}
        for folder in folders
    ]
    keys: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for table in tables:
        for key, row in table.items():
            keys.setdefault(key, row)
    ordered = sorted(keys, key=lambda k: (int(keys[k]["number"]), k))
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


def _run(name: str, folder: Path, table: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    info = read_run(folder)
    config = info["config"]
    prompt = config["prompt"]
    model = config["model"]
    about = [
        ["model", f"{model['title']} ({model['file']}, {model['quantisation']})"],
        ["fingerprint", model["fingerprint"]],
        ["sampling", json.dumps(config["sampling"]) if config["sampling"] else "greedy"],
    ]
    about += sessions(info)
    return {
        "name": name,
        "model": model["name"],
        "prompt": prompt["name"] if isinstance(prompt, Mapping) else str(prompt),
        "about": about,
        **summarise(table.values()),
    }


def _row(key: tuple[str, ...], rows: Sequence[Mapping[str, Any] | None]) -> dict[str, Any]:
    several = [turns_of(row) if row else [] for row in rows]
    turns = []
    for n in range(max(map(len, several))):
        here = [turns[n] if n < len(turns) else None for turns in several]
        query = next(str(t["query"]) for t in here if t)
        turns.append({"query": query, "answers": [_answer(t) if t else None for t in here]})
    label = key[0] if key[1] in ("", "0") else f"{key[0]} ({int(key[1]) + 1})"
    return {"id": label, "turns": turns}


def _answer(turn: Mapping[str, Any]) -> dict[str, Any]:
    if turn.get("error"):
        return {"error": str(turn["error"]), "flags": [], "text": ""}
    return {
        "text": turn["answer"],
        "flags": list(turn["flags"]),
        "tokens": turn["completion_tokens"],
        "reason": turn["finish_reason"],
    }
