"""A fit: the search over prompts, its scores as rows, and the winner on held-out questions.

A row is one question under one prompt. The search takes the scores that are there and asks for
those that are not, so a run that was stopped goes the same way again without asking twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from urial_local.prompting.prompts import Prompt
from urial_local.records.typed import read_as
from urial_local.tasks.fit.objectives import Objective, Scored, never
from urial_local.tasks.fit.search import FIRST, Found, Wanted, search
from urial_local.tasks.fit.space import Candidate, Space, key_of

KEY = ("prompt", "id")
START = 24  # candidates of the first rung, the library's prompts among them
SEARCH_SHARE = 0.6  # of the time; the rest is for the held-out questions
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """What counts of a row that a run holds."""

    prompt: str
    id: str
    score: float

    @staticmethod
    def read(row: Mapping[str, Any]) -> Kept:
        """Raises Malformed."""
        return read_as(Kept, row)


Known = Mapping[tuple[str, str], float]  # scores by prompt and question


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found. `scores` of both prompts are of the same held-out questions, in order."""

    found: Found[Candidate]
    default: Prompt
    best: Prompt
    held_out: tuple[str, ...]  # ids of the questions
    default_scores: tuple[float, ...]
    best_scores: tuple[float, ...]

    @property
    def same(self) -> bool:
        """Whether the default is the best that was found."""
        return key_of(self.default) == key_of(self.best)


class Fit:
    """Goes through the search. It writes nothing: rows are yielded as they are made."""

    def __init__(
        self,
        objective: Objective,
        space: Space,
        library: Sequence[Prompt],
        tuning: Sequence[str],
        held_out: Sequence[str],
        known: Known,
        *,
        seed: int = 0,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = lambda stage: None,
    ) -> None:
        """library: prompts to begin with, the model's default first. tuning, held_out: ids of
        questions, in an order in which every beginning holds all kinds. known: scores that the run
        has. seconds: from now, after which no further question is begun, but for the default's
        first ones and the first held-out ones; None for never. tell: hears what is under way."""
        self.objective, self.space, self.library = objective, space, tuple(library)
        self.tuning, self.held_out, self.known = tuple(tuning), tuple(held_out), dict(known)
        self.seed, self.seconds, self._clock, self._tell = seed, seconds, clock, tell
        self._began = clock()
        self._stopping = False
        self.outcome: Outcome | None = None  # once `rows` has ended, unless it was stopped

    def stop(self) -> None:
        """Finish the questions in flight, and no more."""
        self._stopping = True
        self.objective.stop()

    def abort(self) -> None:
        self._stopping = True
        self.objective.abort()

    def rows(self) -> Iterator[Row]:
        """Each score that was not known, as it is made."""
        rng = random.Random(self.seed)
        first = [self.space.place(prompt) for prompt in self.library]
        while len(first) < START:
            first.append(self.space.drawn(rng))
        scores: dict[tuple[Candidate, int], float] = {}
        course = search(
            first,
            self.space.neighbour,
            len(self.tuning),
            scores,
            seed=self.seed,
            time_is_over=self._search_is_over,
        )
        for step in course:
            if isinstance(step, Found):
                yield from self._finish(step)
                return
            yield from self._measure(step, scores)
            if self._stopping:
                return

    def _measure(
        self, wanted: Sequence[Wanted[Candidate]], scores: dict[tuple[Candidate, int], float]
    ) -> Iterator[Row]:
        """Have these scores, as far as there is time."""
        by: dict[Candidate, list[int]] = {}
        for one in wanted:
            by.setdefault(one.candidate, []).append(one.question)
        asked = max((len(numbers) for numbers in by.values()), default=0)
        for place, (candidate, numbers) in enumerate(by.items(), 1):
            if self._stopping or (self._search_is_over() and scores):
                return
            self._tell(f"{place} of {len(by)} prompts on {asked} questions")
            prompt = self.space.prompt(candidate, self.library)
            # Without any score there would be nothing to say at all.
            enough = self._search_is_over if scores else never
            yield from self._ask(prompt, [self.tuning[n] for n in numbers], enough)
            key = key_of(prompt)
            for n in numbers:
                found = self.known.get((key, self.tuning[n]))
                if found is not None:
                    scores[candidate, n] = found

    def _finish(self, found: Found[Candidate]) -> Iterator[Row]:
        """The best and the default on held-out questions, some at a time of each, until all were
        asked or time is over. What only one of them was asked does not count."""
        default = self.library[0]
        best = self.space.prompt(found.best, self.library)
        keys = key_of(default), key_of(best)
        for at in range(0, len(self.held_out), FIRST):
            if at and self._over():
                break
            part = self.held_out[at : at + FIRST]
            self._tell(f"held-out questions, {at + len(part)} of {len(self.held_out)}")
            for prompt in (default, best):
                yield from self._ask(prompt, part, self._over if at else never)
                if self._stopping:
                    return
        both = [n for n in self.held_out if all((key, n) in self.known for key in keys)]
        usual, ours = (tuple(self.known[key, n] for n in both) for key in keys)
        self.outcome = Outcome(found, default, best, tuple(both), usual, ours)

    def _ask(
        self, prompt: Prompt, names: Sequence[str], enough: Callable[[], bool]
    ) -> Iterator[Row]:
        key = key_of(prompt)
        missing = [name for name in names if (key, name) not in self.known]
        if not missing or enough():
            return
        for scored in self.objective.score(prompt, missing, enough):
            self.known[key, scored.item] = scored.score
            yield row_of(key, prompt, scored)

    def _over(self, share: float = 1.0) -> bool:
        return self.seconds is not None and self._clock() - self._began > share * self.seconds

    def _search_is_over(self) -> bool:
        return self._over(SEARCH_SHARE)


def row_of(key: str, prompt: Prompt, scored: Scored) -> Row:
    """As rows.jsonl has it. A question that could not be asked has its reason, and counts."""
    row: Row = {
        "prompt": key,
        "id": scored.item,
        "score": scored.score,
        "name": prompt.name,
        "completion_tokens": scored.tokens,
    }
    if scored.answer:
        row["answer"] = scored.answer
    if scored.flags:
        row["flags"] = list(scored.flags)
    if reason := scored.error or scored.why:
        row["why"] = reason
    return row
