"""What a worker has to know to answer rows of a `generate` run, and how it does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from urial_local.records.datasets import Item
from urial_local.records.runs import key_of
from urial_local.runtime.llama_api import build_id
from urial_local.tasks.crew import same
from urial_local.tasks.generate import setup
from urial_local.tasks.generate.job import KEY, Job, Row, Todo, error_row
from urial_local.tasks.generate.setup import GenerateOptions, Opened, Plan
from urial_local.tasks.model_file import model_file
from urial_local.tasks.retrieve import Pool


@dataclass(frozen=True, slots=True)
class GenerateSpec:
    """A run as its workers are told of it; see tasks.crew.messages.Spec."""

    model: str  # by its name in the registry, or its file
    options: GenerateOptions
    embedding_model: str | None
    config: Mapping[str, Any]  # the driver's, with the model's fingerprint and the prompt's
    build: str  # of the driver's llama.cpp
    folder: str  # in which names of files are meant
    first: Item | None = None  # to measure with, where rows at a time are not chosen
    rows: int = 1 << 20  # of the whole run, as far as is known

    @contextlib.contextmanager
    def open(self) -> Iterator[Maker]:
        """Raises UsageError where this machine would make other rows than the driver's."""
        same.go_to(self.folder)
        with contextlib.ExitStack() as stack:
            pool = None
            if self.options.retrieve:
                embedder = None
                if self.embedding_model:
                    embedder = stack.enter_context(model_file(self.embedding_model).embedder())
                pool = stack.enter_context(Pool(self.options.retrieve, embedder=embedder))
            plan = setup.plan(model_file(self.model), self.options, pool)
            driver, own = ({**config, "shard": None} for config in (self.config, plan.config()))
            same.refuse_others(driver, self.build, own)
            opened = stack.enter_context(plan.open(self.rows, self.first))
            opened.engine.resume()
            yield Maker(opened, self.options)

    def key(self, task: Todo) -> tuple[str, ...]:
        item, repeat = task
        return item.id, str(repeat)

    def key_of(self, row: Row) -> tuple[str, ...]:
        return key_of(row, KEY)

    def failed(self, task: Todo, message: str) -> Row:
        return error_row(*task, message)


class Maker:
    """Answers rows; see tasks.crew.messages.Maker."""

    def __init__(self, opened: Opened, options: GenerateOptions) -> None:
        self.slots = opened.parallel
        self._job = Job(opened.engine, opened.method, options.job)

    def rows(self, todo: Iterator[Todo | None]) -> Iterator[Row]:
        return self._job.live_rows(todo)

    def stop(self) -> None:
        self._job.stop()


def spec_of(
    plan: Plan,
    first: Item | None,
    rows: int,
    embedding_model: str | None = None,
    threads: int | None = None,
    on_cpu: bool = False,
) -> GenerateSpec:
    """A plan for workers. `threads`: of each, unless the user chose; `on_cpu`: no GPU is used."""
    runtime = same.for_each(plan.options.runtime, threads, on_cpu)
    return GenerateSpec(
        model=same.name_for_workers(plan.file),
        options=replace(plan.options, runtime=runtime),
        embedding_model=embedding_model,
        config=same.plain(plan.config()),
        build=build_id(),
        folder=os.getcwd(),
        first=first,
        rows=rows,
    )
