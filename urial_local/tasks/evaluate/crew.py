"""What a worker has to know to judge rows of an `evaluate` run, and how it does."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from urial_local.runtime.llama_api import build_id
from urial_local.tasks.crew import same
from urial_local.tasks.crew.driver import Crew
from urial_local.tasks.crew.messages import Hands
from urial_local.tasks.evaluate.job import Evaluation, Prepared, Row, key_of
from urial_local.tasks.evaluate.judge import Question, Verdict
from urial_local.tasks.evaluate.local_judge import (
    LocalJudge,
    LocalOptions,
    describe,
    open_local_judge,
)
from urial_local.tasks.evaluate.neighbours import Effect, effect, sample
from urial_local.tasks.model_file import ModelFile, model_file


@dataclass(frozen=True, slots=True)
class EvaluateSpec:
    """A run as its workers are told of it; see tasks.crew.messages.Spec. `options` hold the context
    that the longest of all rows needs, so that it does not matter which of them a worker gets."""

    judge: str  # by its name in the registry, or its file
    options: LocalOptions
    config: Mapping[str, Any]  # of the driver's judge, with its fingerprint and its prompt's
    build: str  # of the driver's llama.cpp
    folder: str  # in which names of files are meant
    alone: bool = False  # one row at a time, by a judge that has room for several

    def about(self) -> dict[str, Any]:
        return dict(self.config)

    @property
    def together(self) -> int:
        """How many rows each worker judges at a time."""
        return 1 if self.options.exact or self.alone else self.options.runtime.parallel

    @contextlib.contextmanager
    def open(self) -> Iterator[Maker]:
        """Raises UsageError where this machine would make other rows than the driver's."""
        same.go_to(self.folder)
        file = model_file(self.judge)
        same.refuse_others(self.config, self.build, describe(file, self.options))
        with open_local_judge(file, self.options) as judge:
            yield Maker(judge, self.together, self.alone)

    def key(self, task: Prepared) -> tuple[str, ...]:
        return key_of(task[0])

    def key_of(self, row: Row) -> tuple[str, ...]:
        return key_of(row)

    def failed(self, task: Prepared, message: str) -> Row:
        return {**task[0], "error": message}


class Maker:
    """Judges rows; see tasks.crew.messages.Maker."""

    def __init__(self, judge: LocalJudge, slots: int, alone: bool) -> None:
        self.slots, self._judge, self._alone = slots, judge, alone
        self._work = Evaluation(judge)

    def rows(self, todo: Iterator[Prepared | None]) -> Iterator[Row]:
        if not self._alone:
            return self._rows(todo)
        known = itertools.takewhile(lambda one: one is not None, todo)
        return (row for one in known for row in self._rows([one]))

    def _rows(self, todo: Iterable[Prepared | None]) -> Iterator[Row]:
        unasked: deque[Row] = deque()
        for verdict in self._judge.judge(self._questions(todo, unasked)):
            yield self._work.judged(verdict)
            while unasked:
                yield unasked.popleft()
        yield from unasked

    def _questions(
        self, todo: Iterable[Prepared | None], unasked: deque[Row]
    ) -> Iterator[Question | None]:
        for one in todo:
            if one is None:
                yield None
            elif one[1] is None:
                unasked.append(one[0])
            else:
                self._work.await_verdict(one[0])
                yield one[1]

    def stop(self) -> None:
        self._judge.stop()


def spec_of(
    file: ModelFile, options: LocalOptions, threads: int | None = None, on_cpu: bool = False
) -> EvaluateSpec:
    """A judge for workers. `threads`: of each, unless the user chose; `on_cpu`: no GPU is used.
    Raises PromptError for a prompt that it cannot be asked with."""
    return EvaluateSpec(
        judge=same.name_for_workers(file),
        options=replace(options, runtime=same.for_each(options.runtime, threads, on_cpu)),
        config=same.plain(describe(file, options)),
        build=build_id(),
        folder=os.getcwd(),
    )


class Judges:
    """Judgements by several workers, as `Evaluation` makes them by one judge."""

    def __init__(
        self,
        spec: EvaluateSpec,
        hands: Callable[[int | None], Hands],
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`hands`: begins so many workers, or with None as many as were chosen."""
        self.judge, self._hands, self._tell = spec, hands, tell
        self._crew = Crew(spec, hands(None), tell)
        self._first: dict[tuple[str, ...], tuple[Prepared, Row]] = {}  # of the sample

    def stop(self) -> None:
        """Begin no new rows; those in flight are finished. May be called from a signal handler."""
        self._crew.stop()

    def abort(self) -> None:
        """Leave those in flight, too."""
        self._crew.abort()

    def rows(self, todo: Sequence[Prepared]) -> Iterator[Row]:
        """Judge these, as Evaluation.rows does."""
        chosen = {q.key for q in sample([q for _, q in todo if q is not None])}
        asked = {key_of(pair[0]): pair for pair in todo if key_of(pair[0]) in chosen}
        for row in self._crew.rows(todo):
            if (pair := asked.get(key_of(row))) and not row.get("error"):
                self._first[key_of(row)] = pair, row
            yield row

    def alone(self) -> Iterator[Effect]:
        """Have one worker judge a few of these rows again, one by one: what changed for each."""
        if not self._first:
            return
        self._crew = Crew(replace(self.judge, alone=True), self._hands(1), self._tell)
        for row in self._crew.rows([pair for pair, _ in self._first.values()]):
            (_, question), first = self._first[key_of(row)]
            if question is not None and not row.get("error"):
                yield effect(question.mode, _verdict(first), _verdict(row))


def _verdict(row: Row) -> Verdict:
    """What the judge said, from its row; expected scores are rounded there."""
    return Verdict(key_of(row), record=row["parsed_result"], expected=row.get("expected", {}))
