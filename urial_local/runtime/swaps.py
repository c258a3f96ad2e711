"""A chooser that puts another model's token where a criterion holds, until a budget is spent.

At position t of an answer (from 0, its end counted) let w be the writer's next-token distribution
and o the other model's, each after its own prompt and the answer so far; natural logarithms.

    js       JS(w, o), 0 … ln 2
    dlogp    ln o(v) - ln w(v) for the other's most probable token v
    entropy  the writer's entropy
    maxp     the writer's top-1 probability
    random   a number in [0, 1) drawn for the position, below the rate

Where the criterion holds and the budget allows, the position is swapped: the token is drawn from o
as the request says, so greedily the other's first choice, which may be the writer's, too. A budget
is a number of positions, or a share s of them: then at most ⌈s (t + 1)⌉ of the positions up to t
are swapped, so that the share holds at whatever length the answer comes to have.

The other model is asked only where that is needed, and fed then what it lacks.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.runtime.choices import Choice
from urial_local.runtime.choosers import Sample
from urial_local.runtime.guidance import Guidance
from urial_local.runtime.guided import FULL, Ends, answer_of
from urial_local.runtime.rows import Row
from urial_local.runtime.sequences import Logits
from urial_local.runtime.shift_rows import shift_rows
from urial_local.runtime.voice import Voice

Name = Literal["js", "dlogp", "entropy", "maxp", "random"]
NAMES: tuple[Name, ...] = get_args(Name)
_WRITTEN = re.compile(r"([a-z]+)([<>])(-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)")
_SHARE = re.compile(r"(\d+\.?\d*|\.\d+) ?%")
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Criterion:
    """When a position is swapped: its value is above the threshold, or below it."""

    name: Name
    above: bool = False
    threshold: float = 0.0  # of `random`: the rate

    @staticmethod
    def parse(text: str, rate: float | None = None) -> Criterion:
        """`js>0.1`, or `random`, which takes its rate from elsewhere. Raises UsageError."""
        plain = text.replace(" ", "")
        if plain == "random":
            if rate is None:
                raise UsageError(
                    "`swap=random` swaps a share of the positions.", "Give `budget` in %, as in 5%."
                )
            return Criterion("random", False, rate)
        found = _WRITTEN.fullmatch(plain)
        if not found or found[1] not in NAMES or found[1] == "random":
            raise UsageError(
                f"`swap` {text[:40]!r} is not a criterion.",
                "Write js>0.1, dlogp>1, entropy>2, maxp<0.4 or random.",
            )
        threshold = float(found[3])
        if not math.isfinite(threshold):
            raise UsageError(f"`swap` {text[:40]!r} has a threshold that is too large.")
        return Criterion(found[1], found[2] == ">", threshold)

    @property
    def label(self) -> str:
        if self.name == "random":
            return "random"
        return f"{self.name}{'>' if self.above else '<'}{self.threshold:.15g}"

    @property
    def sees_other(self) -> bool:
        """Whether its value needs the other's distribution."""
        return self.name in ("js", "dlogp")

    def holds(self, value: float) -> bool:
        """A value that is not a number holds nowhere."""
        return value > self.threshold if self.above else value < self.threshold


@dataclass(frozen=True, slots=True)
class Budget:
    """How many positions may be swapped: a share, or a count."""

    share: float | None = None
    count: int | None = None

    @staticmethod
    def parse(text: str) -> Budget:
        """`5%` or `20`. Raises UsageError."""
        plain = text.strip()
        if found := _SHARE.fullmatch(plain):
            share = float(found[1]) / 100
            if share <= 1:
                return Budget(share=share)
        elif plain.isascii() and plain.isdigit() and len(plain) < 10:
            count = int(plain)
            if count <= limits.TOKENS:
                return Budget(count=count)
        raise UsageError(
            f"`budget` {text[:40]!r} is neither a share nor a number of positions.",
            "Write 5% or 20.",
        )

    @property
    def label(self) -> str:
        return f"{100 * self.share:.12g}%" if self.share is not None else str(self.count)

    def allows(self, spent: int, position: int) -> bool:
        """Whether one more may be swapped at this position, after `spent` of them."""
        if self.count is not None:
            return spent < self.count
        return spent < math.ceil((self.share or 0.0) * (position + 1) - _ROUNDING)


