"""`report.html` of a run over texts."""

from __future__ import annotations

from pathlib import Path

from urial_local.base.formats import NOTHING, counted, number, percent, reach
from urial_local.report.sections import (
    Page,
    Section,
    Table,
    TokenList,
    columns,
    model_lines,
    write_sections,
)
from urial_local.tasks.intervals import Interval
from urial_local.tasks.shift_texts.results import TextsRun
from urial_local.tasks.shift_texts.summary import Preferred, TextsSummary

_NUMBERS = (
    ("ppl_base", "perplexity of the base", 4),
    ("ppl_aligned", "perplexity of the aligned", 4),
    ("ratio", "perplexity, aligned / base", 5),
    ("ln_ratio", "ln(aligned / base)", 5),
    ("kl", "KL(base‖aligned), nats", 5),
    ("kl_back", "KL(aligned‖base), nats", 5),
    ("js", "JS, nats", 5),
    ("base_entropy", "entropy of the base, nats", 4),
    ("aligned_entropy", "entropy of the aligned, nats", 4),
)
_SHARES = (
    ("overlap", "overlap Σ min(a, b)"),
    ("same_top", "same most probable token"),
    ("delta_p", "mean Δp"),
    ("delta_p_rms", "RMS of Δp"),
)
_ENDS = {"1": "most", "0.5": "median", "0": "least"}
_READ = {
    "all": "Every token is scored, after BOS where the vocabulary adds one and what the stretch"
    " holds before it.",
    "second-half": "Scored is the second half of each stretch, as llama-perplexity does; its first"
    " token is replaced by BOS where the vocabulary adds one.",
}


def write_page(run: TextsRun, summary: TextsSummary) -> Path:
    """Write the page from a run's summary; returns its path."""
    config = run.config
    base, aligned = config.base.name, config.aligned.name
    lead = (
        f"{counted(summary.texts, 'text')}, {counted(summary.tokens, 'scored token')} in stretches"
        f" of at most {counted(config.ctx, 'token')}."
    )
    return write_sections(
        run.info,
        Page(
            kicker="Plain texts",
            title=f"{base} → {aligned}",
            lead=f"{lead} {_READ[config.score]}",
            sections=tuple(_sections(summary, config.k)) if summary.figures else (),
            about=tuple(model_lines(config.base, config.aligned)),
        ),
    )


def _sections(summary: TextsSummary, k: int) -> list[Section]:
    rows = [
        (said, number(f.value, digits), number(f.error, digits))
        for name, said, digits in _NUMBERS
        for f in [summary.figures[name]]
    ]
    rows += [
        (said, percent(f.value, 3), percent(f.error, 3))
        for name, said in _SHARES
        for f in [summary.figures[name]]
    ]
    quantiles = summary.quantiles
    spread = [
        (
            _ENDS.get(q, f"{100 * float(q):g} %"),
            number(quantiles["kl"][q], 6),
            number(quantiles["kl_back"][q], 6),
            percent(quantiles["delta_p"][q], 3),
        )
        for q in quantiles["kl"]
    ]
    return [
        Section(
            "Figures",
            (
                "Errors take tokens for independent, which they are not. Over whole rows, 95 %:"
                f" KL(base‖aligned) {_reach(summary.kl_interval)}; ln(aligned / base)"
                f" {_reach(summary.ln_ratio_interval)}.",
            ),
            (Table(columns("value", "± error"), tuple(rows)),),
        ),
        Section(
            "Spread over positions",
            ("Δp is the aligned model's probability of the text's token less the base's.",),
            (
                Table(
                    columns("KL(base‖aligned)", "KL(aligned‖base)", "Δp", first="quantile"),
                    tuple(spread),
                ),
            ),
        ),
        Section(
            "Tokens that the aligned model prefers",
            (
                "Asked at every position, however the text continues: how many more, or fewer,"
                " times in a thousand positions the aligned model would write a token; and in how"
                f" many positions a token is among the {k} with the largest ratio of probabilities."
                " The last favours tokens that both models give next to nothing.",
            ),
            tokens=(
                TokenList("written more", _gains(summary.by_gain), "per thousand positions"),
                TokenList("written less", _gains(summary.by_loss), "per thousand positions"),
                TokenList(
                    "among the largest ratios",
                    tuple(
                        (t.text, f"{percent(t.top / summary.positions)}") for t in summary.by_top
                    ),
                    "share of positions",
                ),
                TokenList(
                    "ratio above one",
                    tuple((t.text, percent(t.positive)) for t in summary.by_top),
                    "share of positions, of the same tokens",
                ),
            ),
        ),
    ]


def _gains(found: tuple[Preferred, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((t.text, f"{t.gain:+.2f}") for t in found)


def _reach(interval: Interval | None) -> str:
    if interval is None:
        return NOTHING
    return reach((number(interval.low, 5), number(interval.high, 5)))
