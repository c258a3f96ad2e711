"""`report.html` of a shift run. What an answer needs when it is opened is packed per answer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from urial_local.report.page import packed, template, write_html
from urial_local.report.shift_packing import details
from urial_local.tasks.intervals import NO_INTERVAL
from urial_local.tasks.shift.classes import classes
from urial_local.tasks.shift.measures import ShiftSummary
from urial_local.tasks.shift.record import NOT_FINITE, Answer
from urial_local.tasks.shift.results import ShiftRun
from urial_local.tasks.shift.scoring import INFINITE


def write_page(run: ShiftRun, summary: ShiftSummary) -> Path:
    """Write the page from the run's rows and its summary; returns its path."""
    names = [model.name for model in run.config.aligned]
    index: list[dict[str, Any]] = []
    seen: list[set[int]] = [set() for _ in names]
    with tempfile.TemporaryFile("w+", encoding="ascii", newline="") as spool:
        for answer in run:
            number = names.index(answer.aligned)
            seen[number].update(_ids(answer))
            index.append(_index_entry(answer, number))
            spool.write(packed(details(answer)) + "\n")
        spool.seek(0)
        return _write(run, summary, names, seen, index, spool)


def _write(
    run: ShiftRun,
    summary: ShiftSummary,
    names: list[str],
    seen: list[set[int]],
    index: list[dict[str, Any]],
    blobs: Iterable[str],
) -> Path:
    order = sorted(range(len(index)), key=lambda i: (index[i]["aligned"], index[i]["number"]))
    place = {original: i for i, original in enumerate(order)}
    base = run.config.base.name
    data = {
        "summary": summary.as_json(),
        "no_interval": NO_INTERVAL.format("answers"),
        "sessions": [asdict(session) for session in run.info.sessions],
        "names": names,
        "contexts": list(run.config.contexts),  # in order, which objects do not keep
        "base": base,
        "tokens": [_texts(run, name, ids) for name, ids in zip(names, seen, strict=True)],
        "answers": [index[i] for i in order],
    }
    path = run.folder / "report.html"
    write_html(
        path,
        title=f"Shift: {base} → {', '.join(names)}",
        body=template("shift.html"),
        styles=[template("base.css"), template("shift.css")],
        scripts=[
            template(f"{name}.js")
            for name in ("charts", "shift_answers", "shift_guide", "shift_finer", "shift")
        ],
        data=data,
        blobs=((f"answer-{place[n]}", text.rstrip()) for n, text in enumerate(blobs)),
    )
    return path


def _ids(answer: Answer) -> set[int]:
    lists = [answer.ids, answer.aligned_columns["aligned_top_ids"].ravel()]
    lists += [c["base_top_ids"].ravel() for c in answer.contexts.values()]
    return {int(i) for i in np.unique(np.concatenate(lists))} - {-1}


def _texts(run: ShiftRun, name: str, ids: set[int]) -> dict[str, str]:
    if not ids:
        return {}
    texts = run.texts[name]
    return {str(i): texts[i] for i in sorted(ids)}


def _index_entry(answer: Answer, aligned: int) -> dict[str, Any]:
    """What the list of answers shows: a digit of class for each position in each context."""
    contexts = []
    for columns in answer.contexts.values():
        kinds = classes(columns["status"], columns["base_rank"])
        kl = columns["kl_base_aligned"]
        sound = (columns["status"] & (NOT_FINITE | INFINITE)) == 0
        contexts.append(
            {
                "classes": "".join("0123"[k] if k >= 0 else "-" for k in kinds),
                "kl": round(float(kl[sound].mean()), 4) if sound.any() else None,
            }
        )
    return {
        "id": answer.id,
        "sample": answer.sample,
        "number": answer.number,
        "aligned": aligned,
        "query": answer.query,
        "text": answer.text,
        "tags": {k: list(v) for k, v in answer.tags.items()},
        "ended": answer.ended,
        "end_token": answer.end_token,
        "contexts": contexts,
    }
