"""Runs of `generate` as several commands read them: what they are, their page, their table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urial_local.base.errors import UsageError
from urial_local.base.formats import NOTHING, number, percent
from urial_local.cli.plumbing.output import Output
from urial_local.cli.plumbing.tables import Column, figures

if TYPE_CHECKING:
    from urial_local.records.runs import RunInfo
    from urial_local.tasks.generate.summary import GenerateSummary


def answered_run(folder: Path) -> RunInfo:
    """What a generation run says of itself. Raises UsageError for another folder."""
    from urial_local.records.runs import read_run

    info = read_run(folder)
    if info.task != "generate":
        raise UsageError(
            f"{folder} is a run of {info.task!r}, not of generate.",
            f"Its cells are runs of generate: name one in {folder}."
            if info.task == "benchmark"
            else "Its page is report.html; `urial-local report` rebuilds it.",
        )
    return info


PAGE_ROWS = 50_000  # a page of more is some 100 MB, which a browser takes long to open


def answers(runs: tuple[Path, ...], path: Path, out: Output, page: bool = True) -> None:
    """A table of generation runs to stdout, and their page."""
    from urial_local.records.generated import Generated
    from urial_local.records.runs import latest_rows
    from urial_local.report.answers_page import write_answers_page
    from urial_local.tasks.generate.job import KEY
    from urial_local.tasks.generate.summary import summarise

    found = {str(run): summarise(latest_rows(run, KEY, Generated.read)) for run in runs}
    if page:
        write_answers_page(runs, path)
    print_table(found, out)
    if not page:
        out.tell(f"A page of so many rows is not made; `urial-local show {runs[0]}` reads them.")
        return
    out.tell(f"Open {path} in a browser.")


def print_table(
    found: Mapping[str, GenerateSummary],
    out: Output,
    rates: Mapping[str, float | None] | None = None,
) -> None:
    """Runs by line: counts, shares, mean length. `rates`: tokens a second, where they are known."""
    from urial_local.tasks.generate.flags import FLAGS

    columns = ["answered", "failed", "ended", *FLAGS, "words"]
    heads = [*columns, *(["tokens/s"] if rates else [])]
    rows = []
    for run, summary in found.items():
        cells = [_cell(name, getattr(summary, name)) for name in columns]
        if rates:
            cells.append(_cell("tokens/s", rates[run]))
        rows.append([run, *cells])
    table = (Column("run"), *figures(*((head, 10) for head in heads)))
    out.table(table, rows, as_json(found, rates))


def as_json(
    found: Mapping[str, GenerateSummary], rates: Mapping[str, float | None] | None = None
) -> dict[str, dict[str, Any]]:
    """What --json prints of runs, and sweep.json holds."""
    return {
        run: {**summary.as_json(), **({"tokens_per_second": rates[run]} if rates else {})}
        for run, summary in found.items()
    }


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    if name in ("answered", "failed"):
        return f"{value:,}"
    return number(value, 1) if name in ("words", "tokens/s") else percent(value)
