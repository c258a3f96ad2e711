"""What several answers sampled for each question say of the aligned model (`shift --sample --n`).

**Branching factor** (arXiv 2506.17871). Each next-token distribution a_t is cut to its nucleus at
0.9 and made to sum to one, ã_t. With N the tokens of a question's samples together:

    samples of at most 50 tokens on average   exp( 1/N Σ H(ã_t) )
    longer ones                               exp( -1/N Σ ln ã_t[o_t] )    their entropy as it shows
                                              in the tokens that were drawn

and then the mean over questions. Tokens drawn from outside the nucleus have no ã_t[o_t] and are
left out of the second sum and of its N; with `--top-p 0.9`, as in the paper, there are none.

**Distinct n-grams** of a question's samples: different n-grams of words over all of them (words are
what blanks part, in lower case; arXiv 1510.03055), mean over questions, n = 1, 2, 3.

**Distinct openings**: different first three words over samples, mean over questions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from urial_local.runtime.shift_rows import NUCLEUS
from urial_local.tasks.intervals import Distribution, distribution
from urial_local.tasks.shift.curves import plain
from urial_local.tasks.shift.record import Answer

SHORT = 50  # tokens: to here, entropies are averaged
OPENING = 3  # words
GRAMS = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Over questions with two samples or more."""

    questions: int
    answers: int
    branching: Distribution
    distinct: Mapping[int, float | None]  # by n
    openings: float | None

    def as_json(self) -> dict[str, object]:
        return {
            "questions": self.questions,
            "answers": self.answers,
            "branching": self.branching.as_json(),
            "distinct": {str(n): share for n, share in self.distinct.items()},
            "openings": self.openings,
        }


def sampled(answers: Iterable[Answer]) -> Sampled | None:
    """None where no question has several answers."""
    asked: dict[str, list[Answer]] = {}
    for answer in answers:
        asked.setdefault(answer.id, []).append(answer)
    several = [group for _, group in sorted(asked.items()) if len(group) > 1]
    if not several:
        return None
    factors = [factor for group in several if (factor := branching(group)) is not None]
    texts = [[answer.text for answer in group] for group in several]
    return Sampled(
        questions=len(several),
        answers=sum(map(len, several)),
        branching=distribution(np.array(factors, np.float64)),
        distinct={n: _mean([distinct(group, n) for group in texts]) for n in GRAMS},
        openings=_mean([openings(group) for group in texts]),
    )


def branching(group: Sequence[Answer]) -> float | None:
    """The branching factor of one question from its samples; None where it is not known."""
    columns = [answer.aligned_columns for answer in group]
    names = ("aligned_nucleus_entropy", "aligned_nucleus_mass", "aligned_above", "aligned_logprob")
    entropy, mass, above, logprob = (np.concatenate([c[name] for c in columns]) for name in names)
    sound = np.isfinite(entropy)
    if not sound.any():
        return None
    if sum(len(answer.ids) for answer in group) <= SHORT * len(group):
        return math.exp(float(entropy[sound].mean()))
    inside = sound & (above < NUCLEUS) & np.isfinite(logprob)
    if not inside.any():
        return None
    return math.exp(-float((logprob[inside] - np.log(mass[inside])).mean()))


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Different n-grams of words over all n-grams of these texts; None where there are none."""
    grams = [
        tuple(words[i : i + n])
        for words in (text.lower().split() for text in texts)
        for i in range(len(words) - n + 1)
    ]
    return len(set(grams)) / len(grams) if grams else None


def openings(texts: Sequence[str]) -> float:
    """Different beginnings of OPENING words over texts; from 1 / len(texts) to 1."""
    return len({tuple(text.lower().split()[:OPENING]) for text in texts}) / len(texts)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return plain([sum(known) / len(known)])[0] if known else None
