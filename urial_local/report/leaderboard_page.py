"""A leaderboard as a page and as Markdown: the same numbers, its judges always named."""

from __future__ import annotations

import re
from pathlib import Path

from urial_local.base.formats import counted, number, percent
from urial_local.base.terminal import printable
from urial_local.report.page import template, write_html
from urial_local.tasks.evaluate.differences import MAY_BE_CHANCE, MORE_THAN_CHANCE, SURE
from urial_local.tasks.evaluate.leaderboard import Leaderboard
from urial_local.tasks.evaluate.modes import ASPECTS
from urial_local.tasks.evaluate.scores import AspectScores, Average, JudgesByMode
from urial_local.tasks.intervals import NO_INTERVAL

NO_INTERVAL_HERE = NO_INTERVAL.format("questions")
NA_RULES = {"five": "N/A counts as 5", "three": "N/A counts as 3", "drop": "N/A is left out"}


def write_leaderboard_page(table: Leaderboard, path: Path) -> Path:
    """Write the page of a table; returns its path."""
    write_html(
        path,
        title="Leaderboard",
        body=template("leaderboard.html"),
        styles=[template("base.css"), template("judged.css"), template("leaderboard.css")],
        scripts=[template("charts.js"), template("dots.js"), template("leaderboard.js")],
        data={
            "aspects": ASPECTS,
            "sure": SURE,
            "no_interval": NO_INTERVAL_HERE,
            **table.as_json(),
        },
    )
    return path


def markdown(table: Leaderboard) -> str:
    """The table in GitHub's Markdown, with its judges above and its rules below."""
    mixed = table.mixed
    heads = ["model", *ASPECTS, "average", "words", "ended", *(["judges"] if mixed else [])]
    lines = [f"Judged by {_judges(table.judges)}."]
    if mixed:
        lines += ["", "**Different judges: their scales differ, so rows do not compare.**"]
    lines += ["", _line(heads), _line([":--", *["--:"] * (len(ASPECTS) + 3), *[":--"] * mixed])]
    for row in table.rows:
        cells = [_escaped(row.name), *(_estimate(row.scores.aspects.get(a)) for a in ASPECTS)]
        cells += [_estimate(row.scores.average), number(row.words, 1), percent(row.ended)]
        lines.append(_line([*cells, *([_judges(row.scores.judges)] if mixed else [])]))
    rules = [
        f"{NA_RULES[table.na]}.",
        *(["Scores are expected ones, over the judge's distribution."] * table.expected),
        f"In brackets 95 % intervals over questions; {NO_INTERVAL_HERE}",
        "Average: unweighted mean of the six aspects.",
        "Words: mean length of the answers to general rows.",
        "Ended: share of answers that ended by themselves.",
    ]
    return "\n".join([*lines, "", " ".join(rules), "", *_differences(table)])


def _differences(table: Leaderboard) -> list[str]:
    """A line for each model against the next one above it that shares rows with it."""
    lines = []
    for pair in table.differences:
        name = "average" if "average" in pair.aspects else next(iter(pair.aspects))
        found = pair.aspects[name]
        said = f"- {_escaped(pair.above)} − {_escaped(pair.below)}, {name}: {found.mean:+.2f}"
        if found.interval is not None:
            said += f" [{found.interval.low:+.2f}, {found.interval.high:+.2f}]"
        if found.p is not None and found.verdict in (MORE_THAN_CHANCE, MAY_BE_CHANCE):
            said += f", {_p(found.p)}"
        lines.append(f"{said}, {found.verdict}; {counted(found.n, 'shared row')}.")
    return [*lines, ""] if lines else []


def _p(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _judges(by_mode: JudgesByMode) -> str:
    """`gpt-4`, or `gpt-4 (general), gpt-3.5 (safety)` where modes had different judges."""
    names = {tuple(names) for names in by_mode.values()}
    if len(names) == 1:
        return ", ".join(_escaped(name) for name in names.pop())
    said = (f"{', '.join(map(_escaped, names))} ({mode})" for mode, names in by_mode.items())
    return ", ".join(said) or "nobody"


def _estimate(value: AspectScores | Average | None) -> str:
    if not value or value.mean is None:
        return "–"
    if value.interval is None:
        return f"{value.mean:.2f} [–]"
    return f"{value.mean:.2f} [{value.interval.low:.2f}, {value.interval.high:.2f}]"


def _escaped(name: str) -> str:
    """A name of others, so that it stays inside its cell and is no markup."""
    line = " ".join(printable(name).split())
    return re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", line)
