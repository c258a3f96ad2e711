"""`report.html` of a benchmark: what prompts are worth, and their answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from urial_local.records.runs import is_run, read_run
from urial_local.report.page import sessions, template, write_html
from urial_local.tasks.benchmark.measures import Judged
from urial_local.tasks.benchmark.results import Cell, Results, zero_shot_of
from urial_local.tasks.benchmark.statistics import SURE
from urial_local.tasks.benchmark.usage import usage
from urial_local.tasks.generate.flags import FAULTS

# Of the signs: those of which more is worse, and those that are neither good nor bad.
WORSE = (*FAULTS, "refused harmless", "leaked")
NEITHER = ("opening", "layout", "closing")


def write_benchmark_page(folder: Path, found: Results, path: Path) -> Path:
    """Write the page; returns its path."""
    zeros = [zero_shot_of(found.of_model(model)) for model in found.best]
    data = {
        **found.as_json(),
        "sure": SURE,
        "worse": WORSE,
        "neither": NEITHER,
        "zero": {model: cell.name for model, cell in zip(found.best, zeros, strict=True) if cell},
        "usage": {
            cell.facts.model.name: usage(cell) for cell in found.cells if found.is_best(cell)
        },
        "about": [[cell.name, _about(folder, cell)] for cell in found.cells],
        "rows": _rows(found),
    }
    write_html(
        path,
        title=f"Benchmark: {', '.join(found.best)}",
        body=template("benchmark.html"),
        styles=[template("base.css"), template("benchmark.css")],
        scripts=[
            template(name)
            for name in ("charts.js", "dots.js", "benchmark_answers.js", "benchmark.js")
        ],
        data=data,
    )
    return path


def _about(folder: Path, cell: Cell) -> list[list[str]]:
    """Lines of [label, text] on how a cell was made."""
    model, prompt = cell.facts.model, cell.facts.prompt
    lines = [
        ["model", f"{model.title} ({model.file}, {model.quantisation})"],
        ["fingerprint", model.fingerprint],
        ["prompt", f"{prompt.name} ({prompt.sha})"],
    ]
    if guide := cell.facts.guide:
        lines.append(["guide", guide.in_words()])
    place = folder / cell.name
    return [*lines, *(sessions(read_run(place)) if is_run(place) else [])]


def _rows(found: Results) -> list[dict[str, Any]]:
    """A probe a row, with the answers of the cells in their order; None where a cell lacks it."""
    return [
        {
            "id": probe.id,
            "kind": probe.kind,
            "turns": list(probe.turns),
            "answers": [_answer(cell.answers.get(probe.id)) for cell in found.cells],
        }
        for probe in found.probes
        if any(probe.id in cell.answers for cell in found.cells)
    ]


def _answer(judged: Judged | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    turns: Sequence[Any] = judged.row.turns
    return {
        "right": judged.right,
        "why": judged.why,
        "texts": [turn.answer for turn in turns],
        "reasons": [turn.finish_reason for turn in turns],
        "tokens": sum(turn.completion_tokens for turn in turns),
        "flags": list(judged.row.flags),
    }
