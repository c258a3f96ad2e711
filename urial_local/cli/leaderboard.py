"""`urial-local leaderboard` and `agreement`: models side by side, and judges side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from urial_local.cli.plumbing.evaluate_results import reading_options
from urial_local.cli.plumbing.terminal import say, say_json, tell

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
@click.option("--json", "as_json", is_flag=True, help="JSON instead of Markdown.")
def leaderboard(
    runs: tuple[str, ...],
    sort: str,
    na: NotApplicable,
    expected: bool,
    ids: str | None,
    mix_judges: bool,
    html: Path | None,
    as_json: bool,
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
        tell(f"Open {html} in a browser.")
    if as_json:
        say_json(table.as_json())
    else:
        say(markdown(table))


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="All as JSON.")
def agreement(a: str, b: str, as_json: bool) -> None:
    """Say how far two judges agree on the same answers.

    A and B are runs of `evaluate` or JUST-EVAL's judged files. exact: the same score; within 1;
    Spearman's rank correlation; Cohen's kappa with quadratic weights. N/A counts as no score.

    \b
    Example:
      urial-local agreement run/judged-local model.score_multi.gpt-4.json
    """
    from urial_local.records.judged import read_judgements
    from urial_local.tasks.evaluate.agreement import agreement as measure

    found = measure(list(read_judgements(a)), list(read_judgements(b)))
    if as_json:
        say_json(found.as_json())
        return
    say(f"{found.shared:,} answers judged by both")
    say(f"  {'aspect':<14}{'rows':>6}{'mean A':>8}{'mean B':>8}{'exact':>8}{'within 1':>10}"
        f"{'Spearman':>10}{'kappa':>8}")  # fmt: skip
    for name, one in found.aspects.items():
        cells = f"{one.n:>6,}{one.mean_a:>8.2f}{one.mean_b:>8.2f}"
        cells += f"{100 * one.exact:>7.1f}%{100 * one.within_one:>9.1f}%"
        cells += f"{_correlation(one.spearman):>10}{_correlation(one.kappa):>8}"
        say(f"  {name:<14}{cells}")


def _correlation(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
