"""A chooser that listens to a guide: token rules over one vocabulary.

The base decodes as always. Rows whose rule may look at the guide are told to it, all in one decode;
it is fed only then, what it lacks at once. Their combined row takes the place of the base's, and
everything after that (penalty, filters, draw) is the sampler's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from urial_local.runtime.choices import Choice
from urial_local.runtime.choosers import Sample
from urial_local.runtime.common_ids import Exchange
from urial_local.runtime.guidance import Guidance
from urial_local.runtime.guides import (
    FloatRow,
    Rule,
    certain,
    combine,
    is_guides,
    needs_guide,
)
from urial_local.runtime.row_scores import score_rows
from urial_local.runtime.rows import Row
from urial_local.runtime.sequences import Logits
from urial_local.runtime.voice import Voice

_NOTHING = Guidance()
FULL = Choice((), (), ends="context")  # the guide has no room to go on


class Ending(Protocol):
    """What is needed of a vocabulary here."""

    def is_end(self, token: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Ends:
    """How base and guide end an answer: either's end is one, and is written as the base's."""

    base: Ending
    guide: Ending
    end: int  # the base's own

    def __contains__(self, token: object) -> bool:
        return isinstance(token, int) and (self.base.is_end(token) or self.guide.is_end(token))


@dataclass(frozen=True, slots=True)
class Sure:
    """What the base says of its rows, float64 or int [n_rows]."""

    first: list[int]  # its most probable tokens
    top: list[float]  # their probabilities; NaN where logits are not finite

    @staticmethod
    def of(logits: Logits) -> Sure:
        first = logits.argmax(1).astype(np.int32)
        scores = score_rows(logits, np.arange(len(first), dtype=np.int32), first)
        return Sure(first.tolist(), np.exp(scores.logprob).tolist())


def answer_of(row: Row) -> list[int]:
    """What a guide is told after its own prompt: also what the answer was begun with."""
    return row.tokens[row.n_prompt - row.request.begun :]


def stays(row: Row) -> bool:
    """Whether a guide keeps what it holds of a row: the next turn of a conversation begins with it,
    unless numbers must not hang on what was asked before."""
    return row.request.keep and not row.request.alone


class Guided:
    """One token a row, drawn from what a rule makes of the base's and its guides' rows."""

    def __init__(
        self,
        rule: Rule,
        voices: Sequence[Voice],
        ends: Ends,
        *,
        exchanges: Sequence[Exchange | None] = (),
        room: int = 1 << 30,
        eager: bool = False,
    ) -> None:
        """voices: in the order of a request's `others`, one for each row that the rule takes
        beside the base's. exchanges: how each passes tokens, where its vocabulary is not quite the
        base's. room: tokens that a voice may hold of a row. eager: ask at every token, whether or
        not the rule looks; for tests."""
        self.rule, self.voices, self.ends = rule, voices, ends
        self.exchanges = list(exchanges) or [None] * len(voices)
        self.room, self.eager = room, eager
        self._sample = Sample()

    @property
    def threads(self) -> int:
        return self._sample.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._sample.threads = threads

    def choose(self, rows: Sequence[Row], logits: Logits) -> list[Choice]:
        sure = Sure.of(logits)
        asked = [i for i, row in enumerate(rows) if self._asks(row, logits[i], sure, i)]
        told = {i: self._told(rows[i]) for i in asked}
        full = {i for i in asked if max(map(len, told[i])) > self.room}
        asked = [i for i in asked if i not in full]
        given, found = self._combined(asked, rows, logits, told)
        drawn: list[Logits] = [
            found[i].astype(np.float32) if i in found else logits[i] for i in range(len(rows))
        ]
        choices = self._sample.choose(rows, drawn)
        for i, row in enumerate(rows):
            if i in full:
                choices[i] = FULL
            elif row.request.others:
                theirs = i in found and bool(choices[i].tokens)
                theirs = theirs and is_guides(self.rule, given[i], found[i], choices[i].tokens[0])
                choices[i] = self._noted(row, choices[i], theirs, sure.top[i])
        return choices

    def forget(self, row: Row) -> None:
        for voice in self.voices:
            voice.forget(row.index, stays(row))

    def _asks(self, row: Row, logits: Logits, sure: Sure, i: int) -> bool:
        if not row.request.others or np.isnan(sure.top[i]):
            return False
        if self.eager:
            return True
        if not needs_guide(self.rule, sure.top[i], sure.first[i] in self.ends):
            return False
        s = row.request.sampling
        plain = not s.temperature and s.repeat_penalty == 1 and not row.request.top_logprobs
        lazy = self.rule.name == "defer" and plain
        return not (lazy and certain(logits.astype(np.float64), self.rule.gamma))

    def _told(self, row: Row) -> list[list[int]]:
        """What each voice is told: its prompt, and the answer so far."""
        answer = answer_of(row)
        return [
            [*prompt, *(exchange.told(answer) if exchange else answer)]
            for prompt, exchange in zip(row.request.others, self.exchanges, strict=False)
        ]

    def _combined(
        self,
        asked: Sequence[int],
        rows: Sequence[Row],
        logits: Logits,
        told: Mapping[int, list[list[int]]],
    ) -> tuple[dict[int, list[FloatRow]], dict[int, FloatRow]]:
        """By place among the rows: what a rule was given, and what it made of it."""
        if not asked:
            return {}, {}
        heard = [
            voice.logits([(rows[i].index, told[i][k]) for i in asked])
            for k, voice in enumerate(self.voices)
        ]
        given = {
            i: [
                logits[i].astype(np.float64),
                *(self._row(k, theirs[n]) for k, theirs in enumerate(heard)),
            ]
            for n, i in enumerate(asked)
        }
        return given, {i: combine(self.rule, given[i], self.ends) for i in asked}

    def _row(self, voice: int, logits: npt.NDArray[np.float32]) -> FloatRow:
        """A voice's row over the base's ids."""
        found = logits.astype(np.float64)
        exchange = self.exchanges[voice]
        return exchange.row(found) if exchange else found

    def _noted(self, row: Row, choice: Choice, theirs: bool, top: float) -> Choice:
        """The choice with what the guide had to do with it, and its end as the base's."""
        spent = sum(voice.spent(row.index) for voice in self.voices)
        guidance = replace(_NOTHING, decoded=spent) if spent else _NOTHING
        if theirs:
            guidance = Guidance((0,), (top,), spent)
        tokens = choice.tokens
        if tokens and tokens[0] in self.ends and not self.ends.base.is_end(tokens[0]):
            tokens = (self.ends.end,)
        return replace(choice, tokens=tokens, guidance=guidance)
