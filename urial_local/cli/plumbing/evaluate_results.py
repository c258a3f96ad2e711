"""What `evaluate`, `report` and `merge` do with judgements: summary, page, tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from urial_local.base.errors import UsageError
from urial_local.cli.plumbing.data_options import chosen_ids
from urial_local.cli.plumbing.evaluate_lines import lines_of
from urial_local.cli.plumbing.terminal import say, say_json, tell

if TYPE_CHECKING:
    from urial_local.tasks.evaluate.results import EvaluateSummary
    from urial_local.tasks.evaluate.scores import NotApplicable

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


def print_results(folder: Path, found: EvaluateSummary, as_json: bool) -> None:
    """To stdout: the means, or all as JSON; to stderr: where the page is."""
    if as_json:
        say_json(found.as_json())
    else:
        for line in lines_of(found):
            say(line)
    tell(f"Open {folder / 'report.html'} in a browser.")


def reading_options(command: F) -> F:
    """How judgements are read: N/A, expected scores, which rows."""
    for option in reversed(
        [
            click.option(
                "--na",
                type=click.Choice(["five", "drop", "three"]),
                default="five",
                help="What N/A counts as; five is the reference's.  [default: five]",
            ),
            click.option(
                "--expected", is_flag=True, help="Use expected scores where there are any."
            ),
            click.option(
                "--ids", metavar="A,B,…|@FILE", help="Only rows with these ids; a lite subset."
            ),
        ]
    ):
        command = option(command)
    return command


@click.command()
@click.argument("names", nargs=-1, required=True)
@reading_options
@click.option("--tags-from", metavar="FILE", help="Take the rows' tags from this file, by id.")
@click.option(
    "--compat",
    type=click.Choice(["just-eval"]),
    help="As the reference: its report's fields, and in tables the last of a row's tags only.",
)
@click.option("--json", "as_json", is_flag=True, help="All as JSON.")
def summarize(
    names: tuple[str, ...],
    na: NotApplicable,
    expected: bool,
    ids: str | None,
    tags_from: str | None,
    compat: str | None,
    as_json: bool,
) -> None:
    """Means with intervals of judged runs and files, taken together.

    NAMES are runs of `evaluate`, JUST-EVAL's judged files, or files of answers that were not judged
    (for their lengths).

    \b
    Examples:
      urial-local evaluate summarize run/judged-mistral-7b-instruct
      urial-local evaluate summarize model.score_multi.gpt-4.json model.score_safety.chatgpt.json
      urial-local evaluate summarize model.score_safety.chatgpt.json --compat just-eval
    """
    from urial_local.tasks.evaluate.results import summary_of
    from urial_local.tasks.evaluate.summary import Reading

    wanted = chosen_ids(ids)
    if compat and (na != "five" or expected):
        raise UsageError("--compat just-eval counts N/A as 5, and takes the scores as they are.")
    # One file alone: the reference's own report. Several, or JSON: our summary by its rules.
    if compat and not as_json and len(names) == 1 and not tags_from:
        from urial_local.records.judged import read_judgements
        from urial_local.tasks.evaluate.summary import just_eval_report

        judgements = [j for j in read_judgements(names[0]) if wanted is None or j.id in wanted]
        say_json(just_eval_report(judgements, names[0]), indent=2)
        return
    reading = Reading(na, expected, last_tag=bool(compat))
    found = summary_of(names, reading, tags_from=tags_from, ids=wanted)
    if as_json:
        say_json(found.as_json())
        return
    for line in lines_of(found):
        say(line)
