"""The course of a run of `generate`, which `sweep` goes through for each of its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.formats import counted, percent, rate
from urial_local.cli.plumbing.guide_options import guide_choice
from urial_local.cli.plumbing.options import runtime_choice

if TYPE_CHECKING:
    from urial_local.cli.plumbing.running import Tally
    from urial_local.records.datasets import Count, Fields, Item, Selection
    from urial_local.records.sources import Source
    from urial_local.tasks.generate.setup import GenerateOptions, Plan, Weights


class ParallelType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """auto, or a number of rows."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("auto", None):
            return "auto"
        # The digits of a long number are not repeated.
        return limits.count(str(value), limits.ROWS_AT_A_TIME) or self.fail(
            f"{str(value)[:20]!r} is neither auto nor a number from 1 to {limits.ROWS_AT_A_TIME}",
            param,
            ctx,
        )


@contextmanager
def planned(
    model: str | None, asked: GenerateOptions, embedding_model: str | None = None
) -> Iterator[Plan]:
    """What is to be done, with the pool of --retrieve open, and the remarks on it told."""
    from urial_local.base.registry import DEMO_NOTE
    from urial_local.cli.plumbing.session import tell_about_check, tell_about_context
    from urial_local.cli.plumbing.terminal import note
    from urial_local.tasks.generate import setup
    from urial_local.tasks.model_file import model_file
    from urial_local.tasks.retrieve import Pool

    setup.check(asked)
    if not model:
        note(DEMO_NOTE)
    file = model_file(model or "demo", tell_about_check)
    setup.plan(file, asked)  # before the pool is read: a wrong prompt should not cost that wait
    tell_about_context(file.header, asked.runtime.ctx_size)
    if embedding_model and not asked.retrieve:
        raise UsageError("--embedding-model needs --retrieve, the pool that it searches.")
    with ExitStack() as stack:
        pool = None
        if asked.retrieve:
            embedder = None
            if embedding_model:
                embedder = stack.enter_context(
                    model_file(embedding_model, tell_about_check).embedder()
                )
            pool = stack.enter_context(Pool(asked.retrieve, embedder=embedder))
        plan = setup.plan(file, asked, pool)
        if plan.prompt.reason:
            note(plan.prompt.reason)
        if plan.guide and plan.guide.remark:
            note(plan.guide.remark)
        yield plan


class Questions(Protocol):
    """What a run asks. It is read anew as often as it is needed."""

    @property
    def shard(self) -> tuple[int, int] | None: ...
    def count(self) -> Count: ...
    def items(self) -> Iterator[Item]: ...


@dataclass(frozen=True)
class Dataset:
    """Rows of a source."""

    source: Source
    fields: Fields
    selection: Selection

    def items(self) -> Iterator[Item]:
        from urial_local.records.datasets import iterate

        return iterate(self.source, self.fields, self.selection)

    def count(self) -> Count:
        from urial_local.records.datasets import count

        return count(self.source, self.fields, self.selection)

    @property
    def shard(self) -> tuple[int, int] | None:
        return self.selection.shard


def run(
    plan: Plan, data: Questions, output: Path, weights: Weights | None = None
) -> tuple[Tally, int]:
    """Answer the rows that a run folder lacks; returns what was done, and how many rows of the
    folder are errors. `weights`: those of the model, where other runs go over them, too."""
    from urial_local.cli.plumbing.guiding import GuideRates
    from urial_local.cli.plumbing.running import Tally, end, write_rows
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.cli.plumbing.terminal import note
    from urial_local.records.generated import Generated
    from urial_local.records.runlog import RunLog
    from urial_local.tasks.generate.job import KEY, Job, todo

    found = data.count()
    if found.cut:
        note(
            f"{counted(found.cut, 'row is a conversation', 'rows are conversations')} with a system"
            " text or later questions; only the first question of each is asked."
        )
    job = plan.options.job
    total = found.rows * job.repeat
    with RunLog(output, plan.config(data.shard), KEY, Generated.read) as log:
        if there := log.count_done():
            note(f"{counted(there, 'row is', 'rows are')} there already.")
        first, lacking = None, 0
        # The whole file, so that a changed question is found before a model is loaded.
        for item, _ in todo(log, data.items(), job.repeat):
            first = first or (item if not item.error else None)
            lacking += 1
        if not lacking:
            log.end_session(finished=True)
            return Tally(), log.count_errors()
        with (
            stoppable() as stop,
            (
                weights.open(plan, first, _trial) if weights else plan.open(lacking, first, _trial)
            ) as opened,
        ):
            if plan.options.parallel is None and not plan.options.exact and not opened.told:
                note(f"{counted(opened.parallel, 'row')} at a time.")
            opened.engine.resume()
            work = Job(opened.engine, opened.method, job)
            rates = GuideRates(plan.guide)
            rows = rates.watched(work.rows(todo(log, data.items(), job.repeat)))
            tally = write_rows(log, rows, work, stop, total=total, unit="row", figures=_figures)
        rates.tell()
        end(log, tally, total)
        return tally, log.count_errors()


def _trial(rows: int, per_second: float) -> None:
    from urial_local.cli.plumbing.terminal import note

    note(f"  {rows} at a time: {rate(per_second)}")


def _figures(tally: Tally) -> dict[str, str]:
    ended = tally.ended / max(1, tally.done - tally.errors)
    return {"tok/s": f"{tally.tokens_per_second:.1f}", "ended": percent(ended, 0)}


def generate_options(options: Mapping[str, Any]) -> GenerateOptions:
    """The command's options as the task takes them."""
    from urial_local.cli.plumbing.session import settings
    from urial_local.tasks.generate.job import JobOptions
    from urial_local.tasks.generate.setup import GenerateOptions

    chosen, parallel = settings(options), options["parallel"]
    return GenerateOptions(
        prompt=options["prompt"],
        frame=options["frame"],
        shots=options["shots"],
        retrieve=options["retrieve"],
        restyle=options["restyle"],
        sampling=dict(chosen.sampling),
        max_tokens=chosen.max_tokens,
        markers=chosen.markers,
        stop=chosen.stop,
        prefill=chosen.prefill,
        guide=guide_choice(options),
        parallel=None if parallel == "auto" else parallel,
        exact=options["exact"],
        job=JobOptions(
            repeat=options["repeat"],
            candidates=options["n"],
            pick=options["pick"] if options["n"] > 1 else "first",
            seed=options["seed"] or 0,
            turns=options["turns"] or 0,
        ),
        runtime=runtime_choice(options),
    )
