"""`report.html` of a run of swaps."""

from __future__ import annotations

from pathlib import Path

from urial_local.base.formats import NOTHING, counted, number, percent, reach
from urial_local.report.sections import (
    Page,
    Part,
    Section,
    ShownAnswer,
    ShownRow,
    Table,
    columns,
    first_questions,
    model_lines,
    write_sections,
)
from urial_local.tasks.interventions.points import Mean
from urial_local.tasks.interventions.swap_record import Swapped
from urial_local.tasks.interventions.swap_summary import Arm, SwapRun, SwapSummary


def write_page(run: SwapRun, summary: SwapSummary) -> Path:
    """Write the page from a run's rows and its summary; returns its path."""
    config = run.config
    note = "Swapped tokens are marked."
    shown, cut = _answers(run)
    note += cut
    other = "aligned" if config.writer == "base" else "base"
    return write_sections(
        run.info,
        Page(
            kicker="Swap",
            title=f"{config.base.name} ⇄ {config.aligned.name}",
            lead=(
                f"{counted(summary.answers, 'answer')}. The {config.writer} model writes, and the"
                f" {other} one's token is put where the criterion holds, within a budget of"
                f" {config.budget} of the positions."
                if config.budget.endswith("%")
                else f"{counted(summary.answers, 'answer')}. The {config.writer} model writes, and"
                f" the {other} one's token is put where the criterion holds, at most"
                f" {config.budget} times an answer."
            ),
            sections=tuple(_section(summary, context) for context in config.contexts),
            about=tuple(model_lines(config.base, config.aligned)),
            answers=shown,
            answers_note=note,
        ),
    )


def _section(summary: SwapSummary, context: str) -> Section:
    head = columns(
        *("answers", "swapped", "changed", "value", "ended", "refused", "faulty", "tokens"),
        *("same", "word F1", "95 %"),
        first="arm",
    )
    return Section(
        f"Base context: {context}",
        (
            "Swapped is the share of positions at which the other's token was put, changed the"
            " share at which that was not the writer's first choice, value the mean of the"
            " criterion there. Same (tokens before the first difference) and word F1, with its"
            " 95 % interval, compare with the other model's own answer. A random arm swaps as large"
            " a share of each answer as its criterion did.",
        ),
        (Table(head, tuple(_row(a) for a in summary.arms if a.context == context)),),
    )


def _row(arm: Arm) -> tuple[str, ...]:
    p = arm.point
    return (
        arm.name,
        f"{p.answers:,}",
        percent(arm.swapped.value),
        percent(arm.changed.value),
        number(arm.value, 3),
        *(percent(m.value) for m in (p.ended, p.refused, p.faulty)),
        number(p.tokens.value, 1),
        number(p.same.value, 1),
        number(p.f1.value, 3),
        _reach(p.f1),
    )


def _reach(found: Mean) -> str:
    if found.interval is None:
        return NOTHING
    return reach((number(found.interval.low, 3), number(found.interval.high, 3)))


def _answers(run: SwapRun) -> tuple[tuple[ShownRow, ...], str]:
    order = {name: i for i, name in enumerate(run.arms())}
    by_id: dict[str, list[Swapped]] = {}
    for row in sorted(run.rows().values(), key=lambda r: (r.number, r.id)):
        by_id.setdefault(row.id, []).append(row)
    chosen, cut = first_questions(by_id)
    shown = tuple(
        ShownRow(
            found[0].id,
            found[0].query,
            tuple(
                _shown(row) for row in sorted(found, key=lambda r: (r.context, order.get(r.arm, 0)))
            ),
        )
        for found in chosen
    )
    return shown, cut


def _shown(row: Swapped) -> ShownAnswer:
    parts: list[Part] = []
    at = 0
    for span in row.spans:
        start, end = max(at, span[0]), max(at, span[1])
        parts += [(row.answer[at:start], ""), (row.answer[start:end], "other")]
        at = end
    parts.append((row.answer[at:], ""))
    note = f"{counted(len(row.answer_ids), 'token')}, {row.finish_reason}"
    if row.at:
        note += f"; {counted(len(row.at), 'position')} swapped, {row.changed:,} changed"
    if row.flags:
        note += f"; {', '.join(row.flags)}"
    name = f"{row.context}: {row.arm}" if row.context else row.arm
    return ShownAnswer(name, tuple(part for part in parts if part[0]), note)
