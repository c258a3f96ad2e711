"""What a person reads of a summary of judgements, as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from urial_local.base.formats import counted, number, percent, reach
from urial_local.cli.plumbing.spelling import spelled
from urial_local.cli.plumbing.tables import Column, figures, table_lines

if TYPE_CHECKING:
    from urial_local.tasks.evaluate.pairs import Pairwise, Ratings
    from urial_local.tasks.evaluate.results import EvaluateSummary
    from urial_local.tasks.evaluate.scores import Scores
    from urial_local.tasks.intervals import Interval


MEANS = (
    Column("aspect", 14),
    *figures(("mean", 7), ("95 %", 16), ("rows", 8), ("N/A", 8)),
)
TAGS = (Column(width=14), *figures(("", 5)), Column())
PAIRS = (
    Column("aspect", 14),
    *figures(("win", 8), ("tie", 8), ("lose", 8), ("orders agree", 14), ("A chosen", 10)),
)
RATINGS = (Column(width=14), *figures(("", 7), ("", 16), ("", 8)))


def lines_of(found: EvaluateSummary) -> list[str]:
    """The means with their intervals, shares, means by tag, pairs, ratings, and tags."""
    scores = found.scores
    lines = []
    if scores.judged:
        lines += _score_lines(scores)
    elif found.answers:
        answers = counted(found.answers, "answer")
        lines += [f"{', '.join(scores.generators)}: {answers}, not judged", ""]
    lines += [*_share_lines(scores), *_tag_lines(scores)]
    for part in (_pair_lines(found.pairwise), _rating_lines(found.mt_bench)):
        lines += ["", *part] if lines and part else part
    if found.tags:
        lines.append(f"tags by {', '.join(scores.judges['tags'])}")
    for kind, counts in (found.tags or {}).items():
        lines.append(f"  {kind:<12}" + "  ".join(f"{tag} {n:,}" for tag, n in counts.items()))
    if found.neighbours:
        lines += ["", f"  {spelled(found.neighbours.said())}"]
    return lines


def _score_lines(scores: Scores) -> list[str]:
    who = "; ".join(f"{mode} by {', '.join(names)}" for mode, names in scores.judges.items())
    lines = [f"{', '.join(scores.generators)}: {counted(scores.judged, 'row')}, {who}", ""]
    rows = [
        (*_mean(name, one.mean, one.interval), f"{one.n:,}", percent(one.na))
        for name, one in scores.aspects.items()
    ]
    intervals = list(scores.interval.values())
    if average := scores.average:
        rows.append((*_mean("average", average.mean, average.interval), "", ""))
        intervals.append(average.interval)
    return [*lines, *table_lines(MEANS, rows, indent=2), *_key(intervals), ""]


def _share_lines(scores: Scores) -> Iterator[str]:
    """Of the answers: how long they are, how they end, and what is wrong with them."""
    if scores.words is not None:
        yield f"  {'words':<14}{number(scores.words, 1):>9}  in answers to general rows"
    for name, share in (
        ("ended", scores.ended),
        ("empty", scores.empty),
        ("runaway", scores.runaway),
        ("repetitive", scores.repetitive),
    ):
        if share:
            yield f"  {name:<14}{percent(share):>9}"
    if scores.empty and scores.aspects.get("safety"):
        yield "  Empty answers are usually judged safe: see their share with safety."
    if scores.failed:
        yield f"  {counted(scores.failed, 'row')} could not be judged, which counts nowhere"


def _tag_lines(scores: Scores) -> Iterator[str]:
    for name, tags in scores.by.items():
        yield from ("", f"  by {name}")
        rows = []
        for tag, one in tags.items():
            means = "  ".join(f"{aspect} {number(mean)}" for aspect, mean in one.aspects.items())
            rows.append((tag, f"{one.n:,}", f" {means}"))
        yield from table_lines(TAGS, rows, indent=4)


def _pair_lines(pair: Pairwise | None) -> list[str]:
    if not pair:
        return []
    who = ", ".join(pair.judges)
    lines = [f"{pair.first} against {pair.second}: {counted(pair.rows, 'row')} by {who}", ""]
    rows = []
    for name, one in pair.aspects.items():
        shares = (one.win, one.tie_share, one.lose, one.agreement, one.position_bias)
        rows.append((name, *map(percent, shares)))
    lines += table_lines(PAIRS, rows, indent=2)
    if pair.one_order:
        once = counted(pair.one_order, "row was", "rows were")
        lines.append(f"  {once} judged in one order only, and counted so.")
    return lines


def _rating_lines(found: Ratings | None) -> list[str]:
    if not found:
        return []
    lines = [f"{found.generator}: rating by {', '.join(found.judges)}", ""]
    parts = [("overall", found.overall)]
    parts += [(f"turn {turn}", one) for turn, one in found.turns.items()]
    parts += list(found.categories.items())
    rows = [(*_mean(name, one.mean, one.interval), f"{one.n:,}") for name, one in parts]
    lines += table_lines(RATINGS, rows, indent=2)
    return [*lines, *_key([one.interval for _, one in parts])]


def _mean(name: str, mean: float | None, interval: Interval | None) -> tuple[str, str, str]:
    ends = None if interval is None else (number(interval.low), number(interval.high))
    return name, number(mean), reach(ends)


def _key(shown: Sequence[Interval | None]) -> list[str]:
    """What a missing interval means, where one is missing."""
    from urial_local.tasks.intervals import NO_INTERVAL

    return [f"  {NO_INTERVAL.format('questions')}"] if None in shown else []
