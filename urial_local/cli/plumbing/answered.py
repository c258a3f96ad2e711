"""Runs of `generate` as several commands read them: what they are, their page, their table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from urial_local.base.errors import UsageError
from urial_local.base.formats import NOTHING, number, percent
from urial_local.cli.plumbing.output import Output
from urial_local.cli.plumbing.tables import Column, figures

if TYPE_CHECKING:
    from urial_local.records.runs import RunInfo


def answered_run(folder: Path) -> RunInfo:
    """What a generation run says of itself. Raises UsageError for another folder."""
    from urial_local.records.runs import read_run

    info = read_run(folder)
    if info.task != "generate":
        raise UsageError(
            f"{folder} is a run of {info.task!r}, not of generate.",
            f"Its cells are runs of generate: name one in {folder}."
            if info.task == "benchmark"
            else "Its page is report.html; `urial-local report` makes it anew.",
        )
    return info


def answers(runs: tuple[Path, ...], path: Path, out: Output) -> None:
    """The page of generation runs, and a table of them to stdout."""
    from urial_local.records.generated import Generated
    from urial_local.records.runs import latest_rows
    from urial_local.report.answers_page import write_answers_page
    from urial_local.tasks.generate.job import KEY
    from urial_local.tasks.generate.summary import summarise

    found = {str(run): summarise(latest_rows(run, KEY, Generated.read)) for run in runs}
    write_answers_page(runs, path)
    print_table(found, out)
    out.tell(f"Open {path} in a browser.")


def print_table(found: dict[str, dict[str, object]], out: Output) -> None:
    """Runs by line: counts, shares, mean length."""
    from urial_local.tasks.generate.flags import FLAGS

    names = ["answered", "failed", "ended", *FLAGS, "words"]
    if any("tokens_per_second" in values for values in found.values()):
        names.append("tokens_per_second")
    heads = [name.replace("tokens_per_second", "tokens/s") for name in names]
    rows = (
        [run, *(_cell(name, values.get(name)) for name in names)] for run, values in found.items()
    )
    out.table((Column("run"), *figures(*((head, 10) for head in heads))), rows, found)


def _cell(name: str, value: object) -> str:
    if value is None:
        return NOTHING
    if name in ("answered", "failed"):
        return f"{value:,}"
    figure = float(str(value))
    return number(figure, 1) if name in ("words", "tokens_per_second") else percent(figure)
