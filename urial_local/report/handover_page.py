"""`report.html` of a run of handovers."""

from __future__ import annotations

from pathlib import Path

from urial_local.base.formats import counted, number, percent
from urial_local.report.sections import (
    Chart,
    Line,
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
from urial_local.tasks.interventions.handover_record import HandedOver
from urial_local.tasks.interventions.handover_summary import (
    Curve,
    HandoverRun,
    HandoverSummary,
)
from urial_local.tasks.interventions.points import Mean, Point

_CHARTS = (
    ("ended", "Answers that end by themselves", True, 1.0),
    ("refused", "Answers that refuse", True, None),
    ("f1", "Word F1 of what was written to the other's answer", False, 1.0),
    ("same", "Further tokens that are the same before the first difference", False, None),
    ("kl_base_aligned", "KL(base‖aligned) after the handover, nats", False, None),
    ("kl_aligned_base", "KL(aligned‖base) after the handover, nats", False, None),
)
_SHORT = {"sentence": "sent."}  # under an axis


def write_page(run: HandoverRun, summary: HandoverSummary) -> Path:
    """Write the page from a run's rows and its summary; returns its path."""
    config = run.config
    base, aligned = config.base.name, config.aligned.name
    note = "What the other model had written is in the colour of soft text."
    shown, cut = _answers(run)
    note += cut
    return write_sections(
        run.info,
        Page(
            kicker="Handover",
            title=f"{base} ⇄ {aligned}",
            lead=(
                f"{counted(summary.answers, 'answer')}. One model continues after the first tokens"
                " of the other's answer: 0 is its own answer; where the other's answer had no more"
                " tokens than that, it is handed over whole, and is in no comparison."
            ),
            sections=tuple(
                _section(side, [c for c in summary.curves if c.goes_on == side])
                for side in ("base", "aligned")
            ),
            about=tuple(model_lines(config.base, config.aligned)),
            answers=shown,
            answers_note=note,
        ),
    )


def _section(side: str, curves: list[Curve]) -> Section:
    gave = "aligned" if side == "base" else "base"
    names = tuple(_SHORT.get(a, a) for a in curves[0].points) if curves else ()
    head = columns(
        *("answers", "whole", "ended", "refused", "faulty", "tokens", "same", "identical"),
        *("word F1", "KL(b‖a)", "KL(a‖b)"),
        first="tokens given",
    )
    return Section(
        f"The {side} model continues after the {gave} one's tokens",
        tables=tuple(
            Table(
                head,
                tuple(
                    (after, f"{p.answers:,}", f"{c.whole[after]:,}", *_cells(p))
                    for after, p in c.points.items()
                ),
                title=f"base context: {c.context}",
            )
            for c in curves
        ),
        charts=tuple(
            Chart(
                title,
                f"tokens given of the {gave} answer",
                tuple(_line(c, name) for c in curves),
                names,
                share,
                top,
            )
            for name, title, share, top in _CHARTS
            if any(getattr(p, name).value is not None for c in curves for p in c.points.values())
        ),
    )


def _cells(p: Point) -> tuple[str, ...]:
    return (
        *(percent(m.value) for m in (p.ended, p.refused, p.faulty)),
        number(p.tokens.value, 1),
        number(p.same.value, 1),
        percent(p.identical.value),
        *(number(m.value, 3) for m in (p.f1, p.kl_base_aligned, p.kl_aligned_base)),
    )


def _line(curve: Curve, name: str) -> Line:
    points = list(curve.points.values())
    found: list[Mean] = [getattr(p, name) for p in points]
    return Line(curve.context, tuple(range(len(points))), tuple(m.value for m in found))


def _answers(run: HandoverRun) -> tuple[tuple[ShownRow, ...], str]:
    rows = run.rows()
    order = {after: i for i, after in enumerate(run.config.after)}
    by_id: dict[str, list[HandedOver]] = {}
    for row in sorted(rows.values(), key=lambda r: (r.number, r.id)):
        by_id.setdefault(row.id, []).append(row)
    chosen, cut = first_questions(by_id)
    shown = tuple(
        ShownRow(
            found[0].id,
            found[0].query,
            tuple(
                _shown(row)
                for row in sorted(
                    (row for row in found if not row.whole),
                    key=lambda r: (r.goes_on, r.context, order.get(r.after, 0)),
                )
            ),
        )
        for found in chosen
    )
    return shown, cut


def _shown(row: HandedOver) -> ShownAnswer:
    where = f", {row.context}" if row.context else ""
    given: list[Part] = [(row.answer[: row.given_characters], "given")]
    parts: list[Part] = [*given, (row.answer[row.given_characters :], "")]
    what = "own answer" if row.after == "0" else f"after {_after(row)}"
    note = f"{counted(len(row.answer_ids), 'token')}, {row.finish_reason}"
    if row.flags:
        note += f"; {', '.join(row.flags)}"
    return ShownAnswer(
        f"{row.goes_on}{where}: {what}", tuple(part for part in parts if part[0]), note
    )


def _after(row: HandedOver) -> str:
    return f"the first {row.after}" if row.after == "sentence" else counted(row.given, "token")
