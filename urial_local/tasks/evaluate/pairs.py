"""Judgements that are not a score from 1 to 5: pairs of answers, and MT-bench's turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.summary import (
    TEN_POINTS,
    interval,
    judged,
    judges,
    refuse_mixtures,
)

TIE = "tie"


def winner(judgement: Judgement, aspect: str) -> str | None:
    """Whose answer a pairwise judgement prefers, whatever the order in which it saw them: the
    generator's name, `tie`, or None where it does not say."""
    choice = str(_choices(judgement).get(aspect, ""))
    if choice.lower() in ("tie", "same", "c"):
        return TIE
    if choice not in ("A", "B"):
        return None
    first = (choice == "A") == (judgement.order != "BA")
    return judgement.generator if first else judgement.other_generator


def _choices(judgement: Judgement) -> Mapping[str, object]:
    """By aspect; none where somebody else's record holds something else there."""
    choices = judgement.record.get("choices")
    return choices if isinstance(choices, Mapping) else {}


def pairwise(judgements: Iterable[Judgement]) -> dict[str, Any] | None:
    """Wins, ties and losses by aspect, seen from the first generator, and how far order mattered.

    A row judged in both orders counts for the answer that both prefer; where they disagree it is a
    tie. position_bias: share of all A or B choices that fell on A, so 0.5 is none; agreement: share
    of the rows judged in both orders with the same outcome. Rows with only one order left (the
    other failed, or a file of others) count as they are, and `one_order` says how many. words: mean
    length of each generator's answers.

    Raises UsageError where more than two generators, several judges, or a row twice meet.
    """
    rows = judged(judgements, "pairwise")
    if not rows:
        return None
    first = rows[0].generator
    others = sorted({name for j in rows for name in (j.generator, j.other_generator)} - {first})
    if len(others) != 1:
        raise UsageError(f"A pair needs two generators; these are {', '.join([first, *others])}.")
    refuse_mixtures([replace(j, generator="") for j in rows])  # a pair may stand either way round
    by_row: dict[tuple[str, int], list[Judgement]] = defaultdict(list)
    for j in rows:
        by_row[j.id, j.repeat].append(j)
    names = {aspect for j in rows for aspect in _choices(j)}
    found = {}
    for aspect in sorted(names):
        counts = {"first": 0, "second": 0, "tie": 0}
        agree = both = 0
        for several in by_row.values():
            said = [who for j in several if (who := winner(j, aspect)) is not None]
            if not said:
                continue
            who = said[0] if len(set(said)) == 1 else TIE
            counts["tie" if who == TIE else "first" if who == first else "second"] += 1
            if len(said) > 1:
                both += 1
                agree += len(set(said)) == 1
        total = sum(counts.values())
        chosen = [str(_choices(j).get(aspect)) for j in rows]
        firm = [c for c in chosen if c in ("A", "B")]
        found[aspect] = {
            **counts,
            "n": total,
            "win": counts["first"] / total if total else None,
            "tie_share": counts["tie"] / total if total else None,
            "lose": counts["second"] / total if total else None,
            "agreement": agree / both if both else None,
            "position_bias": firm.count("A") / len(firm) if firm else None,
        }
    return {
        "first": first,
        "second": others[0],
        "words": {name: _words(rows, name) for name in (first, others[0])},
        "judges": judges(rows).get("pairwise", []),
        "rows": len(by_row),
        "one_order": sum(len({j.order for j in several}) < 2 for several in by_row.values()),
        "aspects": found,
    }


def _words(rows: Iterable[Judgement], generator: str) -> float:
    """Of one generator's answers, each row once."""
    texts = {(j.id, j.repeat): j.answer if j.generator == generator else j.other for j in rows}
    return float(np.mean([len(text.split()) for text in texts.values()]))


def mt_bench(judgements: Sequence[Judgement]) -> dict[str, Any] | None:
    """Ratings by turn, by category, and overall, which is the mean over all judgements and not the
    mean of the turns: the two differ where a model has fewer second turns.

    Raises UsageError where several models or judges, or a row twice meet.
    """
    rows = [j for j in judged(judgements, "mt-bench") if j.score("rating") is not None]
    if not rows:
        return None
    refuse_mixtures(rows)
    models = sorted({j.generator for j in rows})
    if len(models) > 1:
        raise UsageError(f"These are of several models: {', '.join(models)}.")

    def mean(members: Sequence[Judgement]) -> dict[str, Any]:
        values = np.array([j.score("rating") for j in members], np.float64)
        return interval(values, [j.id for j in members], TEN_POINTS)

    turns = sorted({j.turn for j in rows})
    categories = sorted({c for j in rows for c in j.tags.get("category", ())})
    return {
        "generator": models[0],
        "judges": judges(rows)["mt-bench"],
        "overall": mean(rows),
        "turns": {str(t): mean([j for j in rows if j.turn == t]) for t in turns},
        "categories": {
            c: mean([j for j in rows if c in j.tags.get("category", ())]) for c in categories
        },
    }
