"""What `shift`, `merge` and `report` do with a shift run's rows: summary, page, table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from urial_local.cli.plumbing.cells import padded
from urial_local.cli.plumbing.terminal import say, say_json, tell

if TYPE_CHECKING:
    from urial_local.tasks.shift.measures import (
        AlignedSummary,
        ContextSummary,
        Share,
        ShiftSummary,
    )


if TYPE_CHECKING:
    from urial_local.records.datasets import Item
    from urial_local.tasks.shift.setup import Setup


def analyse(
    setup: Setup, items: Sequence[Item], given: Mapping[str, str] | None, output: Path
) -> int:
    """Make the rows that a run folder lacks; returns how many of them it still lacks, since they
    failed. Raises Interrupted where it was stopped."""
    from urial_local.cli.plumbing.running import end, write_rows
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.cli.plumbing.terminal import note
    from urial_local.records.runlog import RunLog
    from urial_local.tasks.shift.analysis import Analysis, todo
    from urial_local.tasks.shift.record import KEY, Answer
    from urial_local.tasks.shift.results import write_tokens

    total = len(items) * len(setup.aligned)
    with RunLog(output, setup.config(given is not None), KEY, Answer.read) as log:
        lacking = todo(log, setup, items, given)
        if there := total - len(lacking):
            note(f"{there:,} of {total:,} rows are there already.")
        write_tokens(output, setup)
        with stoppable() as stop:
            work = Analysis(setup, items, given)
            tally = write_rows(
                log, work.rows(lacking), work, stop, total=total, unit="answer",
                figures=lambda t: {"tokens": f"{t.tokens:,}"},
            )  # fmt: skip
        if lacking:
            end(log, tally, total)
        return len(todo(log, setup, items, given))


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


def print_summary(folder: Path, summary: ShiftSummary, as_json: bool) -> None:
    """To stdout: the shares of each context, or all of it as JSON; to stderr: where the page is."""
    if as_json:
        say_json(summary.as_json())
    else:
        for line in summary_lines(summary):
            say(line)
    if summary.errors:
        first = summary.errors[0]
        tell(f"{len(summary.errors)} of the rows failed. The first, {first.id}: {first.error}")
    if nowhere := unmeasured(summary):
        tell(
            f"Nothing was measured in {', '.join(nowhere)}: a model's logits are not finite at any"
            " position. Is one of the files damaged?"
        )
    tell(f"Open {folder / 'report.html'} in a browser.")


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
            f"{summary.base} → {aligned}: {found.answers:,} answers, {found.positions:,} positions,"
            f" {found.ended:,} ended by themselves",
            "",
            f"  {'base context':<22}{'unshifted':>11}{'marginal':>10}{'shifted':>9}"
            f"{'95 %':>14}{'mean KL':>9}{'repaired':>10}",
        ]
        for name, context in found.contexts.items():
            lines += _context_lines(name, context)
        lines += [*_key(found), "", *_end_lines(found), *_token_lines(found), ""]
        lines += [*_unsound_lines(found), *_noise_lines(found)]
    return lines[:-1]


def _context_lines(name: str, context: ContextSummary) -> list[str]:
    kl = context.kl.mean
    lines = [
        f"  {padded(name, 22)}{_percent(context.unshifted.share):>11}"
        f"{_percent(context.marginal.share):>10}{_percent(context.shifted.share):>9}"
        f"{_interval(context.shifted):>14}{'' if kl is None else f'{kl:.3f}':>9}"
        f"{_percent(context.repaired.share) if context.repaired else '':>10}"
    ]
    if context.classes.not_in_base.count:
        lines.append(f"    not in base: {_percent(context.classes.not_in_base.share)}")
    return lines


def _interval(share: Share) -> str:
    if share.interval is None:
        return "–"
    return f"{_percent(share.interval.low)}–{_percent(share.interval.high)}"


def _key(found: AlignedSummary) -> list[str]:
    """What a missing interval means, where one is missing."""
    from urial_local.tasks.intervals import NO_INTERVAL

    missing = any(context.shifted.interval is None for context in found.contexts.values())
    return [f"  {NO_INTERVAL.format('answers')}"] if missing else []


def _end_lines(found: AlignedSummary) -> list[str]:
    parts = [
        f"{name} {_percent(context.classes_of_end.shifted.share)}"
        for name, context in found.contexts.items()
        if context.classes_of_end.positions
    ]
    return [f"  end of answer, shifted: {', '.join(parts)}"] if parts else []


def _token_lines(found: AlignedSummary) -> list[str]:
    most = [repr(token.text) for token in found[found.reference].tokens.by_count[:10]]
    return [f"  most shifted ({found.reference}): {' '.join(most)}"] if most else []


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
            f" {change.max:.2f}; class changed {_percent(shape.class_changed)}",
            "",
        ]
    if noise and noise.kl.n:
        lines += [
            f"  quantisation alone: mean KL {noise.kl.mean:.4f}, same top token"
            f" {_percent(noise.top1_agreement)}, class changed {_percent(noise.class_changed)}",
            "",
        ]
    return lines


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}%"
