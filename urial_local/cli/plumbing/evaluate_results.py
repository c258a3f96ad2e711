"""What `evaluate`, `report` and `merge` do with judgements: summary, page, tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from urial_local.cli.plumbing.evaluate_lines import lines_of
from urial_local.cli.plumbing.output import Output

if TYPE_CHECKING:
    from urial_local.tasks.evaluate.results import EvaluateSummary

F = TypeVar("F", bound=Callable[..., Any])


def finish(folder: Path) -> EvaluateSummary:
    """Make summary.json and report.html from a run's rows; returns the summary."""
    from urial_local.records.runlog import write_json
    from urial_local.report.judged_runs import write_page
    from urial_local.tasks.evaluate.results import summary_of

    found = summary_of([str(folder)])
    write_json(folder / "summary.json", found.as_json())
    write_page([folder], folder / "report.html")
    return found


def print_results(folder: Path, found: EvaluateSummary, out: Output) -> None:
    """To stdout: the means, or all as JSON; to stderr: where the page is."""
    out.lines(lines_of(found), found.as_json())
    out.tell(f"Open {folder / 'report.html'} in a browser.")
