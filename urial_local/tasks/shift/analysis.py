"""Runs a shift analysis: answers, scores, rows. One aligned model after the other.

The aligned model answers on the batching engine; as each answer is complete it is scored, in the
same process and before the next batch, and becomes one row.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

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
from urial_local.tasks.shift.scorer import GivenAnswer, Scorer
from urial_local.tasks.shift.scoring import Bridge
from urial_local.tasks.shift.setup import Setup

SLACK = 32  # tokens
SHAPE_ROWS = 4  # the first of a run, in which the effect of a batch's shape is measured


Row = dict[str, Any]  # as rows.jsonl has it
# A row to make: the aligned model's name, an item, and which of its samples ("" for the only one).
Todo = tuple[str, Item, str]


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
            base = stack.enter_context(self._open(self.setup.base))
            noise_file = self.setup.noise
            noise = stack.enter_context(self._open(noise_file)) if noise_file else None
            sides = self._base_sides(stack, base, noise)
            for model in self.setup.aligned:
                if pending[model.name] and not self._stopping:
                    yield from self._one_aligned(sides, model, pending[model.name])

    def _open(self, file: ModelFile) -> Model:
        runtime = self.setup.options.runtime
        model = file.load(runtime.gpu_layers)
        model.vocab.most = runtime.ctx_size or model.ctx_train or None
        return model

    def _base_sides(self, stack: ExitStack, base: Model, noise: Model | None) -> _BaseSides:
        """The base model's contexts, open for the whole run: each prefix is decoded once."""
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
        return _BaseSides(base, contexts, forced, other)

    def _one_aligned(
        self, sides: _BaseSides, file: ModelFile, pending: Sequence[tuple[Item, str]]
    ) -> Iterator[Row]:
        setup, o = self.setup, self.setup.options
        with ExitStack() as stack:
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
            if self.answers is None:
                engine = self._engine(stack, aligned, ctx, len(pending))
                yield from self._generated(engine, file, pending, scorer)
                return
            for item, sample in pending:
                if self._stopping:
                    return
                given = partial(scorer.given, item, self.answers.get(item.id))
                yield self._row(file, item, sample, scorer, given)

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
        prompt = max(_longest_prompt(asker, self.items) for asker in askers)
        need = -(-(prompt + answer + SLACK) // 256) * 256
        return min(need, model.ctx_train) if model.ctx_train else need

    def _longest_answer(self, model: Model) -> int:
        """Tokens of the longest answer there may be."""
        if self.answers is None:
            return self.setup.options.max_tokens
        texts = [self.answers[i.id] for i in self.items if i.id in self.answers]

        return _longest(texts, lambda text: _tokens(lambda: model.vocab.count(text))) + 1

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
        self,
        engine: Engine,
        file: ModelFile,
        pending: Sequence[tuple[Item, str]],
        scorer: Scorer,
    ) -> Iterator[Row]:
        """Each answer is scored as it is complete, before the next batch."""
        failed: list[Row] = []

        def requests() -> Iterator[Request]:
            for n, (item, sample) in enumerate(pending):
                if self._stopping:
                    return
                try:
                    request = scorer.request(item, int(sample or 0))
                except UrialError as error:
                    failed.append(self._error(file, item, sample, error))
                    continue
                yield replace(request, tag=n)

        for step in engine.stream(requests()):
            if step.completion is not None:
                given = partial(scorer.generated, step.completion)
                yield self._row(file, *pending[int(str(step.tag))], scorer, given)
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
        return {
            "id": item.id,
            **_sampled(sample),
            "number": item.number,
            "aligned": file.name,
            "query": item.query,
            "error": error.message,
        }


def _sampled(sample: str) -> dict[str, int]:
    """Which of the answers to its question a row has, where there are several."""
    return {"sample": int(sample)} if sample else {}


@dataclass(frozen=True, slots=True)
class _BaseSides:
    """The base model in its contexts, and its other quantisation in the first of them."""

    base: Model
    contexts: Mapping[str, PromptedModel]
    forced: TeacherForced
    noise: tuple[PromptedModel, TeacherForced] | None


def _longest_prompt(asker: PromptedModel, items: Sequence[Item]) -> int:
    """Tokens of the longest question's prompt. To lay out all of them would take seconds (chat
    templates are rendered in a process of their own), so it is done only where a question's own
    tokens may make it the longest; SLACK is for tokens that are other ones inside a frame."""
    vocab = asker.model.vocab
    frame = _tokens(lambda: len(asker.request("x").tokens))
    return _longest(
        [item.query for item in items if not item.error],
        lambda query: _tokens(lambda: len(asker.request(query).tokens)),
        lambda query: frame + _tokens(lambda: vocab.count(query)) + _escapes(query),
        frame,
    )


def _escapes(query: str) -> int:
    """Tokens at most that keep a question inside its frame: a backslash a line, longer fences."""
    fence = max(map(len, re.findall("[`~]+", query)), default=0)
    return 2 * (query.count("\n") + 1 + fence)


def _tokens(count: Callable[[], int]) -> int:
    try:
        return count()
    except UrialError:
        return 0  # an error row, when its turn comes


def _longest(
    texts: Sequence[str],
    tokens: Callable[[str], int],
    at_most: Callable[[str], int] | None = None,
    frame: int = 0,
) -> int:
    """The most tokens that any of the texts has, `frame` of them around it. A token has a byte at
    least (two are reckoned, for escaped markers), so texts too short to have more than is known are
    not tokenised; nor are those whose bound, which is cheaper, says the same."""
    most = 0
    for text in sorted(texts, key=lambda t: -len(t.encode("utf-8", "surrogatepass"))):
        if frame + 2 * len(text.encode("utf-8", "surrogatepass")) <= most:
            break
        if at_most is None or at_most(text) > most:
            most = max(most, tokens(text))
    return most
