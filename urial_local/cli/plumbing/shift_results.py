"""What `shift`, `merge` and `report` do with a shift run's rows: summary, page, table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from urial_local.base.errors import UsageError
from urial_local.base.formats import NOTHING, counted, number, percent, reach
from urial_local.cli.plumbing.output import Output
from urial_local.cli.plumbing.tables import Column, figures, table_lines

if TYPE_CHECKING:
    from urial_local.cli.plumbing.crew_options import Workers
    from urial_local.records.datasets import Item
    from urial_local.tasks.shift.measures import AlignedSummary, ContextSummary, Share, ShiftSummary
    from urial_local.tasks.shift.setup import Setup


def analyse(
    setup: Setup,
    items: Sequence[Item],
    given: Mapping[str, str] | None,
    output: Path,
    workers: Workers | None = None,
) -> int:
    """Make the rows that a run folder lacks; returns how many of them it still lacks, since they
    failed. `workers`: several make them. Raises Interrupted where it was stopped."""
    from urial_local.cli.plumbing.running import end, write_rows
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.cli.plumbing.terminal import note
    from urial_local.records.runlog import RunLog
    from urial_local.tasks.crew.driver import Crew
    from urial_local.tasks.shift.analysis import Analysis, todo
    from urial_local.tasks.shift.crew import spec_of
    from urial_local.tasks.shift.record import KEY, Answer
    from urial_local.tasks.shift.results import write_tokens

    total = len(items) * len(setup.aligned) * setup.options.samples
    with RunLog(output, setup.config(given is not None), KEY, Answer.read) as log:
        lacking = todo(log, setup, items, given)
        if there := total - len(lacking):
            note(f"{there:,} of {counted(total, 'row is', 'rows are')} already there.")
        write_tokens(output, setup)
        with stoppable() as stop:
            work: Analysis | Crew = Analysis(setup, items, given)
            if workers and lacking:
                each = workers.threads, workers.on_cpu
                work = Crew(spec_of(setup, items, given, lacking, *each), workers.hands(), note)
            tally = write_rows(
                log, work.rows(lacking), work, stop, total=total, unit="answer",
                figures=lambda t: {"tokens": f"{t.tokens:,}"},
            )  # fmt: skip
        if lacking:
            end(log, tally, total)
        else:
            log.end_session(finished=True)
        return len(todo(log, setup, items, given))


def require_matplotlib() -> None:
    """Before anything is computed. Raises UsageError where the extra is not installed."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "--figures needs matplotlib, which is not installed.",
            "pip install 'urial-local[report]'",
        )


def finish(folder: Path, *, csv: bool = False, figures: bool = False) -> ShiftSummary:
    """Make summary.json and report.html from the rows; returns the summary."""
    from urial_local.report.shift_page import write_page
    from urial_local.tasks.shift.results import ShiftRun, write_csv, write_summary

    run = ShiftRun(folder)
    summary = write_summary(run)
    write_page(run, summary)
    if csv:
        write_csv(run, folder / "positions.csv")
    if figures:
        from urial_local.report.figures import write_figures

        write_figures(folder / "figures", summary.aligned)
    return summary


def print_summary(folder: Path, summary: ShiftSummary, out: Output) -> None:
    """To stdout: the shares of each context, or all of it as JSON; to stderr: where the page is."""
    out.lines(summary_lines(summary), summary.as_json())
    if summary.errors:
        first = summary.errors[0]
        failed = counted(len(summary.errors), "row")
        out.tell(f"{failed} failed. The first, {first.id}: {first.error}")
    if nowhere := unmeasured(summary):
        out.tell(
            f"Nothing was measured in {', '.join(nowhere)}: a model's logits are not finite at any"
            " position. Is one of the files damaged?"
        )
    out.tell(f"Open {folder / 'report.html'} in a browser.")


def unmeasured(summary: ShiftSummary) -> list[str]:
    """The contexts in which no position of any answer has two distributions."""
    several = len(summary.aligned) > 1
    return [
        f"{aligned}, {name}" if several else name
        for aligned, found in summary.aligned.items()
        for name, context in found.contexts.items()
        if context.positions and not context.classes.positions
    ]


def summary_lines(summary: ShiftSummary) -> list[str]:
    """A table of shares for each aligned model."""
    lines: list[str] = []
    for aligned, found in summary.aligned.items():
        lines += [
            f"{summary.base} → {aligned}: {counted(found.answers, 'answer')},"
            f" {counted(found.positions, 'position')},"
            f" {found.ended:,} ended by themselves",
            "",
            *_context_lines(found),
        ]
        lines += [*_key(found), "", *_end_lines(found), *_token_lines(found), ""]
        lines += [*unsure_lines(found), ""]
        lines += [*finer_lines(found), "", *sampled_lines(found)]
        lines += [*_unsound_lines(found), *_noise_lines(found)]
    return lines[:-1]


SHARES = (
    Column("base context", 22),
    *figures(("unshifted", 11), ("marginal", 10), ("shifted", 9), ("95 %", 16)),
    *figures(("mean KL", 9), ("repaired", 10)),
)


def _context_lines(found: AlignedSummary) -> list[str]:
    rows = []
    for name, context in found.contexts.items():
        rows.append(_context_row(name, context))
        if context.classes.not_in_base.count:
            rows.append((f"  not in base: {percent(context.classes.not_in_base.share)}",))
    return table_lines(SHARES, rows, indent=2)


