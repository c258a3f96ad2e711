"""The course of a run of `evaluate`: the judge, the rows, and how far these hang on each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urial_local.cli.plumbing.options import runtime_choice

if TYPE_CHECKING:
    from urial_local.cli.plumbing.running import Tally
    from urial_local.tasks.evaluate.job import Plan, Prepared
    from urial_local.tasks.evaluate.setup import JudgeOptions


def judge_options(options: Mapping[str, Any]) -> JudgeOptions:
    """The command's options as the task takes them."""
    from urial_local.tasks.evaluate.local_judge import LocalOptions
    from urial_local.tasks.evaluate.setup import JudgeOptions

    return JudgeOptions(
        name=options["judge"],
        parallel=options["parallel"],
        local=LocalOptions(
            prompt=options["judge_prompt"],
            expected=options["expected"],
            reason_tokens=options["reason_tokens"],
            exact=options["exact"],
            runtime=runtime_choice(options),
        ),
        base_url=options["base_url"],
        max_tokens=options["max_tokens"],
    )


def judge_rows(
    rows: list[Prepared], folder: Path, wording: Plan, options: Mapping[str, Any]
) -> Tally:
    """Judge the rows that the folder lacks; returns what was done."""
    from urial_local.cli.plumbing.running import end, write_rows
    from urial_local.cli.plumbing.session import tell_about_check, tell_about_context
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.cli.plumbing.terminal import StatusLine, note
    from urial_local.records.judged import KEY, JudgedRow
    from urial_local.records.runlog import RunLog
    from urial_local.tasks.evaluate.job import Evaluation, run_config, todo
    from urial_local.tasks.evaluate.setup import Listener, open_judge

    tell = Listener(
        check=tell_about_check,
        found=lambda file: tell_about_context(file.header, options["ctx_size"]),
        prefill=StatusLine().prefill,
    )
    with stoppable() as stop, open_judge(judge_options(options), rows, tell) as judge:
        config = run_config(judge, wording, rows, options["shard"])
        with RunLog(folder, config, KEY, JudgedRow.read) as log:
            lacking = todo(log, rows)
            if there := len(rows) - len(lacking):
                note(f"{there:,} of them are already there.")
            work = Evaluation(judge)
            tally = write_rows(
                log, work.rows(lacking), work, stop, total=len(rows), unit="row",
                figures=lambda t: {"failed": f"{t.errors:,}"},
            )  # fmt: skip
            together = not tally.stopped and getattr(judge, "together", 1) > 1
            end(log, tally, len(rows), **(neighbours(work, stop) if together else {}))
        return tally


def neighbours(evaluation: Any, stop: Any) -> dict[str, float]:
    """Judges a few rows again alone; returns what changed, for run.json. Nothing where it is
    stopped before one is done."""
    from urial_local.runtime.sequences import Aborted
    from urial_local.tasks.evaluate.neighbours import Effect

    found = Effect()
    try:
        for one in evaluation.alone() if not stop.asked else ():
            found += one
            if stop.asked:
                break
    except (Aborted, KeyboardInterrupt):
        pass  # the rows are judged; what is missing is a part of the measurement
    return found.figures() if found.answers else {}
