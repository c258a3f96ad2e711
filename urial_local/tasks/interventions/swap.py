"""One model writes, and the other's token is put where a criterion holds, within a budget.

The rows of a question are its arms: the writer's own answer, the other model's own, one for each
criterion, and for each criterion a control, in which as large a share of positions is swapped at
random as the criterion swapped in the answer to the same question. What a criterion sees stands in
runtime.swaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from urial_local.base.errors import UrialError, UsageError
from urial_local.records.datasets import Item
from urial_local.records.runlog import RunLog, asked_digest
from urial_local.runtime.engine import Engine
from urial_local.runtime.guided import Ends
from urial_local.runtime.rows import Completion, Request
from urial_local.runtime.sampling import row_seed
from urial_local.runtime.swaps import ALL, Budget, Criterion, Order, Swapping
from urial_local.tasks.interventions.pair import (
    Experiment,
    Pair,
    Row,
    Side,
    Step,
    answer_fields,
    config,
    item_fields,
    other,
)
from urial_local.tasks.interventions.swap_record import CONTROL, OTHER, TASK, WRITER, Swapped
from urial_local.tasks.shift.setup import Setup

MOST = 16  # criteria


@dataclass(frozen=True, slots=True)
class SwapStep(Step):
    """A row to make."""

    arm: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.context, self.arm, self.item.id


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """All that is known before weights are loaded."""

    setup: Setup
    criteria: tuple[Criterion, ...]
    budget: Budget
    writer: Side = "base"

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(criterion.label for criterion in self.criteria)

    def config(self) -> dict[str, Any]:
        more = {
            "writer": self.writer,
            "criteria": list(self.labels),
            "budget": self.budget.label,
            "seed": self.setup.options.sampling.seed,  # of what is swapped at random, too
        }
        return config(self.setup, TASK, more)

    def steps(self, items: Sequence[Item]) -> list[SwapStep]:
        """All rows of the run, those first that others are made of."""
        contexts = list(self.setup.contexts)
        own = {"base": contexts, "aligned": [""]}
        places = [(c, OTHER) for c in own[other(self.writer)]]
        places += [(c, WRITER) for c in own[self.writer]]
        places += [(c, label) for c in contexts for label in self.labels]
        places += [(c, CONTROL + n) for c in contexts for n in self.labels if n != "random"]
        return [SwapStep(c, item, arm) for c, arm in places for item in items]


def criteria(texts: Sequence[str], budget: Budget) -> tuple[Criterion, ...]:
    """Raises UsageError for what is not a criterion, or is given twice."""
    found = tuple(Criterion.parse(text, budget.share) for text in texts)
    labels = [criterion.label for criterion in found]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"`swap={label}` was given twice.")
    if len(found) > MOST:
        raise UsageError(f"`swap` may be given at most {MOST} times.")
    return found


def todo(log: RunLog, steps: Iterable[SwapStep]) -> list[SwapStep]:
    """The rows that a run lacks. Raises UsageError where a question has changed."""
    return [
        step
        for step in steps
        if log.lacks(
            *step.key, asked=asked_digest(step.item.query), what=f"The question {step.item.id!r}"
        )
    ]


class Swap(Experiment[SwapStep]):
    """One run."""

    def __init__(self, plan: SwapPlan, items: Sequence[Item], made: Iterable[Swapped] = ()) -> None:
        """`made`: the rows that are there already."""
        super().__init__(plan.setup, items)
        self.plan = plan
        self._criteria = dict(zip(plan.labels, plan.criteria, strict=True))
        self._rates = {(row.context, row.arm, row.id): row.rate for row in made}

    def make(self, todo: Sequence[SwapStep]) -> Iterator[Row]:
        """Make these rows. Raises Aborted where that was asked for, ModelError where nothing can go
        on."""
        if not todo:
            return
        writer = self.plan.writer
        with ExitStack() as stack:
            pair = self.pair(stack)
            if steps := [s for s in todo if s.arm == OTHER]:
                with ExitStack() as own:
                    engine = self.engine(own, pair, other(writer), len(steps))
                    yield from self._made(pair, engine, None, steps, other(writer))
            rest = [s for s in todo if s.arm != OTHER]
            if not rest or self._stopping:
                return
            engine = self.engine(stack, pair, writer, len(rest))
            chooser = self._listening(stack, pair, engine, len(rest))
            # A control takes its rate from the row of its criterion.
            for control in (False, True):
                steps = [s for s in rest if s.arm.startswith(CONTROL) == control]
                yield from self._made(pair, engine, chooser, steps, writer)

    def _listening(self, stack: ExitStack, pair: Pair, engine: Engine, rows: int) -> Swapping:
        """Has the writer's engine listen to the other model."""
        side = other(self.plan.writer)
        voice, room = self.voice(stack, pair, side, rows)
        vocab = pair.model(self.plan.writer).vocab
        end = vocab.eos if vocab.eos >= 0 else vocab.bos
        chooser = Swapping(voice, Ends(vocab, pair.model(side).vocab, end), room)
        engine.chooser = chooser
        return chooser

    def _made(
        self,
        pair: Pair,
        engine: Engine,
        chooser: Swapping | None,
        steps: Sequence[SwapStep],
        side: Side,
    ) -> Iterator[Row]:
        numbers = {step.key: i for i, step in enumerate(steps)}

        def request(step: SwapStep) -> Request:
            asked = pair.ask(side, step)
            seed = row_seed(asked.sampling.seed, f"{step.item.id}\0{step.context}\0{step.arm}")
            asked = replace(asked, sampling=replace(asked.sampling, seed=seed))
            if chooser is None or step.arm == WRITER:
                return asked
            chooser.order(numbers[step.key], self._order(step, seed))
            return replace(asked, others=(pair.ask(other(side), step).tokens,))

        def row(step: SwapStep, done: Completion, asked: Request) -> Row:
            swaps = chooser.taken(numbers[step.key]) if chooser else []
            found = {
                **answer_fields(done, pair.model(side).vocab.piece),
                "positions": len(done.tokens) + (done.end_token is not None),
                "completion_tokens": len(done.tokens),
                "prompt_tokens": done.prompt_tokens,
            }
            if step.arm in (WRITER, OTHER):
                return found
            spans = done.guidance.spans if done.guidance else ()
            return {
                **found,
                "at": [s.at for s in swaps],
                "values": [float(f"{s.value:.7g}") for s in swaps],
                "put": [s.token for s in swaps],
                "instead": [s.instead for s in swaps],
                "spans": [list(span) for span in spans],
            }

        for step, made in self.answered(engine, steps, request, row):
            if "error" not in made and step.arm not in (WRITER, OTHER):
                rate = len(made["at"]) / made["positions"] if made["positions"] else 0.0
                self._rates[step.key] = rate
            yield made

    def _order(self, step: SwapStep, seed: int) -> Order:
        if not step.arm.startswith(CONTROL):
            criterion = self._criteria[step.arm]
            # What is drawn at random keeps to its share by itself.
            return Order(criterion, ALL if criterion.name == "random" else self.plan.budget, seed)
        rate = self._rates.get((step.context, step.arm.removeprefix(CONTROL), step.item.id))
        if rate is None:
            raise UrialError("The answer that sets its share of swaps could not be made.")
        return Order(Criterion("random", False, rate), ALL, seed)

    def head(self, step: SwapStep) -> Row:
        return {**item_fields(step.item), "context": step.context, "arm": step.arm}
