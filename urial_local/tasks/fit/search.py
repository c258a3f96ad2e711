"""Successive halving: many candidates on few questions, the better third on three times as many.

    rung r   n_r = n₀ · 3^r questions, of all candidates that are left; the better third goes on

(Jamieson & Talwalkar, AISTATS 2016, with η = 3.) Questions come in one order, in which every
beginning holds all kinds about equally; so a candidate's mean on a rung includes its earlier
questions, and none is asked twice. Then rounds of the same among neighbours of the best, each of
which may replace it, until the time is over or rounds bring nothing. The search asks only for
scores: what is scored, and how, is another's matter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)
ETA = 3
FIRST = 12  # questions of the first rung, about one of each kind


@dataclass(frozen=True, slots=True)
class Wanted(Generic[C]):
    """A score that the search needs: of a candidate on the question of this number."""

    candidate: C
    question: int


@dataclass(frozen=True, slots=True)
class Found(Generic[C]):
    """The best candidate, its mean score over the first questions, how many those are (fewer than
    all where time was over), and how the search went."""

    best: C
    mean: float
    questions: int
    candidates: int  # that were tried
    rounds: int  # of neighbours


Scores = Mapping[tuple[C, int], float]


def rungs(questions: int) -> list[int]:
    """How many questions each rung asks: FIRST, then ETA times as many, up to all."""
    sizes = [min(FIRST, questions)]
    while sizes[-1] < questions:
        sizes.append(min(ETA * sizes[-1], questions))
    # A last rung that asks hardly more than the one before decides nothing that that one did not.
    if len(sizes) > 1 and sizes[-1] < 1.5 * sizes[-2]:
        del sizes[-2]
    return sizes


def mean(scores: Scores[C], candidate: C, questions: int) -> float:
    """Over the first questions."""
    return sum(scores[candidate, q] for q in range(questions)) / max(questions, 1)


def halve(candidates: Sequence[C], questions: int, scores: Scores[C]) -> Iterator[list[Wanted[C]]]:
    """Yields what must be scored next; `scores` holds it when this goes on. A candidate whose
    scores are not there then, since time was over, is out."""
    left = list(dict.fromkeys(candidates))
    before = 0
    for size in rungs(questions):
        yield [Wanted(c, q) for c in left for q in range(before, size)]
        # Of equals the earlier: the library's own prompts, the default first, come before others.
        left = [c for c in left if asked(scores, c, size)]
        left.sort(key=lambda c: -mean(scores, c, size))
        if size < questions:
            left = left[: -(-len(left) // ETA)]
        before = size


def search(
    first: Sequence[C],
    neighbour: Callable[[C, random.Random], C],
    questions: int,
    scores: Scores[C],
    *,
    seed: int = 0,
    width: int = 9,
    patience: int = 2,
    time_is_over: Callable[[], bool] = lambda: False,
) -> Iterator[list[Wanted[C]] | Found[C]]:
    """Yields lists of scores that are needed, and at last what was found.

    `width`: neighbours a round. `patience`: rounds without a better one, after which it ends. The
    same seed and scores give the same course.
    """
    rng = random.Random(seed)
    tried = list(dict.fromkeys(first))
    yield from halve(tried, questions, scores)
    best = best_of(tried, questions, scores)
    rounds = idle = 0
    while idle < patience and not time_is_over():
        others = _others(best, neighbour, set(tried), width, rng)
        if not others:
            break
        tried += others
        yield from halve(others, questions, scores)
        rounds += 1
        winner = best_of([best, *others], questions, scores)
        idle = idle + 1 if winner == best else 0
        best = winner
    size = most_asked([best], questions, scores)
    yield Found(best, mean(scores, best, size), size, len(tried), rounds)


def _others(
    best: C,
    neighbour: Callable[[C, random.Random], C],
    tried: set[C],
    width: int,
    rng: random.Random,
) -> list[C]:
    """Up to `width` neighbours that were not tried."""
    others: dict[C, None] = {}
    for _ in range(10 * width):
        other = neighbour(best, rng)
        if other not in tried:
            others[other] = None
        if len(others) == width:
            break
    return list(others)


def asked(scores: Scores[C], candidate: C, questions: int) -> bool:
    """Whether all of the first questions are scored."""
    return all((candidate, q) in scores for q in range(questions))


def most_asked(candidates: Sequence[C], questions: int, scores: Scores[C]) -> int:
    """The largest rung that one of them has finished, in questions; 0 for none."""
    sizes = [n for n in rungs(questions) if any(asked(scores, c, n) for c in candidates)]
    return max(sizes, default=0)


def best_of(candidates: Sequence[C], questions: int, scores: Scores[C]) -> C:
    """Of those that went furthest the one with the highest mean; of equals the first."""
    size = most_asked(candidates, questions, scores)
    whole = [c for c in candidates if asked(scores, c, size)]
    return max(whole, key=lambda c: mean(scores, c, size))
