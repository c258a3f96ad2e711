"""What a worker has to know to make rows of a `shift` run, and how it does."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from urial_local.records.datasets import Item
from urial_local.records.runs import key_of
from urial_local.runtime.llama_api import build_id
from urial_local.tasks.crew import same
from urial_local.tasks.shift.analysis import (
    Analysis,
    Answering,
    BaseSides,
    OpenPair,
    Row,
    Todo,
    error_row,
)
from urial_local.tasks.shift.record import KEY
from urial_local.tasks.shift.setup import Setup, ShiftOptions, set_up


@dataclass(frozen=True, slots=True)
class ShiftSpec:
    """A run as its workers are told of it; see tasks.crew.messages.Spec. They get all items and
    answers, since these decide how large the contexts are and which rows are scored again."""

    options: ShiftOptions
    items: tuple[Item, ...]  # without what contexts do not hang on
    answers: Mapping[str, str] | None
    first: str  # the aligned model that a worker opens before it is ready
    config: Mapping[str, Any]  # the driver's, with fingerprints of models and prompts
    build: str  # of the driver's llama.cpp
    folder: str  # in which names of files are meant

    @contextmanager
    def open(self) -> Iterator[Maker]:
        """Raises UsageError where this machine would make other rows than the driver's."""
        same.go_to(self.folder)
        setup = set_up(self.options)
        same.refuse_others(self.config, self.build, setup.config(self.answers is not None))
        with ExitStack() as stack:
            analysis = Analysis(setup, self.items, self.answers)
            maker = Maker(analysis, analysis.open_base(stack))
            stack.callback(maker.close)
            maker.opened(self.first)
            yield maker

    def key(self, task: Todo) -> tuple[str, ...]:
        name, item, sample = task
        return name, item.id, sample

    def key_of(self, row: Row) -> tuple[str, ...]:
        return key_of(row, KEY)

    def failed(self, task: Todo, message: str) -> Row:
        return error_row(task, message)


class Maker:
    """Makes rows with one aligned model at a time; see tasks.crew.messages.Maker."""

    def __init__(self, analysis: Analysis, sides: BaseSides) -> None:
        self._analysis, self._sides = analysis, sides
        options = analysis.setup.options
        self.slots = options.runtime.parallel if analysis.answers is None else 1
        self._stack = ExitStack()  # of the aligned model that is open
        self._open: OpenPair | None = None
        self._kept: Todo | None = None  # the first row of another aligned model
        self._stopping = False

    def rows(self, todo: Iterator[Todo | None]) -> Iterator[Row]:
        while (first := self._taken(todo)) is not None:
            one = self.opened(first[0])
            yield from self._analysis.made(one, self._alike(first, todo))

    def _taken(self, todo: Iterator[Todo | None]) -> Todo | None:
        kept, self._kept = self._kept, None
        return kept or (None if self._stopping else next(todo, None))

    def _alike(self, first: Todo, todo: Iterator[Todo | None]) -> Iterator[Answering | None]:
        """Rows of one aligned model, up to the first of another."""
        yield first[1:]
        for one in todo:
            if one is not None and one[0] != first[0]:
                self._kept = one
                return
            yield None if one is None else one[1:]

    def opened(self, name: str) -> OpenPair:
        """An aligned model, in place of the one that was open."""
        if self._open is None or self._open.file.name != name:
            self.close()
            (file,) = (m for m in self._analysis.setup.aligned if m.name == name)
            self._open = self._analysis.open_aligned(self._stack, self._sides, file, self.slots)
        return self._open

    def close(self) -> None:
        self._open = None
        self._stack.close()

    def stop(self) -> None:
        self._stopping = True
        self._analysis.stop()


def spec_of(
    setup: Setup,
    items: Sequence[Item],
    answers: Mapping[str, str] | None,
    lacking: Sequence[Todo],
    threads: int | None = None,
    on_cpu: bool = False,
) -> ShiftSpec:
    """A run for workers. `lacking`: its rows that are to be made, one at least; `threads`: of each
    worker, unless the user chose; `on_cpu`: no GPU is used."""
    runtime = same.for_each(setup.options.runtime, threads, on_cpu)
    options = replace(
        setup.options,
        base=same.name_for_workers(setup.base),
        aligned=tuple(map(same.name_for_workers, setup.aligned)),
        noise_floor=same.name_for_workers(setup.noise) if setup.noise else None,
        runtime=replace(runtime, parallel=max(1, min(runtime.parallel, len(lacking)))),
    )
    return ShiftSpec(
        options=options,
        items=tuple(replace(i, answer=None, fields={}, tags={}, later=()) for i in items),
        answers=None if answers is None else dict(answers),
        first=lacking[0][0],
        config=same.plain(setup.config(answers is not None)),
        build=build_id(),
        folder=os.getcwd(),
    )
