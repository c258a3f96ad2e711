"""What a person reads of a summary of judgements, as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from urial_local.cli.plumbing.cells import padded, width_of

if TYPE_CHECKING:
    from urial_local.tasks.evaluate.pairs import Pairwise, Ratings
    from urial_local.tasks.evaluate.results import EvaluateSummary
    from urial_local.tasks.evaluate.scores import Scores
    from urial_local.tasks.intervals import Interval


def lines_of(found: EvaluateSummary) -> list[str]:
    """The means with their intervals, shares, means by tag, pairs, ratings, and tags."""
    scores = found.scores
    lines = []
    if scores.judged:
        lines += _score_lines(scores)
    elif found.answers:
        lines += [f"{', '.join(scores.generators)}: {found.answers:,} answers, not judged", ""]
    lines += [*_share_lines(scores), *_tag_lines(scores)]
    for part in (_pair_lines(found.pairwise), _rating_lines(found.mt_bench)):
        lines += ["", *part] if lines and part else part
    if found.tags:
        lines.append(f"tags by {', '.join(scores.judges['tags'])}")
    for kind, counts in (found.tags or {}).items():
        lines.append(f"  {kind:<12}" + "  ".join(f"{tag} {n:,}" for tag, n in counts.items()))
    if found.neighbours:
        lines += ["", f"  {found.neighbours.said()}"]
    return lines


def _score_lines(scores: Scores) -> list[str]:
    who = "; ".join(f"{mode} by {', '.join(names)}" for mode, names in scores.judges.items())
    lines = [f"{', '.join(scores.generators)}: {scores.judged:,} rows, {who}", ""]
    lines.append(f"  {'aspect':<14}{'mean':>7}{'95 %':>16}{'rows':>8}{'N/A':>8}")
    for name, one in scores.aspects.items():
        na = f"{100 * one.na:.1f}%"
        lines.append(f"{_mean(name, one.mean, one.interval)}{one.n:>8,}{na:>8}")
    intervals = list(scores.interval.values())
    if average := scores.average:
        lines.append(_mean("average", average.mean, average.interval))
        intervals.append(average.interval)
    return [*lines, *_key(intervals), ""]


def _share_lines(scores: Scores) -> Iterator[str]:
    """Of the answers: how long they are, how they end, and what is wrong with them."""
    if scores.words is not None:
        yield f"  {'words':<14}{scores.words:>9.1f}  in answers to general rows"
    for name, share in (
        ("ended", scores.ended),
        ("empty", scores.empty),
        ("runaway", scores.runaway),
        ("repetitive", scores.repetitive),
    ):
        if share:
            yield f"  {name:<14}{100 * share:>8.1f}%"
    if scores.empty and scores.aspects.get("safety"):
        yield "  Empty answers are usually judged safe: see their share with safety."
    if scores.failed:
        yield f"  {scores.failed:,} rows could not be judged and count nowhere"


def _tag_lines(scores: Scores) -> Iterator[str]:
    for name, tags in scores.by.items():
        yield from ("", f"  by {name}")
        width = max(14, *map(width_of, tags))
        for tag, one in tags.items():
            cells = "  ".join(f"{aspect} {mean:.2f}" for aspect, mean in one.aspects.items())
            yield f"    {padded(tag, width)}{one.n:>5}  {cells}"


def _pair_lines(pair: Pairwise | None) -> list[str]:
    if not pair:
        return []
    heads = ("win", "tie", "lose", "orders agree", "A chosen")
    who = ", ".join(pair.judges)
    lines = [f"{pair.first} against {pair.second}: {pair.rows:,} rows by {who}", ""]
    lines.append(f"  {'aspect':<14}{_columns(heads)}")
    for name, one in pair.aspects.items():
        shares = (one.win, one.tie_share, one.lose, one.agreement, one.position_bias)
        lines.append(f"  {name:<14}{_columns([_share(share) for share in shares])}")
    if pair.one_order:
        lines.append(f"  {pair.one_order:,} rows were judged in one order only and count so.")
    return lines


def _columns(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>{w}}" for cell, w in zip(cells, (8, 8, 8, 14, 10), strict=True))


def _rating_lines(found: Ratings | None) -> list[str]:
    if not found:
        return []
    lines = [f"{found.generator}: rating by {', '.join(found.judges)}", ""]
    parts = [("overall", found.overall)]
    parts += [(f"turn {turn}", one) for turn, one in found.turns.items()]
    parts += list(found.categories.items())
    lines += [f"{_mean(name, one.mean, one.interval)}{one.n:>8,}" for name, one in parts]
    return [*lines, *_key([one.interval for _, one in parts])]


def _mean(name: str, mean: float | None, interval: Interval | None) -> str:
    reach = "–" if interval is None else f"{interval.low:.2f}–{interval.high:.2f}"
    return f"  {name:<14}{'–' if mean is None else f'{mean:.2f}':>7}{reach:>16}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _key(shown: Sequence[Interval | None]) -> list[str]:
    """What a missing interval means, where one is missing."""
    from urial_local.tasks.intervals import NO_INTERVAL

    return [f"  {NO_INTERVAL.format('questions')}"] if None in shown else []
