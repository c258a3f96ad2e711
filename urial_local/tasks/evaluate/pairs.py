"""Judgements that are not a score from 1 to 5: pairs of answers, and MT-bench's turns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from urial_local.base.errors import UsageError
from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.scores import Mean
from urial_local.tasks.evaluate.summary import (
    TEN_POINTS,
    Key,
    judged,
    judges,
    mean_of,
    refuse_mixtures,
)

TIE = "tie"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many rows each answer of a pair won in an aspect, and how many were ties.

    agreement: share of the rows judged in both orders with the same outcome; position_bias: share
    of all A or B choices that fell on A, so 0.5 is none. None where there is nothing to count.
    """

    first: int
    second: int
    tie: int
    agreement: float | None
    position_bias: float | None

    @property
    def n(self) -> int:
        return self.first + self.second + self.tie

    @property
    def win(self) -> float | None:
        """The share of rows that the first generator won."""
        return self.first / self.n if self.n else None

    @property
    def tie_share(self) -> float | None:
        return self.tie / self.n if self.n else None

    @property
    def lose(self) -> float | None:
        return self.second / self.n if self.n else None

    def as_json(self) -> dict[str, object]:
        return {
            "first": self.first,
            "second": self.second,
            "tie": self.tie,
            "n": self.n,
            "win": self.win,
            "tie_share": self.tie_share,
            "lose": self.lose,
            "agreement": self.agreement,
            "position_bias": self.position_bias,
        }


@dataclass(frozen=True, slots=True)
class Pairwise:
    """Two generators against each other, by aspect. words: mean length of each one's answers;
    one_order: rows of which only one order was judged, and which count as they are."""

    first: str
    second: str
    words: Mapping[str, float]
    judges: Sequence[str]
    rows: int
    one_order: int
    aspects: Mapping[str, Outcome]

    def as_json(self) -> dict[str, object]:
        return {
            "first": self.first,
            "second": self.second,
            "words": self.words,
            "judges": self.judges,
            "rows": self.rows,
            "one_order": self.one_order,
            "aspects": {name: one.as_json() for name, one in self.aspects.items()},
        }


@dataclass(frozen=True, slots=True)
class Ratings:
    """MT-bench's ratings of one model, from 1 to 10: by turn, from 1, by category, and overall."""

    generator: str
    judges: Sequence[str]
    overall: Mean
    turns: Mapping[int, Mean]
    categories: Mapping[str, Mean]

    def as_json(self) -> dict[str, object]:
        return {
            "generator": self.generator,
            "judges": self.judges,
            "overall": self.overall.as_json(),
            "turns": {str(turn): one.as_json() for turn, one in self.turns.items()},
            "categories": {name: one.as_json() for name, one in self.categories.items()},
        }


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


def pairwise(judgements: Iterable[Judgement]) -> Pairwise | None:
    """Wins, ties and losses by aspect, seen from the first generator; None without such rows.

    A row judged in both orders counts for the answer that both prefer; where they disagree it is a
    tie. Rows with only one order left (the other failed, or a file of others) count as they are.

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
    by_row: dict[Key, list[Judgement]] = defaultdict(list)
    for j in rows:
        by_row[j.id, j.repeat].append(j)
    names = {aspect for j in rows for aspect in _choices(j)}
    return Pairwise(
        first=first,
        second=others[0],
        words={name: _words(rows, name) for name in (first, others[0])},
        judges=judges(rows).get("pairwise", []),
        rows=len(by_row),
        one_order=sum(len({j.order for j in several}) < 2 for several in by_row.values()),
        aspects={aspect: _outcome(by_row.values(), aspect, first) for aspect in sorted(names)},
    )


def _outcome(rows: Iterable[Sequence[Judgement]], aspect: str, first: str) -> Outcome:
    """`rows`: the judgements of each, of one order or of both."""
    won = {"first": 0, "second": 0, "tie": 0}
    agree = both = firm = on_a = 0
    for several in rows:
        choices = [_choices(j).get(aspect) for j in several]
        firm += sum(choice in ("A", "B") for choice in choices)
        on_a += choices.count("A")
        said = [who for j in several if (who := winner(j, aspect)) is not None]
        if not said:
            continue
        who = said[0] if len(set(said)) == 1 else TIE
        won["tie" if who == TIE else "first" if who == first else "second"] += 1
        if len(said) > 1:
            both += 1
            agree += len(set(said)) == 1
    return Outcome(
        **won,
        agreement=agree / both if both else None,
        position_bias=on_a / firm if firm else None,
    )


def _words(rows: Iterable[Judgement], generator: str) -> float:
    """Of one generator's answers, each row once."""
    texts = {(j.id, j.repeat): j.answer if j.generator == generator else j.other for j in rows}
    return float(np.mean([len(text.split()) for text in texts.values()]))


def mt_bench(judgements: Sequence[Judgement]) -> Ratings | None:
    """Ratings by turn, by category, and overall, which is the mean over all judgements and not the
    mean of the turns: the two differ where a model has fewer second turns. None without ratings.

    Raises UsageError where several models or judges, or a row twice meet.
    """
    rows = [j for j in judged(judgements, "mt-bench") if j.score("rating") is not None]
    if not rows:
        return None
    refuse_mixtures(rows)
    models = sorted({j.generator for j in rows})
    if len(models) > 1:
        raise UsageError(f"These are of several models: {', '.join(models)}.")

    def mean(members: Sequence[Judgement]) -> Mean:
        values = np.array([j.score("rating") for j in members], np.float64)
        return mean_of(values, [j.id for j in members], TEN_POINTS)

    turns = sorted({j.turn for j in rows})
    categories = sorted({c for j in rows for c in j.tags.get("category", ())})
    return Ratings(
        generator=models[0],
        judges=judges(rows)["mt-bench"],
        overall=mean(rows),
        turns={turn: mean([j for j in rows if j.turn == turn]) for turn in turns},
        categories={
            c: mean([j for j in rows if c in j.tags.get("category", ())]) for c in categories
        },
    )
