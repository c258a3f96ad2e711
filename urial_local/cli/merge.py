"""`urial-local merge`: the shards of a run, made on several machines, as one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from urial_local.base.errors import Unfinished, UsageError
from urial_local.cli.plumbing.data_options import output_option

if TYPE_CHECKING:
    from urial_local.records.merge import Merged


MOST = 20  # commands that are shown


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False))
@output_option("The merged run.")
def command(runs: tuple[Path, ...], output: Path) -> None:
    """Merge RUNS that were made with --shard into one, with one page; benchmarks cell by cell.

    Shards that are missing, or lack rows, are named with the command that makes them; the exit code
    is then 75. Merge again once they are there: only what is new is added.

    \b
    Examples:
      urial-local generate q.json -m base.gguf --shard 1/2 -o part1
      urial-local generate q.json -m base.gguf --shard 2/2 -o part2
      urial-local merge part1 part2 -o whole
      urial-local merge run-shard-*/ -o whole
    """
    from urial_local.cli.plumbing import (
        benchmark_results,
        evaluate_results,
        shift_interventions,
        shift_results,
        shift_texts,
    )
    from urial_local.cli.plumbing.answered import PAGE_ROWS, answers
    from urial_local.cli.plumbing.output import Output
    from urial_local.records.generated import Generated
    from urial_local.records.judged import KEY as EVALUATE_KEY
    from urial_local.records.judged import JudgedRow
    from urial_local.records.merge import merge_runs
    from urial_local.records.runs import is_run, read_run
    from urial_local.tasks.generate.job import KEY as GENERATE_KEY
    from urial_local.tasks.interventions.handover_record import KEY as HANDOVER_KEY
    from urial_local.tasks.interventions.handover_record import HandedOver
    from urial_local.tasks.interventions.swap_record import KEY as SWAP_KEY
    from urial_local.tasks.interventions.swap_record import Swapped
    from urial_local.tasks.shift.record import KEY as SHIFT_KEY
    from urial_local.tasks.shift.record import Answer
    from urial_local.tasks.shift_texts.record import KEY as TEXTS_KEY
    from urial_local.tasks.shift_texts.record import ScoredText

    # A folder of a shard that has not begun is told as missing, below; alone it is a mistake.
    runs = tuple(run for run in runs if is_run(run)) or runs
    kinds = {read_run(run).task for run in runs}
    if len(kinds) > 1:
        raise UsageError(f"These are runs of different kinds: {', '.join(sorted(kinds))}.")
    task = kinds.pop()
    if task == "benchmark":
        benchmark_results.merge(output, runs, Output())
        return
    kinds_of_rows = {
        "generate": (GENERATE_KEY, Generated.read),
        "shift": (SHIFT_KEY, Answer.read),
        "shift-handover": (HANDOVER_KEY, HandedOver.read),
        "shift-swap": (SWAP_KEY, Swapped.read),
        "shift-texts": (TEXTS_KEY, ScoredText.read),
        "evaluate": (EVALUATE_KEY, JudgedRow.read),
    }
    if task not in kinds_of_rows:
        raise UsageError(f"{runs[0]} is a run of {task!r}, which cannot run in shards.")
    out = Output()
    merged = merge_runs(output, runs, *kinds_of_rows[task])
    if task == "shift":
        shift_results.print_summary(output, shift_results.finish(output), out)
    elif task == "shift-texts":
        shift_texts.print_summary(output, shift_texts.finish(output), out)
    elif task in ("shift-handover", "shift-swap"):
        shift_interventions.finish(task.removeprefix("shift-"), output, out)
    elif task == "evaluate":
        evaluate_results.print_results(output, evaluate_results.finish(output), out)
    else:
        page = merged.rows <= PAGE_ROWS
        answers((output,), output / "report.html", out, page)
    tell_lacking(runs, merged)


def tell_lacking(runs: Sequence[Path], merged: Merged) -> None:
    """Raises Unfinished, with what there is to run, where shards are missing or lack rows."""
    from urial_local.records.merge import command_for, folder_of
    from urial_local.records.runs import read_run

    infos = [read_run(run) for run in runs]
    said, hints = [], []
    if merged.missing_shards:
        said.append(f"Missing: shard {', '.join(merged.missing_shards)}.")
        hints += [
            command_for(infos[0], shard, folder_of(shard, infos)) for shard in merged.missing_shards
        ]
    for info in merged.unfinished:
        said.append(f"{info.folder} is unfinished.")
        hints.append(command_for(info, info.shard, info.folder) if info.shard else "")
    if said:
        hints = [line for line in hints if line]
        more = [f"… and {len(hints) - MOST:,} more"] if len(hints) > MOST else []
        then = ["Then merge again."] if hints else []
        raise Unfinished(" ".join(said), "\n".join([*hints[:MOST], *more, *then]))
