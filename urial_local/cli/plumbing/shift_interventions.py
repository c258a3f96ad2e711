"""What `shift --handover` and `--swap`, `merge` and `report` do: rows, summary, page, table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urial_local.base.formats import NOTHING, counted, number, percent
from urial_local.cli.plumbing.data_options import fields, selection
from urial_local.cli.plumbing.output import Output
from urial_local.cli.plumbing.tables import Column, figures, table_lines

if TYPE_CHECKING:
    from urial_local.records.runs import FailedRow
    from urial_local.tasks.interventions.handover_summary import HandoverSummary
    from urial_local.tasks.interventions.points import Mean, Point
    from urial_local.tasks.interventions.swap_summary import Arm, SwapSummary
    from urial_local.tasks.shift.setup import ShiftOptions

DEFAULT_BUDGET = "5%"


def run(
    mode: str, questions: str, output: Path, out: Output, asked: ShiftOptions,
    options: Mapping[str, Any],
) -> int:  # fmt: skip
    """Make the rows that a run lacks, and its summary and page; returns how many rows it still
    lacks. Raises Interrupted where it was stopped."""
    from dataclasses import replace

    from urial_local.cli.plumbing.running import end, write_rows
    from urial_local.cli.plumbing.session import tell_about_context
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.records.datasets import read_items
    from urial_local.records.runlog import RunLog, RunRows
    from urial_local.runtime.swaps import Budget
    from urial_local.tasks.interventions import handover, handover_record, swap, swap_record
    from urial_local.tasks.interventions.pair import check
    from urial_local.tasks.interventions.prefix import handovers
    from urial_local.tasks.shift.setup import set_up

    # What is written wrong is told before any model is looked for.
    places = handovers(options["handover"]) if mode == "handover" else ()
    budget = Budget.parse(options["budget"] or DEFAULT_BUDGET)
    criteria = swap.criteria(options["swaps"], budget)
    if mode == "swap":  # what is swapped at random has a seed, greedy or not
        asked = replace(asked, sampling=replace(asked.sampling, seed=options["seed"]))
    items = read_items(questions, fields(options), selection(options), options["format"])
    setup = set_up(
        asked, lambda path: out.note(f"Testing {path.name} once in a child process first.")
    )
    check(setup)
    for file in (setup.base, *setup.aligned):
        tell_about_context(file.header, setup.options.runtime.ctx_size)
    for remark in setup.remarks:
        out.note(remark)
    plan: Any
    record: Any
    key: tuple[str, ...]
    todo: Any
    course: Any
    if mode == "handover":
        plan, record = handover.HandoverPlan(setup, places), handover_record.HandedOver
        key, todo, course = handover_record.KEY, handover.todo, handover.Handover
    else:
        plan = swap.SwapPlan(setup, criteria, budget, options["writer"])
        record, key = swap_record.Swapped, swap_record.KEY
        todo, course = swap.todo, swap.Swap
    steps = plan.steps(items)
    with RunLog(output, plan.config(), key, record.read) as log:
        lacking = todo(log, steps)
        if there := len(steps) - len(lacking):
            out.note(f"{there:,} of {counted(len(steps), 'row is', 'rows are')} already there.")
        work = course(plan, items, RunRows(output, key, record.read))
        with stoppable() as stop:
            tally = write_rows(
                log, work.make(lacking), work, stop, total=len(steps), unit="answer",
                figures=lambda t: {"tokens": f"{t.tokens:,}"},
            )  # fmt: skip
        if lacking:
            end(log, tally, len(steps))
        failed = len(todo(log, steps))
    finish(mode, output, out)
    return failed


def finish(mode: str, folder: Path, out: Output) -> None:
    """Make summary.json and report.html from the rows, and print the table."""
    from urial_local.report import handover_page, swap_page
    from urial_local.tasks.interventions import handover_summary, swap_summary

    if mode == "handover":
        run = handover_summary.HandoverRun(folder)
        found = handover_summary.write_summary(run)
        handover_page.write_page(run, found)
        out.lines(handover_lines(found), found.as_json())
        _tell(folder, found.errors, out)
        return
    other = swap_summary.SwapRun(folder)
    swaps = swap_summary.write_summary(other)
    swap_page.write_page(other, swaps)
    out.lines(swap_lines(swaps), swaps.as_json())
    _tell(folder, swaps.errors, out)


def _tell(folder: Path, errors: tuple[FailedRow, ...], out: Output) -> None:
    if errors:
        failed = counted(len(errors), "row")
        out.tell(f"{failed} failed. The first, {errors[0].id}: {errors[0].error}")
    out.tell(f"Open {folder / 'report.html'} in a browser.")


HANDOVER = (
    Column("after", 9),
    *figures(("answers", 9), ("whole", 7), ("ended", 9), ("refused", 9), ("faulty", 9)),
    *figures(("tokens", 9), ("same", 8), ("identical", 11), ("word F1", 9), ("KL(b‖a)", 9)),
    *figures(("KL(a‖b)", 9)),
)


def handover_lines(summary: HandoverSummary) -> list[str]:
    lines: list[str] = []
    for curve in summary.curves:
        writes, gave = ("base", "aligned") if curve.goes_on == "base" else ("aligned", "base")
        lines += [f"The {writes} continues after the {gave}'s tokens ({curve.context})", ""]
        rows = [
            (
                after,
                f"{p.answers:,}",
                f"{curve.whole[after]:,}",
                *_shares(p),
                _plain(p.tokens, 1),
                _plain(p.same, 1),
                percent(p.identical.value),
                _plain(p.f1, 3),
                _plain(p.kl_base_aligned, 3),
                _plain(p.kl_aligned_base, 3),
            )
            for after, p in curve.points.items()
        ]
        lines += [*table_lines(HANDOVER, rows, indent=2), ""]
    return lines[:-1]


SWAP = (
    Column("arm", 22),
    *figures(("answers", 9), ("swapped", 9), ("changed", 9), ("value", 8), ("ended", 9)),
    *figures(("refused", 9), ("faulty", 9), ("tokens", 9), ("same", 8), ("word F1", 9)),
)


def swap_lines(summary: SwapSummary) -> list[str]:
    lines: list[str] = []
    for context in dict.fromkeys(arm.context for arm in summary.arms):
        lines += [f"The {summary.config.get('writer')} writes, {context}", ""]
        rows = [_arm(arm) for arm in summary.arms if arm.context == context]
        lines += [*table_lines(SWAP, rows, indent=2), ""]
    return lines[:-1]


def _arm(arm: Arm) -> tuple[str, ...]:
    return (
        arm.name,
        f"{arm.point.answers:,}",
        percent(arm.swapped.value),
        percent(arm.changed.value),
        number(arm.value, 3),
        *_shares(arm.point),
        _plain(arm.point.tokens, 1),
        _plain(arm.point.same, 1),
        _plain(arm.point.f1, 3),
    )


def _shares(found: Point) -> tuple[str, ...]:
    return tuple(percent(m.value) for m in (found.ended, found.refused, found.faulty))


def _plain(found: Mean, digits: int) -> str:
    return NOTHING if found.value is None else number(found.value, digits)
