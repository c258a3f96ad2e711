"""One model goes on after the first tokens of the other's answer.

Each model's own answer is made first: the aligned model's, and the base model's in each context.
Then the base goes on, in each context, after the first k tokens of the aligned answer, and the
aligned after the first k tokens of the base's answer in that context. A row is one such answer: its
prompt is the model's own prompt with the k tokens after it, as ids. An answer may be `max_tokens`
long, what it was given counted.

What was written after the handover, its end left out, is then scored by both models where it
stands, each after its own prompt (see tasks.shift.scoring).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from urial_local.base.errors import UrialError
from urial_local.records.datasets import Item
from urial_local.records.runlog import RunLog, asked_digest
from urial_local.runtime.rows import Completion, Request
from urial_local.runtime.sampling import row_seed
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.runtime.threads import default_threads
from urial_local.tasks.generate.flags import flags_of
from urial_local.tasks.interventions.handover_record import TASK, HandedOver, other_context
from urial_local.tasks.interventions.pair import (
    SIDES,
    Experiment,
    Pair,
    Row,
    Side,
    Source,
    Step,
    answer_fields,
    config,
    item_fields,
    other,
)
from urial_local.tasks.interventions.prefix import decoded, length
from urial_local.tasks.shift.scoring import Bridge, Columns, score_answer
from urial_local.tasks.shift.scoring import Side as Scored
from urial_local.tasks.shift.setup import Setup

OWN = "0"


@dataclass(frozen=True, slots=True)
class HandoverStep(Step):
    """A row to make."""

    goes_on: Side
    after: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.goes_on, self.context, self.after, self.item.id


@dataclass(frozen=True, slots=True)
class HandoverPlan:
    """All that is known before weights are loaded."""

    setup: Setup
    after: tuple[str, ...]  # see tasks.interventions.prefix

    def config(self) -> dict[str, Any]:
        return config(self.setup, TASK, {"after": list(self.after)})

    def steps(self, items: Sequence[Item]) -> list[HandoverStep]:
        """All rows of the run, those first that others are made of."""
        contexts = list(self.setup.contexts)
        places = [("aligned", "", OWN), *(("base", c, OWN) for c in contexts)]
        rest = [a for a in self.after if a != OWN]
        places += [(side, c, a) for side in SIDES for c in contexts for a in rest]
        return [HandoverStep(c, item, side, a) for side, c, a in places for item in items]  # type: ignore[arg-type]


def todo(log: RunLog, steps: Iterable[HandoverStep]) -> list[HandoverStep]:
    """The rows that a run lacks. Raises UsageError where a question has changed."""
    return [
        step
        for step in steps
        if log.lacks(
            *step.key, asked=asked_digest(step.item.query), what=f"The question {step.item.id!r}"
        )
    ]


class Handover(Experiment[HandoverStep]):
    """One run."""

    def __init__(
        self, plan: HandoverPlan, items: Sequence[Item], made: Iterable[HandedOver] = ()
    ) -> None:
        """`made`: the rows that are there already."""
        super().__init__(plan.setup, items)
        for row in made:
            if row.own:
                self.sources[row.goes_on, row.context, row.id] = row.source

    def make(self, todo: Sequence[HandoverStep]) -> Iterator[Row]:
        """Make these rows. Raises Aborted where that was asked for, ModelError where nothing can go
        on."""
        if not todo:
            return
        with ExitStack() as stack:
            pair = self.pair(stack)
            scorer = self._scorer(stack, pair)
            phases: list[tuple[Side, bool]] = [
                *(("aligned", True), ("base", True), ("base", False), ("aligned", False)),
            ]
            for side, own in phases:
                steps = [s for s in todo if s.goes_on == side and (s.after == OWN) == own]
                yield from self._phase(pair, scorer, side, steps)

    def _phase(
        self, pair: Pair, scorer: _Scorer, side: Side, steps: Sequence[HandoverStep]
    ) -> Iterator[Row]:
        rest = []
        for step in steps:
            if self._stopping:
                return
            if self._is_whole(pair, step):
                yield self._handed_whole(pair, step)
            else:
                rest.append(step)
        if not rest:
            return
        with ExitStack() as stack:
            engine = self.engine(stack, pair, side, len(rest))

            def request(step: HandoverStep) -> Request:
                return self._request(pair, step)

            def row(step: HandoverStep, done: Completion, asked: Request) -> Row:
                found = self._handed(pair, done, asked, side)
                return {**found, "divergences": scorer.score(step, asked, found)}

            for step, made in self.answered(engine, rest, request, row):
                if step.after == OWN and "error" not in made:
                    ids = tuple(made["answer_ids"])
                    self.sources[side, step.context, step.item.id] = Source(ids, made["ended"])
                yield made

    def _source(self, step: HandoverStep) -> Source | None:
        there = other_context(step.goes_on, step.context)
        return self.sources.get((other(step.goes_on), there, step.item.id))

    def _given(self, pair: Pair, step: HandoverStep) -> tuple[Source, int]:
        """The answer to go on after, and how many of its tokens are given."""
        source = self._source(step)
        if source is None:
            raise UrialError("The answer to continue from could not be made.")
        piece = pair.model(other(step.goes_on)).vocab.piece
        return source, length(step.after, source.ids, piece)

    def _is_whole(self, pair: Pair, step: HandoverStep) -> bool:
        if step.after == OWN or step.item.error or self._source(step) is None:
            return False
        source, given = self._given(pair, step)
        return given >= len(source.ids)

    def _request(self, pair: Pair, step: HandoverStep) -> Request:
        request = pair.ask(step.goes_on, step)
        given: tuple[int, ...] = ()
        if step.after != OWN:
            source, n = self._given(pair, step)
            given = source.ids[:n]
        name = "\0".join((step.item.id, step.goes_on, step.context, step.after))
        seed = row_seed(request.sampling.seed, name)
        return replace(
            request,
            prefill=given,
            max_tokens=max(1, self.setup.options.max_tokens - len(given)),
            sampling=replace(request.sampling, seed=seed),
        )

    def _handed(self, pair: Pair, done: Completion, asked: Request, side: Side) -> Row:
        piece = pair.model(side).vocab.piece
        found = answer_fields(done, piece)
        # A frame's closing may begin inside what was given.
        given = min(len(asked.prefill), len(found["answer_ids"]))
        before = len(decoded(asked.prefill, piece)) - max(0, done.raw_text.find(done.text))
        return {
            **found,
            "given": given,
            "given_characters": max(0, min(len(done.text), before)),
            "whole": False,
            "completion_tokens": len(done.tokens) - len(asked.prefill),
            "prompt_tokens": done.prompt_tokens,
        }

    def _handed_whole(self, pair: Pair, step: HandoverStep) -> Row:
        source, _ = self._given(pair, step)
        text = decoded(source.ids, pair.model(other(step.goes_on)).vocab.piece).strip()
        reason = "eos" if source.ended else "length"
        return {
            **self.head(step),
            "answer": text,
            "answer_ids": list(source.ids),
            "ended": source.ended,
            "finish_reason": reason,
            "flags": flags_of(text, reason),
            "given": len(source.ids),
            "given_characters": len(text),
            "whole": True,
            "completion_tokens": 0,
        }

    def head(self, step: HandoverStep) -> Row:
        where = {"goes_on": step.goes_on, "context": step.context, "after": step.after}
        return {**item_fields(step.item), **where}

    def _scorer(self, stack: ExitStack, pair: Pair) -> _Scorer:
        threads = self.setup.options.runtime.threads
        return _Scorer(
            pair,
            self._forced(stack, pair.aligned, 1, self.room(pair, "aligned")),
            self._forced(stack, pair.base, len(pair.contexts), self.room(pair, "base")),
            Bridge(self.setup.pairs[self.aligned_name], pair.base.vocab, pair.aligned.vocab),
            threads or default_threads(pair.base.n_params),
        )


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Both models over what was written after a handover."""

    pair: Pair
    aligned: TeacherForced
    bases: TeacherForced
    bridge: Bridge
    threads: int

    def score(self, step: HandoverStep, asked: Request, row: Row) -> Row:
        """Mean divergences by context."""
        # Without the end: every frame has its own way to end, and the other model knows none of it.
        given, rest = row["answer_ids"][: row["given"]], row["answer_ids"][row["given"] :]
        wanted = [step.context] if step.context else list(self.pair.contexts)
        if not rest:
            return {name: means(None) for name in wanted}
        theirs = self.pair.ask("aligned", step)
        aligned = Scored(self.aligned, 0, [*theirs.tokens, *given], theirs.shared)
        names = list(self.pair.contexts)
        bases = []
        for name in wanted:
            ours = self.pair.ask("base", replace(step, context=name))
            side = Scored(self.bases, names.index(name), [*ours.tokens, *given], ours.shared)
            bases.append((side, self.bridge))
        try:
            scored = score_answer(aligned, bases, rest, self.threads)
        except UrialError:
            self.aligned.forget()
            self.bases.forget()
            raise
        return {name: means(c) for name, c in zip(wanted, scored.contexts, strict=True)}


def means(columns: Columns | None) -> Row:
    """Over the positions with two distributions and finite divergences."""
    if columns is None:
        return {"kl_base_aligned": None, "kl_aligned_base": None, "tokens": 0}
    sound = columns["status"] == 0
    n = int(np.sum(sound))

    def mean(name: str) -> float | None:
        return float(f"{columns[name][sound].mean():.7g}") if n else None

    return {
        "kl_base_aligned": mean("kl_base_aligned"),
        "kl_aligned_base": mean("kl_aligned_base"),
        "tokens": n,
    }
