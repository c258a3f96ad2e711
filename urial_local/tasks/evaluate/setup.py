"""What a judging run is asked to do: which answers are judged, and by whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from urial_local.base.errors import UsageError
from urial_local.records.datasets import Fields, Item, Selection, in_shard
from urial_local.tasks.evaluate.answered import Answered, read_answered
from urial_local.tasks.evaluate.job import Plan, Prepared, prepare, rows_to_judge
from urial_local.tasks.evaluate.judge import Judge
from urial_local.tasks.evaluate.local_judge import (
    LocalJudge,
    LocalOptions,
    fitting_context,
    open_local_judge,
)
from urial_local.tasks.model_file import ModelFile, OnCheck, OnPrefill, model_file

ENDPOINT = "openai:"  # before the name of a model that is not on this machine


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """What the user chose of the judge. `local` is a local one's, and its runtime's `parallel` is
    ours; `base_url` and `max_tokens` are an endpoint's."""

    name: str  # of a model on this machine, or ENDPOINT with that of another
    parallel: int = 8  # rows, or requests, at a time
    local: LocalOptions = field(default_factory=LocalOptions)
    base_url: str | None = None
    max_tokens: int = 1024  # of the longest reply


@dataclass(frozen=True, slots=True)
class Listener:
    """Who hears of what takes a while, or may surprise, before the first row."""

    check: OnCheck = lambda path: None
    found: Callable[[ModelFile], None] = lambda file: None  # before weights are loaded
    prefill: OnPrefill | None = None


def rows_of(
    name: str,
    wording: Plan,
    *,
    against: str | None = None,
    selection: Selection | None = None,
    fields: Fields | None = None,
    kind: str | None = None,
) -> list[Prepared]:
    """The answers of a run or a file that are chosen, with what the judge is asked of each.
    `against`: the second answers of a pairwise run.

    Raises UsageError where there are none, or none of them can be judged.
    """
    chosen = list(chosen_answers(name, selection or Selection(), fields, kind))
    if not chosen:
        raise UsageError(f"{name} has no answers, or none that is chosen.")
    others = {(row.id, row.repeat): row for row in read_answered(against)} if against else {}
    rows = prepare(rows_to_judge(chosen, wording.mode, others), wording)
    if not any(question for _, question in rows):
        raise UsageError(f"No row of {name} can be judged. The first: {rows[0][0]['error']}")
    return rows


def chosen_answers(
    name: str, selection: Selection, fields: Fields | None = None, kind: str | None = None
) -> Iterator[Answered]:
    """The answers that a selection takes; `limit` counts before shards are taken. Raises UsageError
    for ids that are not there."""
    taken = 0
    absent = set(selection.ids or ())
    for row in read_answered(name, fields, kind):
        item = Item(row.id, row.number, "", tags=row.tags)
        absent.discard(row.id)
        if selection.limit is not None and taken >= selection.limit:
            return
        if selection.takes(item):
            taken += 1
            if in_shard(item, selection.shard):
                yield row
    if absent:
        raise UsageError(f"{name} has no row {', '.join(map(repr, sorted(absent)[:10]))}.")


@contextmanager
def open_judge(
    options: JudgeOptions, rows: Sequence[Prepared], tell: Listener = Listener()
) -> Iterator[Judge]:
    """The judge of these rows, closed in the end. Raises as the two kinds do."""
    if not options.name.startswith(ENDPOINT):
        with open_fitting(options, rows, tell) as local:
            yield local
        return
    from urial_local.tasks.evaluate.endpoint import EndpointJudge, EndpointOptions

    yield EndpointJudge(
        EndpointOptions(
            model=options.name.removeprefix(ENDPOINT),
            base_url=options.base_url,
            parallel=options.parallel,
            max_tokens=options.max_tokens,
        )
    )


@contextmanager
def open_fitting(
    options: JudgeOptions, rows: Sequence[Prepared], tell: Listener = Listener()
) -> Iterator[LocalJudge]:
    """A judge on this machine, no larger than these rows need: that many at a time, and where no
    context was chosen, the longest one's. Raises as `open_local_judge` does."""
    file, local = fitting(options, rows, tell)
    with open_local_judge(file, local, tell.prefill) as judge:
        yield judge


def fitting(
    options: JudgeOptions, rows: Sequence[Prepared], tell: Listener = Listener()
) -> tuple[ModelFile, LocalOptions]:
    """The judge's file, and how it is opened for these rows; no weights are loaded."""
    file = model_file(options.name, tell.check)
    tell.found(file)
    runtime = replace(options.local.runtime, parallel=max(1, min(options.parallel, len(rows))))
    local = replace(options.local, runtime=runtime)
    if not runtime.ctx_size:
        need = fitting_context(file, [question for _, question in rows if question], local)
        local = replace(local, runtime=replace(runtime, ctx_size=need))
    return file, local