def _context_row(name: str, context: ContextSummary) -> tuple[str, ...]:
    kl = context.kl.mean
    return (
        name,
        percent(context.unshifted.share),
        percent(context.marginal.share),
        percent(context.shifted.share),
        _interval(context.shifted),
        "" if kl is None else number(kl, 3),
        percent(context.repaired.share) if context.repaired else "",
    )


def _interval(share: Share) -> str:
    found = share.interval
    return NOTHING if found is None else reach((percent(found.low), percent(found.high)))


def _key(found: AlignedSummary) -> list[str]:
    """What a missing interval means, where one is missing."""
    from urial_local.tasks.intervals import NO_INTERVAL

    missing = any(context.shifted.interval is None for context in found.contexts.values())
    return [f"  {NO_INTERVAL.format('answers')}"] if missing else []


def _end_lines(found: AlignedSummary) -> list[str]:
    parts = [
        f"{name} {percent(context.classes_of_end.shifted.share)}"
        for name, context in found.contexts.items()
        if context.classes_of_end.positions
    ]
    return [f"  end of answer, shifted: {', '.join(parts)}"] if parts else []


def _token_lines(found: AlignedSummary) -> list[str]:
    most = [repr(token.text) for token in found[found.reference].tokens.by_count[:10]]
    return [f"  most shifted ({found.reference}): {' '.join(most)}"] if most else []


_UNSURE = (
    Column("unsure, so a guide is asked", 28),
    *figures(("γ", 5), ("rate", 8), ("precision", 11), ("recall", 9)),
)
_SHOWN = (0.2, 0.4, 0.6)  # of the γ that summary.json has


def unsure_lines(found: AlignedSummary) -> list[str]:
    """What a guide would come to (tasks.shift.unsure), for a few γ."""
    rows = [
        (name, f"{at.gamma:g}", percent(at.rate), percent(at.precision), percent(at.recall))
        for name, context in found.contexts.items()
        for at in context.unsure
        if at.gamma in _SHOWN
    ]
    return table_lines(_UNSURE, rows, indent=2)


_FINER = (
    Column("how far apart", 22),
    *figures(("overlap", 9), ("JS > 0.1", 10), ("Δ ln p", 8), ("bits", 7), ("first 10", 10)),
    *figures(("forks", 8), ("top-p 0.9", 11)),
)
_JS, _FIRST = 0.1, 10  # of the thresholds and beginnings that summary.json has


def finer_lines(found: AlignedSummary) -> list[str]:
    """A line of the finer statistics for each context, and what the columns are."""
    from urial_local.tasks.shift.concentration import FIRST
    from urial_local.tasks.shift.gains import bits
    from urial_local.tasks.shift.sparsity import THRESHOLDS

    rows = []
    for name, context in found.contexts.items():
        f = context.finer
        rows.append(
            (
                name,
                percent(f.overlap.mean),
                percent(f.sparsity.shares[THRESHOLDS.index(_JS)]),
                number(f.gains.values.mean, 2),
                number(bits(f.totals.kl_without_end.mean), 1),
                percent(f.concentration.first[FIRST.index(_FIRST)]),
                percent(f.forks.inside.share),
                percent(f.reach.inside_top_p(0.9)),
            )
        )
    return [
        *table_lines(_FINER, rows, indent=2),
        "  Δ ln p: of a token, nats; bits: KL(aligned‖base) summed over an answer; first 10: how",
        "  much of it is in so many tokens (the three without ends); forks: shifted tokens where",
        "  the base is least sure; top-p 0.9: tokens that the base could have drawn under it.",
        *_floor_line(found),
    ]


def _floor_line(found: AlignedSummary) -> list[str]:
    """The noise floor of the threshold, where it was measured."""
    noise = found.noise_floor
    if noise is None or not noise.js.n:
        return []
    return [f"  Quantisation alone: JS up to {noise.js.percentiles[95]:.3g} at 95 % of positions."]


def sampled_lines(found: AlignedSummary) -> list[str]:
    """What several answers to each question say, where there are."""
    s = found.sampled
    if s is None:
        return []
    grams = ", ".join(f"{n}: {percent(share)}" for n, share in s.distinct.items())
    return [
        f"  {s.answers:,} answers to {counted(s.questions, 'question')}: branching factor"
        f" {number(s.branching.mean, 2)}; distinct openings {percent(s.openings)};",
        f"  distinct n-grams {grams}",
        "",
    ]


def _unsound_lines(found: AlignedSummary) -> list[str]:
    """Positions that are left out of averages, where there are any."""
    lines = []
    for name, context in found.contexts.items():
        counts = {k.replace("_", " "): n for k, n in asdict(context.unsound).items() if n}
        if counts:
            said = ", ".join(f"{n:,} {k}" for k, n in counts.items())
            lines.append(f"  left out of averages in {name}: {said}")
    return [*lines, ""] if lines else []


def _noise_lines(found: AlignedSummary) -> list[str]:
    """What changes numbers besides the models, where it was measured."""
    lines = []
    shape, noise = found.batch_shape, found.noise_floor
    if shape and shape.base_logprob.n:
        change = shape.base_logprob
        lines += [
            f"  batch shape alone: base log-probabilities by {change.mean:.3f} nats, at most"
            f" {change.max:.2f}; class changed {percent(shape.class_changed)}",
            "",
        ]
    if noise and noise.kl.n:
        lines += [
            f"  quantisation alone: mean KL {noise.kl.mean:.4f}, same top token"
            f" {percent(noise.top1_agreement)}, class changed {percent(noise.class_changed)}",
            "",
        ]
    return lines
