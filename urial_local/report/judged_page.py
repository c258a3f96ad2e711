"""`report.html` of judged runs: scores with intervals, and every answer with its reasons.

What the overview needs stands in the page as it is. The answers are packed in chunks, which the
page unpacks after the overview is on the screen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from urial_local.records.judged import Judgement
from urial_local.report.page import packed, template, write_html
from urial_local.tasks.evaluate.differences import difference
from urial_local.tasks.evaluate.modes import ASPECTS
from urial_local.tasks.evaluate.pairs import TIE, winner
from urial_local.tasks.evaluate.results import page_summary
from urial_local.tasks.evaluate.summary import TAGS, Reading
from urial_local.tasks.intervals import NO_INTERVAL

CHUNK = 500  # rows packed together
SCORED = (*ASPECTS, "rating")
Run = tuple[str, Sequence[Judgement]]
Row = dict[str, Any]


def write_judged_page(
    runs: Sequence[Run],
    path: Path,
    reading: Reading,
    notes: Sequence[str] = (),
    about: Sequence[Sequence[list[str]]] = (),
) -> Path:
    """Write the page of judged runs, side by side where there are several; returns its path.

    `notes` are sentences for the top of the page, `about` each run's list of [label, text] for
    the end. Answers of several runs meet where mode, id, repeat, turn and question are the same.
    """
    rows = _rows([judgements for _, judgements in runs], reading)
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    origins = [*about, *([()] * len(runs))]
    data = {
        "aspects": ASPECTS,
        "na": reading.na,
        "expected": reading.expected,
        "last_tag": reading.last_tag,
        "tags": TAGS,
        "no_interval": NO_INTERVAL.format("questions"),
        "notes": list(notes),
        "runs": [
            {
                "name": name,
                "about": [list(line) for line in origins[number]],
                **page_summary(judgements, reading).as_json(),
                "against": _against(judgements, runs[0][1], reading) if number else None,
            }
            for number, (name, judgements) in enumerate(runs)
        ],
        "rows": len(rows),
        "chunks": len(chunks),
    }
    write_html(
        path,
        title=f"Judged: {', '.join(name for name, _ in runs)}",
        body=template("judged.html"),
        styles=[template("base.css"), template("judged.css")],
        scripts=[template(n) for n in ("charts.js", "dots.js", "judged_rows.js", "judged.js")],
        data=data,
        blobs=((f"rows-{n}", packed(chunk)) for n, chunk in enumerate(chunks)),
    )
    return path


def _against(
    judgements: Sequence[Judgement], first: Sequence[Judgement], reading: Reading
) -> dict[str, object]:
    """How a run's scores differ from the first run's."""
    return {name: one.as_json() for name, one in difference(judgements, first, reading).items()}


def _rows(tables: Sequence[Sequence[Judgement]], reading: Reading) -> list[Row]:
    found: dict[tuple[Any, ...], Row] = {}
    for number, judgements in enumerate(tables):
        for j in judgements:
            if j.mode == "tags" and not j.error:
                continue
            key = (j.mode, j.id, j.repeat, j.turn, j.query)
            row = found.setdefault(key, _row(j, len(tables)))
            for name, values in j.tags.items():
                row["tags"].setdefault(name, list(values))
            if j.mode == "pairwise":
                row["cells"][number] = _pair(j, row["cells"][number])
            else:
                row["cells"][number] = _cell(j, reading)
    return list(found.values())


def _row(j: Judgement, runs: int) -> Row:
    return {
        "id": f"{j.id} ({j.repeat + 1})" if j.repeat else j.id,
        "mode": j.mode,
        "turn": j.turn,
        "query": j.query,
        "tags": {},
        "cells": [None] * runs,
    }


def _cell(j: Judgement, reading: Reading) -> Row:
    """One answer with its judgement; each score as [as given, as counted, expected, reason]."""
    return {
        "answer": j.answer,
        "words": j.words,
        "ended": j.ended,
        "flags": list(j.flags),
        "error": j.error,
        "scores": dict(_scores(j, reading)),
    }


def _scores(j: Judgement, reading: Reading) -> Iterator[tuple[str, list[Any]]]:
    for aspect in SCORED:
        if not j.error and isinstance(j.record.get(aspect), Mapping):
            score = j.score(aspect)
            given = "N/A" if j.not_applicable(aspect) else "–" if score is None else f"{score:g}"
            expected = j.expected.get(aspect)
            yield aspect, [given, reading.score(j, aspect), expected, j.reason(aspect)]


def _pair(j: Judgement, before: Row | None) -> Row:
    """Two answers and what was said of them, in each order: 0 the first answer, 1 the second."""
    cell = before or {
        "answer": j.answer,
        "other": j.other,
        "names": [j.generator, j.other_generator],
        "flags": list(j.flags),
        "error": "",
        "said": [],
    }
    if j.error:
        cell["error"] = j.error
        return cell
    choices = j.record.get("choices")
    said: dict[str, Any] = {}
    for aspect in choices if isinstance(choices, Mapping) else ():
        who = winner(j, aspect)
        said[str(aspect)] = who if who in (None, TIE) else int(who != j.generator)
    reason = str(j.record.get("rationale", ""))
    cell["said"].append({"order": j.order, "reason": reason, "choices": said})
    return cell
