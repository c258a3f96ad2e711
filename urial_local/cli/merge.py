"""`urial-local merge`: the shards of a run, made on several machines, as one run."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=FOLDER)
@click.option(
    "-o", "--output", required=True, type=FOLDER, metavar="FOLDER", help="The merged run."
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(runs: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Put RUNS that were made with --shard together, with one summary and page.

    \b
    Example:
      urial-local shift q.json --base b.gguf --aligned a.gguf --shard 1/2 -o part1
      urial-local shift q.json --base b.gguf --aligned a.gguf --shard 2/2 -o part2
      urial-local merge part1 part2 -o whole
    """
    from urial_local.cli.shift_results import finish, print_summary
    from urial_local.cli.terminal import note
    from urial_local.records.merge import merge_runs
    from urial_local.records.runlog import read_run
    from urial_local.tasks.shift.record import KEY
    from urial_local.tasks.shift.results import aligned_names

    for run in runs:
        aligned_names(read_run(run))  # is it a run of shift?
    merged = merge_runs(output, runs, KEY)
    if merged.missing_shards:
        note(f"Not among them: shard {', '.join(merged.missing_shards)}.")
    print_summary(output, finish(output), as_json)
