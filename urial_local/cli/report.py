"""`urial-local report`: the page of a run, or of several, made anew from their rows."""

from __future__ import annotations

from pathlib import Path

import click

from urial_local.base.errors import UsageError
from urial_local.cli.plumbing.output import Output, json_option


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the page goes, except for shift.  [default: report.html in the first run]",
)
@click.option("--csv", is_flag=True, help="shift: also write positions.csv.")
@click.option(
    "--figures", is_flag=True, help="shift: also write figures as SVG files ([report] extra)."
)
@json_option("Print the summary as JSON.")
def command(
    runs: tuple[Path, ...], output: Path | None, csv: bool, figures: bool, out: Output
) -> None:
    """Make the page of RUNS from the rows there are, finished or not.

    A shift run or a benchmark gets a new summary and page; generation runs, or judged runs and
    JUST-EVAL's judged files, get one page that shows them side by side.

    \b
    Examples:
      urial-local report shift-run --csv
      urial-local report plain urial aligned -o answers.html
    """
    from urial_local.cli.plumbing.answered import answers
    from urial_local.records.runs import read_run

    tasks = {"evaluate" if run.is_file() else read_run(run).task for run in runs}
    if tasks == {"generate"}:
        answers(runs, output or runs[0] / "report.html", out)
    elif tasks == {"shift"} and len(runs) == 1:
        from urial_local.cli.plumbing.shift_results import finish, print_summary, require_matplotlib

        if figures:
            require_matplotlib()
        print_summary(runs[0], finish(runs[0], csv=csv, figures=figures), out)
    elif tasks == {"shift-texts"} and len(runs) == 1:
        from urial_local.cli.plumbing import shift_texts

        shift_texts.print_summary(runs[0], shift_texts.finish(runs[0]), out)
    elif tasks <= {"shift-handover", "shift-swap"} and len(runs) == 1:
        from urial_local.cli.plumbing import shift_interventions

        shift_interventions.finish(tasks.pop().removeprefix("shift-"), runs[0], out)
    elif tasks == {"benchmark"} and len(runs) == 1:
        from urial_local.cli.plumbing import benchmark_results

        found = benchmark_results.finish(runs[0], output)
        benchmark_results.print_results(runs[0], found, out, output)
    elif tasks == {"evaluate"}:
        judged(runs, output, out)
    else:
        raise UsageError(
            "A page shows one shift run or benchmark, several generation runs, or several judged"
            " ones.",
            "Several models are compared by shift and benchmark itself: repeat --aligned or -m.",
        )


def judged(runs: tuple[Path, ...], output: Path | None, out: Output) -> None:
    """The page of judged runs; one alone also gets its summary anew."""
    from urial_local.cli.plumbing.evaluate_lines import lines_of
    from urial_local.cli.plumbing.evaluate_results import finish, print_results
    from urial_local.report.judged_runs import write_page
    from urial_local.tasks.evaluate.results import summary_of

    if len(runs) == 1 and output is None and runs[0].is_dir():
        print_results(runs[0], finish(runs[0]), out)
        return
    if output is None:
        if runs[0].is_file():
            raise UsageError("The page of a file needs an output path.", "Add -o FILE.html.")
        output = runs[0] / "report.html"
    write_page(runs, output)
    found = {str(run): summary_of([str(run)]) for run in runs}
    out.lines(
        (line for summary in found.values() for line in [*lines_of(summary), ""]),
        {name: summary.as_json() for name, summary in found.items()},
    )
    out.tell(f"Open {output} in a browser.")
