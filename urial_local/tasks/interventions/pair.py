"""What both experiments share: answers of two open models, and the rows that hold them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from urial_local.base.errors import ModelError, UrialError, UsageError
from urial_local.records.datasets import Item
from urial_local.records.runlog import asked_digest
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.rows import Completion, Request
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.voice import Voice
from urial_local.tasks.generate.flags import flags_of
from urial_local.tasks.prompted import PromptedModel
from urial_local.tasks.shift.analysis import Analysis
from urial_local.tasks.shift.kept import kept_ids
from urial_local.tasks.shift.setup import Setup

Side = Literal["base", "aligned"]
SIDES: tuple[Side, ...] = ("base", "aligned")
Row = dict[str, Any]
S = TypeVar("S", bound="Step")


def other(side: Side) -> Side:
    return "aligned" if side == "base" else "base"


@dataclass(frozen=True, slots=True)
class Step:
    """A row to make. `context`: the base model's; empty for the aligned model's own answer."""

    context: str
    item: Item


@dataclass(frozen=True, slots=True)
class Source:
    """An answer that others are made from or compared with. `ids`: without the end."""

    ids: tuple[int, ...]
    ended: bool


def check(setup: Setup) -> None:
    """Raises UsageError for what an experiment over one pair has no use for."""
    if len(setup.aligned) > 1:
        raise UsageError("`handover` and `swap` take one `aligned` model at a time.")
    if not next(iter(setup.pairs.values())).same:
        raise UsageError(
            "The two vocabularies differ, but each model must continue the other's tokens."
        )


def config(setup: Setup, task: str, more: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides a row of an experiment."""
    plain = setup.config(False)
    kept = ("base", "contexts", "sampling", "max_tokens", "kv_type", "shard")
    return {
        "task": task,
        **{name: plain[name] for name in kept},
        "aligned": plain["aligned"][0],
        **more,
    }


class Experiment(Analysis, Generic[S]):
    """One run over a pair. It writes nothing: rows are yielded as they are made."""

    def __init__(self, setup: Setup, items: Sequence[Item]) -> None:
        """`items` are all there are: what a row gets must not depend on which are left."""
        super().__init__(setup, items)
        self.sources: dict[tuple[str, ...], Source] = {}
        (self.aligned_name,) = setup.aligned_prompts

    def pair(self, stack: ExitStack) -> Pair:
        """Both models, open until the stack is closed."""
        setup, o = self.setup, self.setup.options
        base = stack.enter_context(self._open(setup.base))
        aligned = stack.enter_context(self._open(setup.aligned[0]))
        ways = {"sampling": o.sampling, "max_tokens": o.max_tokens}
        prompt = setup.aligned_prompts[self.aligned_name]
        contexts = {n: PromptedModel(base, p, **ways) for n, p in setup.contexts.items()}  # type: ignore[arg-type]
        return Pair(base, aligned, PromptedModel(aligned, prompt, **ways), contexts)  # type: ignore[arg-type]

    def room(self, pair: Pair, side: Side) -> int:
        """Tokens that a row of a model may come to need."""
        askers = [pair.asker] if side == "aligned" else list(pair.contexts.values())
        return self._ctx_size(pair.model(side), askers, self.setup.options.max_tokens)

    def engine(self, stack: ExitStack, pair: Pair, side: Side, rows: int) -> Engine:
        return self._engine(stack, pair.model(side), self.room(pair, side), rows)

    def voice(self, stack: ExitStack, pair: Pair, side: Side, rows: int) -> tuple[Voice, int]:
        """A model that is asked beside the engine of the other, and its room."""
        runtime, room = self.setup.options.runtime, self.room(pair, side)
        parallel = max(1, min(runtime.parallel, rows))
        sequences = Sequences(
            pair.model(side),
            cells=room * parallel,
            n_seq=parallel,
            batch=min(runtime.batch, room * parallel),
            threads=runtime.threads,
            flash_attention=False,
            kv_type=runtime.kv_type,
            abort_flag=self._abort_flag,
        )
        stack.callback(sequences.close)
        return Voice(sequences), room

    def answered(
        self,
        engine: Engine,
        steps: Sequence[S],
        request: Callable[[S], Request],
        row: Callable[[S, Completion, Request], Row],
    ) -> Iterator[tuple[S, Row]]:
        """Rows of steps that an engine answers, error rows among them. A request's tag is the
        number of its step."""
        failed: list[tuple[S, Row]] = []
        began: dict[int, tuple[S, Request, float]] = {}

        def requests() -> Iterator[Request]:
            for i, step in enumerate(steps):
                if self._stopping:
                    return
                try:
                    if step.item.error:
                        raise UrialError(step.item.error)
                    asked = replace(request(step), tag=i)
                    engine.check_fits(asked)
                except UrialError as error:
                    failed.append((step, self.failure(step, error)))
                    continue
                began[i] = step, asked, time.perf_counter()
                yield asked

        for happened in engine.stream(requests()):
            if happened.completion is not None:
                step, asked, since = began.pop(int(str(happened.tag)))
                yield step, self._finished(step, asked, since, happened.completion, row)
            while failed:
                yield failed.pop(0)
        yield from failed

    def _finished(
        self,
        step: S,
        asked: Request,
        since: float,
        done: Completion,
        row: Callable[[S, Completion, Request], Row],
    ) -> Row:
        try:
            if done.finish_reason == "error":
                raise UrialError(done.error)
            seconds = round(time.perf_counter() - since, 4)
            return {**self.head(step), **row(step, done, asked), "seconds": seconds}
        except UrialError as error:
            return self.failure(step, error)

    def head(self, step: S) -> Row:
        """What every row of a step has."""
        raise NotImplementedError

    def failure(self, step: S, error: UrialError) -> Row:
        """The step's error row. Raises the error where it is not the row's own fault."""
        if isinstance(error, ModelError):
            raise error
        return {**self.head(step), "error": error.message}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two open models, and how each is asked."""

    base: Model
    aligned: Model
    asker: PromptedModel  # the aligned model's
    contexts: Mapping[str, PromptedModel]

    def model(self, side: Side) -> Model:
        return self.base if side == "base" else self.aligned

    def ask(self, side: Side, step: Step) -> Request:
        """The step's question, as this side reads it."""
        asker = self.asker if side == "aligned" else self.contexts[step.context]
        # An answer that is empty says something of the model: none is forced upon it here. And what
        # was asked before leaves no trace, though many rows begin alike.
        return replace(asker.request(step.item.query), retry_empty=False, alone=True)


def item_fields(item: Item) -> Row:
    """What a row says of its question."""
    return {
        "id": item.id,
        "number": item.number,
        "query": item.query,
        "tags": {k: list(v) for k, v in item.tags.items()},
        "asked_sha": asked_digest(item.query),
    }


def answer_fields(done: Completion, piece: Callable[[int], bytes]) -> Row:
    """What a row says of an answer. `answer_ids`: without its end and its frame's closing."""
    ids = kept_ids(done, piece)
    return {
        "answer": done.text,
        "answer_ids": ids,
        "ended": done.ended,
        "finish_reason": done.finish_reason,
        "flags": flags_of(done.text, done.finish_reason),
    }
