"""The course of a run of `generate`, which `sweep` goes through for each of its cells."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
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
    from urial_local.cli.plumbing.running import Tally, Work
    from urial_local.records.datasets import Fields, Item, Selection
    from urial_local.records.runlog import RunLog
    from urial_local.records.sources import Source
    from urial_local.tasks.crew.driver import Crew
    from urial_local.tasks.generate.job import Job, Todo
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


class Passing(Protocol):
    """One pass over questions; see records.datasets.Survey."""

    rows: int
    cut: int
    done: bool

    def items(self) -> Iterator[Item]: ...


class Questions(Protocol):
    """What a run asks. It is read anew as often as it is needed."""

    @property
    def shard(self) -> tuple[int, int] | None: ...
    @property
    def in_one_pass(self) -> bool: ...  # nothing has to be known of all rows before the first
    def survey(self) -> Passing: ...


@dataclass(frozen=True)
class Dataset:
    """Rows of a source."""

    source: Source
    fields: Fields
    selection: Selection

    def survey(self) -> Passing:
        from urial_local.records.datasets import Survey

        return Survey(self.source, self.fields, self.selection)

    @property
    def in_one_pass(self) -> bool:
        from urial_local.records.datasets import numbered

        return numbered(self.source, self.fields) and self.selection.ids is None

    @property
    def shard(self) -> tuple[int, int] | None:
        return self.selection.shard


@dataclass(frozen=True)
class Lacking:
    """What a run lacks. `rows` may be counted up to a bound only."""

    todo: Iterator[Todo]
    rows: int
    first: Item | None  # that can be asked
    total: int | None  # of the whole run; None where it is known in the end only


def run(
    plan: Plan,
    data: Questions,
    output: Path,
    weights: Weights | None = None,
    crew: Callable[[Plan, Lacking], Crew] | None = None,
) -> tuple[Tally, int]:
    """Answer the rows that a run folder lacks; returns what was done, and how many rows of the
    folder are errors. `weights`: those of the model, where other runs go over them, too. `crew`:
    several workers answer."""
    from urial_local.cli.plumbing.guiding import GuideRates
    from urial_local.cli.plumbing.running import Tally, end, write_rows
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.cli.plumbing.terminal import note
    from urial_local.records.generated import Generated
    from urial_local.records.runlog import RunLog
    from urial_local.records.runs import is_run
    from urial_local.tasks.generate.job import KEY, longest_first

    job = plan.options.job
    survey, lacking = data.survey(), None
    if data.in_one_pass:
        any(not item.error for item in data.survey().items())  # raises where nothing can be asked
    elif not is_run(output):  # what is wrong with the data should leave no folder
        lacking = _in_all(None, data, survey, job.repeat)
    with RunLog(output, plan.config(data.shard), KEY, Generated.read) as log:
        if there := log.count_done():
            note(f"{counted(there, 'row is', 'rows are')} already there.")
        if lacking is None or there:
            survey = data.survey()
            look = _ahead if data.in_one_pass else _in_all
            lacking = look(log, data, survey, job.repeat)
        if survey.done:
            _tell_cut(survey)
        if not lacking.rows:
            log.end_session(finished=True)
            return Tally(), log.count_errors()
        rates = GuideRates(plan.guide)
        with stoppable() as stop, ExitStack() as stack:
            work: Work
            if crew:
                work = together = crew(plan, lacking)
                rows = together.rows(longest_first(lacking.todo))
            else:
                work = own = stack.enter_context(_alone(plan, lacking, weights))
                rows = own.rows(lacking.todo)
            tally = write_rows(
                log, rates.watched(rows), work, stop, total=lacking.total, unit="row",
                figures=_figures,
            )  # fmt: skip
        rates.tell()
        if lacking.total is None and survey.done:
            _tell_cut(survey)
        end(log, tally, lacking.total)
        return tally, log.count_errors()


@contextmanager
def _alone(plan: Plan, lacking: Lacking, weights: Weights | None) -> Iterator[Job]:
    """One engine in this process."""
    from urial_local.cli.plumbing.terminal import note
    from urial_local.tasks.generate.job import Job

    opening = (
        weights.open(plan, lacking.first, _trial)
        if weights
        else plan.open(lacking.rows, lacking.first, _trial)
    )
    with opening as opened:
        if plan.options.parallel is None and not plan.options.exact and not opened.told:
            note(f"{counted(opened.parallel, 'row')} at a time.")
        opened.engine.resume()
        yield Job(opened.engine, opened.method, plan.options.job)


def _in_all(log: RunLog | None, data: Questions, survey: Passing, repeat: int) -> Lacking:
    """What a run lacks, from a pass over all of it, so that a changed question is found before a
    model is loaded. A run that is not there yet lacks all."""
    from urial_local.tasks.generate.job import todo

    first, rows = None, 0
    for item, _ in todo(log, survey.items(), repeat):
        first = first or (item if not item.error else None)
        rows += 1
    rest = todo(log, data.survey().items(), repeat)
    return Lacking(rest, rows, first, survey.rows * repeat)


def _ahead(log: RunLog, data: Questions, survey: Passing, repeat: int) -> Lacking:
    """What a run lacks, as far as the next rows; the others are found as they are reached."""
    from urial_local.tasks.generate.job import WINDOW, todo

    rest = todo(log, survey.items(), repeat)
    head = list(itertools.islice(rest, WINDOW))
    first = next((item for item, _ in head if not item.error), None)
    total = survey.rows * repeat if survey.done else None
    return Lacking(itertools.chain(head, rest), len(head), first, total)


def _tell_cut(survey: Passing) -> None:
    from urial_local.cli.plumbing.terminal import note

    if survey.cut:
        note(
            f"{counted(survey.cut, 'row is a conversation', 'rows are conversations')} with a"
            " system text or later questions; only the first question of each is asked."
        )


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
        chat_template=options["chat_template"],
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
