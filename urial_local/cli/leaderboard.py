"""`urial-local leaderboard` and `agreement`: models side by side, and judges side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from urial_local.base.errors import UsageError
from urial_local.cli.evaluate_results import reading_options
from urial_local.cli.terminal import say, say_json, tell


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
    na: Any,
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
    from urial_local.cli.data_options import chosen_ids
    from urial_local.report.leaderboard_page import markdown, write_leaderboard_page
    from urial_local.tasks.evaluate.leaderboard import leaderboard as table_of
    from urial_local.tasks.evaluate.summary import Reading

    entries = entries_of(runs, chosen_ids(ids))
    table = table_of(entries, Reading(na=na, expected=expected), sort, mix_judges)
    if html:
        write_leaderboard_page(table, html)
        tell(f"Open {html} in a browser.")
    if as_json:
        say_json(table)
    else:
        say(markdown(table))


def entries_of(names: Sequence[str], ids: frozenset[str] | None) -> list[Any]:
    """A line for each model among the judgements, with lengths from files of its answers. What one
    model has several times over, by other judges or from other runs, becomes a line each, named
    after its file or folder."""
    from urial_local.cli.evaluate_results import unjudged
    from urial_local.records.judged import is_judged, read_judgements
    from urial_local.tasks.evaluate.leaderboard import Entry

    lines: list[_Line] = []
    answers: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        if not is_judged(name):
            found = unjudged(name, ids)
            answers |= dict.fromkeys(found["generators"], found)
            continue
        by_model: dict[str, list[Any]] = {}
        for j in read_judgements(name):
            if ids is None or j.id in ids:
                by_model.setdefault(j.generator, []).append(j)
        modes = {j.mode for rows in by_model.values() for j in rows}
        if modes and not modes & {"general", "safety"}:
            raise UsageError(
                f"{name} was judged for {', '.join(sorted(modes))}; a leaderboard shows the six"
                " aspects.",
                f"urial-local evaluate summarize {name}",
            )
        for model, rows in by_model.items():
            same = next((line for line in lines if line.takes(model, rows)), None)
            if same is None:
                lines.append(same := _Line(model, Path(name).name))
            same.rows += rows
    models = [line.model for line in lines]
    entries = []
    for line in lines:
        label = line.model if models.count(line.model) == 1 else f"{line.model} ({line.source})"
        told = answers.get(line.model, {})
        entries.append(Entry(label, line.rows, told.get("words"), told.get("ended")))
    others = (model for model in answers if model not in models)
    return entries + [
        Entry(model, [], answers[model]["words"], answers[model]["ended"]) for model in others
    ]


@dataclass
class _Line:
    """A model's judgements, as far as they belong together."""

    model: str
    source: str
    rows: list[Any] = field(default_factory=list)

    def takes(self, model: str, rows: Sequence[Any]) -> bool:
        """Whether these rows are the same model's, of the same judges, and new."""
        judges = {j.mode: j.judge for j in self.rows}
        keys = {(j.mode, j.id, j.repeat, j.turn, j.order) for j in self.rows}
        return model == self.model and not any(
            judges.get(j.mode, j.judge) != j.judge
            or (j.mode, j.id, j.repeat, j.turn, j.order) in keys
            for j in rows
        )


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
        say_json(found)
        return
    say(f"{found['shared']:,} answers judged by both")
    say(f"  {'aspect':<14}{'rows':>6}{'mean A':>8}{'mean B':>8}{'exact':>8}{'within 1':>10}"
        f"{'Spearman':>10}{'kappa':>8}")  # fmt: skip
    for name, m in found["aspects"].items():
        cells = [f"{m['n']:>6,}", f"{m['mean_a']:>8.2f}", f"{m['mean_b']:>8.2f}"]
        cells += [f"{100 * m['exact']:>7.1f}%", f"{100 * m['within_one']:>9.1f}%"]
        cells += [f"{'–' if v is None else f'{v:.2f}':>{w}}" for v, w in
                  ((m["spearman"], 10), (m["kappa"], 8))]  # fmt: skip
        say(f"  {name:<14}" + "".join(cells))
