"""`urial-local report`: a run's summary and page, made anew from its rows."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--csv", "as_csv", is_flag=True, help="Also write positions.csv.")
@click.option("--figures", is_flag=True, help="Also write figures as SVG files ([report] extra).")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(run: Path, as_csv: bool, figures: bool, as_json: bool) -> None:
    """Make summary.json and report.html of RUN from the rows it has, finished or not.

    \b
    Example:
      urial-local report run --csv
    """
    from urial_local.cli.shift import require_matplotlib
    from urial_local.cli.shift_results import finish, print_summary

    if figures:
        require_matplotlib()
    print_summary(run, finish(run, csv=as_csv, figures=figures), as_json)
