"""What `shift --texts`, `merge` and `report` do with a run over texts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urial_local.base.errors import UsageError
from urial_local.base.formats import NOTHING, counted, number, percent, reach
from urial_local.cli.plumbing.data_options import fields, selection
from urial_local.cli.plumbing.options import runtime_choice
from urial_local.cli.plumbing.output import Output
from urial_local.cli.plumbing.tables import Column, figures, table_lines

if TYPE_CHECKING:
    from urial_local.tasks.intervals import Interval
    from urial_local.tasks.shift_texts.summary import Figure, Preferred, TextsSummary

SHOWN = 12  # tokens in a line


def run(options: Mapping[str, Any], output: Path, out: Output) -> int:
    """Make the rows that a run lacks, and its summary and page; returns how many rows it still
    lacks. Raises Interrupted where it was stopped."""
    from dataclasses import replace

    from urial_local.cli.plumbing.running import end, write_rows
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.records.runlog import RunLog
    from urial_local.tasks.shift_texts.chunks import begin_alike, cut, of_shard, read_texts
    from urial_local.tasks.shift_texts.job import Texts, todo
    from urial_local.tasks.shift_texts.record import KEY, ScoredText
    from urial_local.tasks.shift_texts.results import write_tokens
    from urial_local.tasks.shift_texts.setup import DEFAULT_CTX, TextOptions, set_up

    if len(options["aligned"]) > 1:
        raise UsageError("--texts compares one --aligned at a time.")
    wanted = replace(selection(options), shard=None)  # parts are of stretches, not of texts
    texts = read_texts(options["texts"], fields(options), wanted, options["format"])
    setup = set_up(
        TextOptions(
            base=options["base"],
            aligned=next(iter(options["aligned"]), None),
            ctx=options["ctx"] or DEFAULT_CTX,
            score=options["score"],
            shard=options["shard"],
            runtime=runtime_choice(options),
        ),
        lambda path: out.note(f"Testing {path.name} once in a child process first."),
    )
    o = setup.options
    with setup.base.vocabulary() as ours, setup.aligned.vocabulary() as theirs:
        every, short = cut(texts, ours, o.ctx, o.score, begin_alike(ours, theirs))
    if short:
        out.note(f"{counted(short, 'text is', 'texts are')} too short or cannot be used.")
    chunks = of_shard(every, o.shard)
    with RunLog(output, setup.config(), KEY, ScoredText.read) as log:
        lacking = todo(log, chunks)
        if there := len(chunks) - len(lacking):
            out.note(f"{there:,} of {counted(len(chunks), 'row is', 'rows are')} already there.")
        write_tokens(output, setup)
        with stoppable() as stop:
            work = Texts(setup)
            tally = write_rows(log, work.rows(lacking), work, stop, total=len(chunks), unit="text")
        if lacking:
            end(log, tally, len(chunks))
        failed = len(todo(log, chunks))
    print_summary(output, finish(output), out)
    return failed


def finish(folder: Path) -> TextsSummary:
    """Make summary.json and report.html from the rows; returns the summary."""
    from urial_local.report.texts_page import write_page
    from urial_local.tasks.shift_texts.results import TextsRun, write_summary

    found = TextsRun(folder)
    summary = write_summary(found)
    write_page(found, summary)
    return summary


def print_summary(folder: Path, summary: TextsSummary, out: Output) -> None:
    from urial_local.tasks.shift_texts.results import TextsRun

    config = TextsRun(folder).config
    out.lines(summary_lines(summary, config.base.name, config.aligned.name), summary.as_json())
    if summary.errors:
        first = summary.errors[0]
        failed = counted(len(summary.errors), "row")
        out.tell(f"{failed} failed. The first, {first.id}: {first.error}")
    out.tell(f"Open {folder / 'report.html'} in a browser.")


FIGURES = (
    Column("", 30),
    *figures(("", 12), ("± error", 12)),
)
ROWS = (
    ("ppl_base", "perplexity of the base", 4),
    ("ppl_aligned", "perplexity of the aligned", 4),
    ("ln_ratio", "ln(aligned / base)", 5),
    ("kl", "mean KL(base ‖ aligned)", 5),
    ("kl_back", "mean KL(aligned ‖ base)", 5),
    ("js", "mean JS", 5),
)
SHARES = (("overlap", "overlap"), ("same_top", "same top token"), ("delta_p_rms", "RMS Δp"))


def summary_lines(summary: TextsSummary, base: str, aligned: str) -> list[str]:
    lines = [
        f"{base} → {aligned}: {counted(summary.texts, 'text')},"
        f" {counted(summary.tokens, 'scored token')} in {counted(summary.rows, 'row')}",
        "",
    ]
    if not summary.figures:
        return [*lines, "  Nothing was measured: a model's logits are not finite anywhere."]
    rows = [(said, *_numbers(summary.figures[name], digits)) for name, said, digits in ROWS]
    rows += [(said, *_percents(summary.figures[name])) for name, said in SHARES]
    lines += table_lines(FIGURES, rows, indent=2)
    lines += ["", f"  95 % over rows: KL(base ‖ aligned) {_interval(summary.kl_interval)},"
              f" ln ratio {_interval(summary.ln_ratio_interval)}"]  # fmt: skip
    kl = summary.quantiles["kl"]
    lines += [
        f"  KL(base ‖ aligned): median {kl['0.5']:.5f}, 99 % {kl['0.99']:.5f}, most {kl['1']:.5f}",
        "",
        f"  written more by the aligned model: {_tokens(summary.by_gain)}",
        f"  written less: {_tokens(summary.by_loss)}",
        f"  most often among the largest ratios: {_tokens(summary.by_top)}",
    ]
    if summary.left_out:
        lines.append(f"  left out: {counted(summary.left_out, 'token')} without two distributions")
    return lines


def _numbers(figure: Figure, digits: int) -> tuple[str, str]:
    return number(figure.value, digits), number(figure.error, digits)


def _percents(figure: Figure) -> tuple[str, str]:
    return percent(figure.value, 3), percent(figure.error, 3)


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return NOTHING
    return reach((number(interval.low, 5), number(interval.high, 5)))


def _tokens(found: tuple[Preferred, ...]) -> str:
    return " ".join(repr(token.text) for token in found[:SHOWN]) or NOTHING
