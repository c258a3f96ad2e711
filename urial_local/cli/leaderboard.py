"""`urial-local leaderboard` and `agreement`: models side by side, and judges side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from urial_local.base.formats import counted, number, percent
from urial_local.cli.plumbing.data_options import reading_options
from urial_local.cli.plumbing.output import Output, json_option
from urial_local.cli.plumbing.tables import Column, figures

if TYPE_CHECKING:
    from urial_local.tasks.evaluate.scores import NotApplicable


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--sort", default="average", metavar="COLUMN", help="name, an aspect, average, words"
              " or ended.  [default: average]")  # fmt: skip
@reading_options
@click.option("--mix-judges", is_flag=True, help="Put models of different judges in one table.")
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write a page with the table and a plot.",
)
@json_option("JSON instead of Markdown.")
def leaderboard(
    runs: tuple[str, ...],
    sort: str,
    na: NotApplicable,
    expected: bool,
    ids: str | None,
    mix_judges: bool,
    html: Path | None,
    out: Output,
) -> None:
    """Put judged RUNS side by side, as Markdown on stdout.

    RUNS are runs of `evaluate`, JUST-EVAL's judged files, or files of answers (for their lengths).
    What was written by the same model becomes one line.

    \b
    Examples:
      urial-local leaderboard urial/judged-j zero-shot/judged-j --html board.html
      urial-local leaderboard *.score_multi.json *.score_safety.json --sort helpfulness
    """
    from urial_local.cli.plumbing.data_options import chosen_ids
    from urial_local.report.leaderboard_page import markdown, write_leaderboard_page
    from urial_local.tasks.evaluate.entries import entries_of
    from urial_local.tasks.evaluate.leaderboard import leaderboard as table_of
    from urial_local.tasks.evaluate.summary import Reading

    entries = entries_of(runs, chosen_ids(ids))
    table = table_of(entries, Reading(na=na, expected=expected), sort, mix_judges)
    if html:
        write_leaderboard_page(table, html)
        out.tell(f"Open {html} in a browser.")
    out.lines([markdown(table)], table.as_json())


AGREEMENT = (
    Column("  aspect", 16),
    *figures(("rows", 6), ("mean A", 8), ("mean B", 8), ("exact", 9), ("within 1", 10)),
    *figures(("Spearman", 10), ("kappa", 8)),
)


@click.command()
@click.argument("a")
@click.argument("b")
@json_option("All as JSON.")
def agreement(a: str, b: str, out: Output) -> None:
    """Say how far two judges agree on the same answers.

    A and B are runs of `evaluate` or JUST-EVAL's judged files. exact: the same score; within 1;
    Spearman's rank correlation; Cohen's kappa with quadratic weights. N/A counts as no score.

    \b
    Examples:
      urial-local agreement run/judged-local model.score_multi.gpt-4.json
      urial-local agreement run/judged-a run/judged-b --json
    """
    from urial_local.records.judged import read_judgements
    from urial_local.tasks.evaluate.agreement import agreement as measure

    found = measure(list(read_judgements(a)), list(read_judgements(b)))
    out.line(f"{counted(found.shared, 'answer')} judged by both")
    rows = (
        (
            f"  {name}",
            f"{one.n:,}",
            number(one.mean_a),
            number(one.mean_b),
            percent(one.exact),
            percent(one.within_one),
            number(one.spearman),
            number(one.kappa),
        )
        for name, one in found.aspects.items()
    )
    out.table(AGREEMENT, rows, found.as_json())
