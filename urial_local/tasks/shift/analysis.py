"""Runs a shift analysis: answers, scores, rows. One aligned model after the other.

The aligned model answers on the batching engine; as each answer is complete it is scored, in the
same process and before the next batch, and becomes one row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from urial_local.base.errors import ModelError, UrialError
from urial_local.records.datasets import Item
from urial_local.records.runlog import RunLog, asked_digest
from urial_local.runtime import llama_api
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompted import PromptedModel
from urial_local.tasks.shift.lengths import SLACK, counted, longest, longest_prompt
from urial_local.tasks.shift.scorer import GivenAnswer, Scorer
from urial_local.tasks.shift.scoring import Bridge
from urial_local.tasks.shift.setup import Setup

SHAPE_ROWS = 4  # the first of a run, in which the effect of a batch's shape is measured


Row = dict[str, Any]  # as rows.jsonl has it
# A row to make: the aligned model's name, an item, and which of its samples ("" for the only one).
Todo = tuple[str, Item, str]
Answering = tuple[Item, str]  # the same, where the model is known
T = TypeVar("T")


def todo(
    log: RunLog, setup: Setup, items: Sequence[Item], answers: Mapping[str, str] | None
) -> list[Todo]:
    """The rows that a run lacks. Raises UsageError where a question or a given answer has
    changed."""
    what = "The question" if answers is None else "The question or the answer to"
    return [
        (model.name, item, sample)
        for model in setup.aligned
        for item in items
        for sample in samples(setup)
        if log.lacks(
            model.name, item.id, sample, asked=_asked(item, answers), what=f"{what} {item.id!r}"
        )
    ]


def samples(setup: Setup) -> tuple[str, ...]:
    """The answers to each question, as rows name them."""
    n = setup.options.samples
    return tuple(map(str, range(n))) if n > 1 else ("",)


def _asked(item: Item, answers: Mapping[str, str] | None) -> str:
    given = (answers or {}).get(item.id)
    return asked_digest(item.query) if given is None else asked_digest(item.query, given)


class Analysis:
    """One run: opens the models it needs. It writes nothing: rows are yielded as they are made."""

    def __init__(
        self, setup: Setup, items: Sequence[Item], answers: Mapping[str, str] | None = None
    ) -> None:
        """`items` are all there are: what a row gets must not depend on which are left. `answers`:
        given ones, by item id."""
        self.setup, self.items, self.answers = setup, items, answers
        self._abort_flag = np.zeros(1, np.int32)
        self._stopping = False
        self._scored_again = {item.id for item in items[:SHAPE_ROWS]}

    def stop(self) -> None:
        """Begin no new rows; those in flight are finished. May be called from a signal handler."""
        self._stopping = True

    def abort(self) -> None:
        """Leave those in flight, too: `rows` raises Aborted."""
        self._abort_flag[0] = 1

    def rows(self, todo: Sequence[Todo]) -> Iterator[Row]:
        """Make these rows, one aligned model after the other, error rows among them.

        Raises Aborted where that was asked for, ModelError where nothing can go on.
        """
        pending = {
            model.name: [(item, sample) for name, item, sample in todo if name == model.name]
            for model in self.setup.aligned
        }
        if not todo:
            return
        with ExitStack() as stack:
            sides = self.open_base(stack)
            for model in self.setup.aligned:
                if (rows := pending[model.name]) and not self._stopping:
                    with ExitStack() as its:
                        one = self.open_aligned(its, sides, model, len(rows))
                        yield from self.made(one, rows)

    def _open(self, file: ModelFile) -> Model:
        runtime = self.setup.options.runtime
        model = file.load(runtime.gpu_layers)
        model.vocab.most = runtime.ctx_size or model.ctx_train or None
        return model

    def open_base(self, stack: ExitStack) -> BaseSides:
        """The base model's contexts, open for the whole run: each prefix is decoded once."""
        base = stack.enter_context(self._open(self.setup.base))
        file = self.setup.noise
        noise = stack.enter_context(self._open(file)) if file else None
        prompts = self.setup.contexts
        contexts = {name: PromptedModel(base, prompt) for name, prompt in prompts.items()}
        first = next(iter(prompts.values()))
        longest = self._longest_answer(base)
        other = None
        if noise:
            asker = PromptedModel(noise, first)
            ctx = self._ctx_size(noise, [asker], longest)
            other = (asker, self._forced(stack, noise, 1, ctx))
        ctx = self._ctx_size(base, list(contexts.values()), longest)
        forced = self._forced(stack, base, len(contexts), ctx)
        return BaseSides(base, contexts, forced, other)

    def open_aligned(
        self, stack: ExitStack, sides: BaseSides, file: ModelFile, rows: int
    ) -> OpenPair:
        """An aligned model beside the base. `rows`: how many there are to make with it."""
        setup, o = self.setup, self.setup.options
        aligned = stack.enter_context(self._open(file))
        asker = PromptedModel(
            aligned,
            setup.aligned_prompts[file.name],
            sampling=o.sampling,
            max_tokens=o.max_tokens,
        )
        ctx = self._ctx_size(aligned, [asker], self._longest_answer(aligned))
        scorer = Scorer(
            setup=setup,
            bridge=Bridge(setup.pairs[file.name], sides.base.vocab, aligned.vocab),
            asker=asker,
            aligned=self._forced(stack, aligned, 1, ctx),
            contexts=sides.contexts,
            bases=sides.forced,
            noise=sides.noise,
        )
        engine = self._engine(stack, aligned, ctx, rows) if self.answers is None else None
        return OpenPair(file, scorer, engine)

    def made(self, one: OpenPair, todo: Iterable[Answering | None]) -> Iterator[Row]:
        """Rows of one aligned model. A None says that the next one is not known yet: it is asked
        for again after the next batch, and ends this where no row is in flight. What was drawn is
        made."""
        if one.engine is not None:
            yield from self._generated(one, one.engine, todo)
            return
        for pair in self._until_stopped(todo):
            if pair is None:
                return
            item, sample = pair
            given = partial(one.scorer.given, item, (self.answers or {}).get(item.id))
            yield self._row(one.file, item, sample, one.scorer, given)

    def _until_stopped(self, todo: Iterable[T]) -> Iterator[T]:
        for one in todo:
            yield one
            if self._stopping:
                return

    def _forced(self, stack: ExitStack, model: Model, prompts: int, ctx: int) -> TeacherForced:
        """A scoring context of the model with a sequence of `ctx` tokens for each prompt."""
        runtime = self.setup.options.runtime
        sequences = Sequences(
            model,
            cells=ctx * prompts,
            n_seq=prompts,
            batch=min(runtime.batch, 512),
            threads=runtime.threads,
            flash_attention=False,
            kv_type=runtime.kv_type,
            unified=False,
            abort_flag=self._abort_flag,
        )
        stack.callback(sequences.close)
        return TeacherForced(sequences, self._cache(model, sequences), ctx)

    def _cache(self, model: Model, sequences: Sequences) -> PrefixCache | None:
        if not self.setup.options.runtime.disk_cache:
            return None
        parts = (model.fingerprint, llama_api.build_id(), sequences.cache_id, "scoring")
        return PrefixCache("\n".join(parts), per_token=model.state_bytes_per_token)

    def _ctx_size(self, model: Model, askers: Sequence[PromptedModel], answer: int) -> int:
        """Tokens a sequence needs: the longest prompt and answer, or what the user said."""
        asked = self.setup.options.runtime.ctx_size
        if asked:
            return asked
        prompt = max(longest_prompt(asker, self.items) for asker in askers)
        need = -(-(prompt + answer + SLACK) // 256) * 256
        return min(need, model.ctx_train) if model.ctx_train else need

    def _longest_answer(self, model: Model) -> int:
        """Tokens of the longest answer there may be."""
        if self.answers is None:
            return self.setup.options.max_tokens
        texts = [self.answers[i.id] for i in self.items if i.id in self.answers]
        return longest(texts, lambda text: counted(lambda: model.vocab.count(text))) + 1

    def _engine(self, stack: ExitStack, model: Model, ctx: int, rows: int) -> Engine:
        o = self.setup.options
        parallel = max(1, min(o.runtime.parallel, rows))
        sequences = Sequences(
            model,
            cells=ctx * parallel,
            n_seq=parallel + 1,
            batch=min(o.runtime.batch, ctx * parallel),
            threads=o.runtime.threads,
            flash_attention=False,
            kv_type=o.runtime.kv_type,
            abort_flag=self._abort_flag,
        )
        stack.callback(sequences.close)
        return Engine(
            model.vocab,
            sequences,
            ctx_size=ctx,
            exact=parallel == 1,
            cache=self._cache(model, sequences),
        )

    def _generated(
        self, one: OpenPair, engine: Engine, todo: Iterable[Answering | None]
    ) -> Iterator[Row]:
        """Each answer is scored as it is complete, before the next batch."""
        failed: list[Row] = []
        asked: dict[int, Answering] = {}

        def requests() -> Iterator[Request | None]:
            for n, pair in enumerate(self._until_stopped(todo)):
                if pair is None:
                    yield None
                    continue
                item, sample = pair
                try:
                    request = one.scorer.request(item, int(sample or 0))
                except UrialError as error:
                    failed.append(self._error(one.file, item, sample, error))
                    continue
                asked[n] = pair
                # One at a time, it does not matter what came before, nor whether it was waited for.
                yield replace(request, tag=n, alone=engine.exact)

        for step in engine.stream(requests()):
            if step.completion is not None:
                given = partial(one.scorer.generated, step.completion)
                item, sample = asked.pop(int(str(step.tag)))
                yield self._row(one.file, item, sample, one.scorer, given)
            while failed:
                yield failed.pop(0)
        yield from failed

    def _row(
        self,
        file: ModelFile,
        item: Item,
        sample: str,
        scorer: Scorer,
        answer: Callable[[], GivenAnswer],
    ) -> Row:
        """One row: scored, or an error row that says why not."""
        began = time.perf_counter()
        try:
            if item.error:
                raise UrialError(item.error)
            found = answer()
            again = item.id in self._scored_again and int(sample or 0) == 0
            return {
                "id": item.id,
                **_sampled(sample),
                "number": item.number,
                "aligned": file.name,
                "query": item.query,
                "tags": {k: list(v) for k, v in item.tags.items()},
                "answer": found.text,
                "answer_ids": found.ids,
                "ended": found.ended,
                "end_token": found.end_token,
                "finish_reason": found.finish_reason,
                "asked_sha": _asked(item, self.answers),
                **scorer.score(item, found, again=again),
                "seconds": round(time.perf_counter() - began, 4),
            }
        except UrialError as error:
            scorer.forget()
            return self._error(file, item, sample, error)

    def _error(self, file: ModelFile, item: Item, sample: str, error: UrialError) -> Row:
        if isinstance(error, ModelError):
            raise error  # not the row's own fault
        return error_row((file.name, item, sample), error.message)


def error_row(task: Todo, message: str) -> Row:
    """What a run holds of a row that could not be made."""
    aligned, item, sample = task
    return {
        "id": item.id,
        **_sampled(sample),
        "number": item.number,
        "aligned": aligned,
        "query": item.query,
        "error": message,
    }


def _sampled(sample: str) -> dict[str, int]:
    """Which of the answers to its question a row has, where there are several."""
    return {"sample": int(sample)} if sample else {}


@dataclass(frozen=True, slots=True)
class OpenPair:
    """An aligned model and the base, ready for rows."""

    file: ModelFile  # the aligned model's
    scorer: Scorer
    engine: Engine | None  # in which the aligned model writes its answers, where it does


@dataclass(frozen=True, slots=True)
class BaseSides:
    """The base model in its contexts, and its other quantisation in the first of them."""

    base: Model
    contexts: Mapping[str, PromptedModel]
    forced: TeacherForced
    noise: tuple[PromptedModel, TeacherForced] | None
