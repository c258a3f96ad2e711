"""The course of a run of `evaluate`: the judge, the rows, and how far these hang on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urial_local.cli.plumbing.options import runtime_choice

if TYPE_CHECKING:
    from urial_local.cli.plumbing.crew_options import Workers
    from urial_local.cli.plumbing.running import Tally
    from urial_local.tasks.evaluate.crew import EvaluateSpec, Judges
    from urial_local.tasks.evaluate.job import Evaluation, Plan, Prepared
    from urial_local.tasks.evaluate.judge import Judge
    from urial_local.tasks.evaluate.setup import JudgeOptions, Listener


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
    rows: list[Prepared],
    folder: Path,
    wording: Plan,
    options: Mapping[str, Any],
    workers: Workers | None = None,
) -> Tally:
    """Judge the rows that the folder lacks; returns what was done. `workers`: several judge."""
    from urial_local.cli.plumbing.running import Tally, end, write_rows
    from urial_local.cli.plumbing.session import tell_about_check, tell_about_context
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.cli.plumbing.terminal import StatusLine, note
    from urial_local.records.judged import KEY, JudgedRow
    from urial_local.records.runlog import RunLog
    from urial_local.tasks.evaluate.job import run_config, todo
    from urial_local.tasks.evaluate.setup import Listener

    tell = Listener(
        check=tell_about_check,
        found=lambda file: tell_about_context(file.header, options["ctx_size"]),
        prefill=StatusLine().prefill,
    )
    asked = judge_options(options)
    opening = judges(asked, rows, tell, workers) if workers else one_judge(asked, rows, tell)
    with stoppable() as stop, opening as (judge, begin):
        config = run_config(judge, wording, rows, options["shard"])
        with RunLog(folder, config, KEY, JudgedRow.read) as log:
            lacking = todo(log, rows)
            if there := len(rows) - len(lacking):
                note(f"{there:,} of them are already there.")
            if workers and not lacking:  # none of them need open a model
                end(log, Tally(), len(rows))
                return Tally()
            work = begin()
            tally = write_rows(
                log, work.rows(lacking), work, stop, total=len(rows), unit="row",
                figures=lambda t: {"failed": f"{t.errors:,}"},
            )  # fmt: skip
            together = not tally.stopped and getattr(judge, "together", 1) > 1
            end(log, tally, len(rows), **(neighbours(work, stop) if together else {}))
        return tally


@contextmanager
def one_judge(
    asked: JudgeOptions, rows: list[Prepared], tell: Listener
) -> Iterator[tuple[Judge, Callable[[], Evaluation]]]:
    """A judge that this process asks, and what goes through it."""
    from urial_local.tasks.evaluate.job import Evaluation
    from urial_local.tasks.evaluate.setup import open_judge

    with open_judge(asked, rows, tell) as judge:
        yield judge, lambda: Evaluation(judge)


@contextmanager
def judges(
    asked: JudgeOptions, rows: list[Prepared], tell: Listener, workers: Workers
) -> Iterator[tuple[EvaluateSpec, Callable[[], Judges]]]:
    """What is known of a judge that workers open, and they, where they are wanted."""
    from urial_local.cli.plumbing.terminal import note
    from urial_local.tasks.evaluate.crew import Judges, spec_of
    from urial_local.tasks.evaluate.setup import fitting

    spec = spec_of(*fitting(asked, rows, tell), workers.threads, workers.on_cpu)
    yield spec, lambda: Judges(spec, workers.hands, note)


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