ALL = Budget(share=1.0)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be swapped in one row. `seed` is of the random criterion."""

    criterion: Criterion
    budget: Budget = ALL
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Swap:
    """A position that was swapped."""

    at: int  # from 0
    value: float  # the criterion's
    token: int  # that was written
    instead: int  # the writer's most probable one


class Swapping:
    """One token a row: the writer's, or the other's where a row's order says so. Rows whose request
    names no other prompt, or whose tag has no order, are the writer's alone."""

    def __init__(self, voice: Voice, ends: Ends, room: int = 1 << 30) -> None:
        """voice: the other model. room: tokens that it may hold of a row."""
        self.voice, self.ends, self.room = voice, ends, room
        self.orders: dict[Hashable, Order] = {}  # by a request's tag
        self.swaps: dict[Hashable, list[Swap]] = {}
        self._sample = Sample()

    @property
    def threads(self) -> int:
        return self._sample.threads

    @threads.setter
    def threads(self, threads: int) -> None:
        self._sample.threads = threads

    def order(self, tag: Hashable, order: Order) -> None:
        """For the row that carries this tag, before it begins."""
        self.orders[tag], self.swaps[tag] = order, []

    def taken(self, tag: Hashable) -> list[Swap]:
        """What was swapped in a row that has ended."""
        self.orders.pop(tag, None)
        return self.swaps.pop(tag, [])

    def choose(self, rows: Sequence[Row], logits: Logits) -> list[Choice]:
        own = self._own_values(rows, logits)
        asked = [i for i, value in own.items() if value is None or self._holds(rows[i], value)]
        full = {i for i in asked if len(rows[i].request.others[0]) + _at(rows[i]) > self.room}
        asked = [i for i in asked if i not in full]
        theirs = self._theirs(asked, rows)
        found: dict[int, float] = {}
        for n, i in enumerate(asked):
            value = own[i]
            if value is None:
                value = _value(self._order(rows[i]).criterion, logits[i], theirs[n])
            if self._holds(rows[i], value):
                found[i] = value
        places = {i: n for n, i in enumerate(asked)}
        drawn: list[Logits] = [
            theirs[places[i]] if i in found else logits[i] for i in range(len(rows))
        ]
        choices = self._sample.choose(rows, drawn)
        for i, row in enumerate(rows):
            if i in full:
                choices[i] = FULL
            elif row.request.tag in self.orders:
                choices[i] = self._noted(row, choices[i], logits[i], found.get(i))
        return choices

    def forget(self, row: Row) -> None:
        self.voice.forget(row.index)

    def _order(self, row: Row) -> Order:
        return self.orders[row.request.tag]

    def _holds(self, row: Row, value: float) -> bool:
        return self._order(row).criterion.holds(value)

    def _own_values(self, rows: Sequence[Row], logits: Logits) -> dict[int, float | None]:
        """Of rows that may be swapped now: the criterion's value, None where the other is needed
        for it. A row without a distribution is left to the sampler, which says so."""
        found: dict[int, float | None] = {}
        for i, row in enumerate(rows):
            tag = row.request.tag
            if tag not in self.orders or not row.request.others:
                continue
            order = self.orders[tag]
            if not order.budget.allows(len(self.swaps[tag]), _at(row)):
                continue
            if not np.isfinite(logits[i].max()):
                continue
            if order.criterion.name == "random":
                found[i] = drawn_number(order.seed, _at(row))
            elif order.criterion.sees_other:
                found[i] = None
            else:
                found[i] = _value(order.criterion, logits[i], logits[i])
        return found

    def _theirs(self, asked: Sequence[int], rows: Sequence[Row]) -> Sequence[Logits]:
        if not asked:
            return ()
        told = [(rows[i].index, [*rows[i].request.others[0], *answer_of(rows[i])]) for i in asked]
        return list(self.voice.logits(told))

    def _noted(self, row: Row, choice: Choice, logits: Logits, value: float | None) -> Choice:
        """The choice with what the other had to do with it, and its end as the writer's."""
        spent = self.voice.spent(row.index)
        tokens = choice.tokens
        if tokens and tokens[0] in self.ends and not self.ends.base.is_end(tokens[0]):
            tokens = (self.ends.end,)
        guidance = Guidance(decoded=spent)
        if value is not None and tokens:
            instead = int(logits.argmax())
            self.swaps[row.request.tag].append(Swap(_at(row), value, tokens[0], instead))
            one = logits[None]
            top = shift_rows(one, one, np.array([instead], np.int32), k=1).base_logprob[0]
            guidance = Guidance((0,), (float(np.exp(top)),), spent)
        return replace(choice, tokens=tokens, guidance=guidance)


def _at(row: Row) -> int:
    return len(row.tokens) - row.n_prompt


def drawn_number(seed: int, position: int) -> float:
    """In [0, 1): the same for the same seed and position, whatever else is drawn."""
    digest = hashlib.sha256(f"{seed}\0swap\0{position}".encode()).digest()
    return int.from_bytes(digest[:8], "little") / 2.0**64


def _value(criterion: Criterion, writer: Logits, other: Logits) -> float:
    """See the module's text."""
    first = np.array([other.argmax()], np.int32)
    found = shift_rows(writer[None], np.ascontiguousarray(other)[None], first, k=1)
    if criterion.name == "js":
        return float(found.js[0])
    if criterion.name == "dlogp":
        return float(found.aligned_logprob[0] - found.base_logprob[0])
    if criterion.name == "entropy":
        return float(found.base_entropy[0])
    return float(np.exp(found.base_top_logprobs[0, 0]))
