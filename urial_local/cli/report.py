"""`urial-local report`: the page of a run, or of several, made anew from their rows."""

from __future__ import annotations

from pathlib import Path

import click

from urial_local.base.errors import UsageError
from urial_local.base.terminal import one_line
from urial_local.cli.plumbing.cells import padded, width_of
from urial_local.cli.plumbing.terminal import say, say_json, tell


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the page of generated or judged runs goes.  [default: report.html in the first]",
)
@click.option("--csv", "as_csv", is_flag=True, help="shift: also write positions.csv.")
@click.option("--figures", is_flag=True, help="shift: also write figures ([report] extra).")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    runs: tuple[Path, ...], output: Path | None, as_csv: bool, figures: bool, as_json: bool
) -> None:
    """Make the page of RUNS from the rows there are, finished or not.

    A shift run gets its summary and page anew; generation runs, or judged runs and JUST-EVAL's
    judged files, get one page that shows them side by side.

    \b
    Examples:
      urial-local report shift-run --csv
      urial-local report plain urial aligned -o answers.html
    """
    from urial_local.records.runs import read_run

    tasks = {"evaluate" if run.is_file() else read_run(run).task for run in runs}
    if tasks == {"generate"}:
        answers(runs, output or runs[0] / "report.html", as_json)
    elif tasks == {"shift"} and len(runs) == 1:
        from urial_local.cli.plumbing.shift_results import finish, print_summary
        from urial_local.cli.shift import require_matplotlib

        if figures:
            require_matplotlib()
        print_summary(runs[0], finish(runs[0], csv=as_csv, figures=figures), as_json)
    elif tasks == {"evaluate"}:
        judged(runs, output, as_json)
    else:
        raise UsageError(
            "A page shows one shift run, several generation runs, or several judged ones.",
            "Several aligned models are compared by shift itself: repeat --aligned.",
        )


def judged(runs: tuple[Path, ...], output: Path | None, as_json: bool) -> None:
    """The page of judged runs; one alone also gets its summary anew."""
    from urial_local.cli.plumbing.evaluate_lines import lines_of
    from urial_local.cli.plumbing.evaluate_results import finish, print_results
    from urial_local.report.judged_runs import write_page
    from urial_local.tasks.evaluate.results import summary_of

    if len(runs) == 1 and output is None and runs[0].is_dir():
        print_results(runs[0], finish(runs[0]), as_json)
        return
    if output is None:
        if runs[0].is_file():
            raise UsageError("The page of a file needs a place.", "Add -o FILE.html.")
        output = runs[0] / "report.html"
    write_page(runs, output)
    found = {str(run): summary_of([str(run)]) for run in runs}
    if as_json:
        say_json({name: summary.as_json() for name, summary in found.items()})
    else:
        for summary in found.values():
            say("\n".join([*lines_of(summary), ""]))
    tell(f"Open {output} in a browser.")


def answers(runs: tuple[Path, ...], path: Path, as_json: bool) -> None:
    """The page of generation runs, and a table of them to stdout."""
    from urial_local.records.generated import Generated
    from urial_local.records.runs import latest_rows
    from urial_local.report.answers_page import write_answers_page
    from urial_local.tasks.generate.job import KEY
    from urial_local.tasks.generate.summary import summarise

    found = {str(run): summarise(latest_rows(run, KEY, Generated.read)) for run in runs}
    write_answers_page(runs, path)
    if as_json:
        say_json(found)
    else:
        for line in table(found):
            say(line)
    tell(f"Open {path} in a browser.")


def table(found: dict[str, dict[str, object]]) -> list[str]:
    """Runs by line: counts, shares, mean length."""
    names = ["answered", "failed", "ended", "empty", "truncated", "repetitive", "runaway", "words"]
    if any("tokens_per_second" in values for values in found.values()):
        names.append("tokens_per_second")
    heads = [n.replace("tokens_per_second", "tokens/s") for n in names]
    width = max([*(width_of(one_line(name)) for name in found), 3])
    lines = ["run".ljust(width) + "".join(f"{n:>12}" for n in heads)]
    for run, values in found.items():
        cells = [_cell(name, values.get(name)) for name in names]
        lines.append(padded(one_line(run), width) + "".join(f"{c:>12}" for c in cells))
    return lines


def _cell(name: str, value: object) -> str:
    if value is None:
        return "–"
    if name in ("answered", "failed"):
        return f"{value:,}"
    number = float(str(value))
    return f"{number:.1f}" if name in ("words", "tokens_per_second") else f"{100 * number:.1f}%"
