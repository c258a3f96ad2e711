"""Runs a shift analysis: answers, scores, rows. One aligned model after the other.

The aligned model answers on the batching engine; as each answer is complete it is scored, in the
same process and before the next batch, and becomes one row of the run log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np

from urial_local.base.errors import Interrupted, ModelError, UrialError
from urial_local.records.datasets import Item
from urial_local.records.runlog import RunLog, read_rows, write_json
from urial_local.runtime import llama_api
from urial_local.runtime.engine import Engine
from urial_local.runtime.interrupt import interruptible
from urial_local.runtime.model import Model
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Completion, Request
from urial_local.runtime.sequences import Aborted, Sequences
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompted import PromptedModel
from urial_local.tasks.shift.scorer import GivenAnswer, Scorer
from urial_local.tasks.shift.scoring import Bridge
from urial_local.tasks.shift.setup import Setup

SAMPLE = 16  # longest queries that decide how large a context is made
SLACK = 32  # tokens


@dataclass
class Progress:
    """What a face shows of a run. `tell` is called after each row."""

    total: int
    done: int = 0
    tokens: int = 0
    tell: Callable[[Progress], None] = lambda progress: None

    def row(self, tokens: int) -> None:
        self.done += 1
        self.tokens += tokens
        self.tell(self)


class Analysis:
    """Open models and the log of one run. Use as a context manager."""

    def __init__(self, setup: Setup, log: RunLog, progress: Progress) -> None:
        self.setup, self.log, self.progress = setup, log, progress
        self._stack = ExitStack()
        self._abort_flag = np.zeros(1, np.int32)

    def __enter__(self) -> Analysis:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, items: Sequence[Item], answers: Mapping[str, str] | None) -> None:
        """Make every row that the log lacks. `answers`: given ones, by item id.

        Raises Interrupted on Ctrl-C, ModelError or RunError where nothing can go on.
        """
        pending = {
            model.name: [i for i in items if not self.log.has(model.name, i.id)]
            for model in self.setup.aligned
        }
        if not any(pending.values()):
            return
        self._refuse_changed_queries(items)
        with interruptible(self._abort_flag):
            try:
                with ExitStack() as stack:
                    base = stack.enter_context(self._open(self.setup.base))
                    noise_file = self.setup.noise
                    noise = stack.enter_context(self._open(noise_file)) if noise_file else None
                    for model in self.setup.aligned:
                        if pending[model.name]:
                            self._one_aligned(base, noise, model, pending[model.name], answers)
            except Aborted:
                raise Interrupted(
                    f"Stopped; {self.progress.done:,} of {self.progress.total:,} rows are done.",
                    "The same command goes on from there.",
                ) from None

    def _open(self, file: ModelFile) -> Model:
        return Model(
            file.path, gpu_layers=self.setup.options.runtime.gpu_layers, header=file.header
        )

    def _refuse_changed_queries(self, items: Sequence[Item]) -> None:
        """The dataset may have grown since the run began, but not changed."""
        queries = {item.id: item.query for item in items}
        for row in read_rows(self.log.rows_path):
            now = queries.get(str(row.get("id")))
            if now is not None and "query" in row and not row.get("error") and now != row["query"]:
                raise UrialError(
                    f"The question {row['id']!r} is not the one that this run holds.",
                    "The file of questions has changed; choose another folder with -o.",
                )

    def _one_aligned(
        self,
        base: Model,
        noise: Model | None,
        file: ModelFile,
        items: Sequence[Item],
        answers: Mapping[str, str] | None,
    ) -> None:
        setup, o = self.setup, self.setup.options
        with ExitStack() as stack:
            aligned = stack.enter_context(self._open(file))
            asker = PromptedModel(
                aligned,
                setup.aligned_prompts[file.name],
                sampling=o.sampling,
                max_tokens=o.max_tokens,
            )
            contexts = {
                name: PromptedModel(base, prompt) for name, prompt in setup.contexts.items()
            }
            longest = _longest_answer(items, answers, asker, o.max_tokens)
            scorer = Scorer(
                setup=setup,
                bridge=Bridge(setup.pairs[file.name], base.vocab, aligned.vocab),
                asker=asker,
                aligned=self._forced(stack, aligned, [asker], items, longest),
                contexts=contexts,
                bases=self._forced(stack, base, list(contexts.values()), items, longest),
                noise=self._forced(stack, noise, [next(iter(contexts.values()))], items, longest)
                if noise
                else None,
                noise_asker=PromptedModel(noise, next(iter(setup.contexts.values())))
                if noise
                else None,
            )
            self._write_tokens(file, aligned)
            if answers is None:
                self._generate(stack, aligned, file, asker, items, scorer)
            else:
                for item in items:
                    given = partial(scorer.given, item, answers.get(item.id))
                    self._score(file, item, scorer, given)

    def _forced(
        self,
        stack: ExitStack,
        model: Model,
        askers: Sequence[PromptedModel],
        items: Sequence[Item],
        answer: int,
    ) -> TeacherForced:
        """A scoring context of the model with a sequence for each prompt."""
        runtime = self.setup.options.runtime
        ctx = self._ctx_size(model, askers, items, answer)
        sequences = Sequences(
            model,
            cells=ctx * len(askers),
            n_seq=len(askers),
            batch=min(runtime.batch, 512),
            threads=runtime.threads,
            flash_attention=False,
            kv_type=runtime.kv_type,
            unified=False,
            abort_flag=self._abort_flag,
        )
        stack.callback(sequences.close)
        return TeacherForced(sequences, self._cache(model, sequences))

    def _cache(self, model: Model, sequences: Sequences) -> PrefixCache | None:
        if not self.setup.options.runtime.disk_cache:
            return None
        parts = (model.fingerprint, llama_api.build_id(), sequences.cache_id, "scoring")
        return PrefixCache("\n".join(parts))

    def _ctx_size(
        self, model: Model, askers: Sequence[PromptedModel], items: Sequence[Item], answer: int
    ) -> int:
        """Tokens a sequence needs: the longest prompt and answer, or what the user said."""
        asked = self.setup.options.runtime.ctx_size
        if asked:
            return asked
        longest = sorted(items, key=lambda i: len(i.query))[-SAMPLE:]
        prompt = 0
        for asker in askers:
            for item in longest:
                try:
                    prompt = max(prompt, len(asker.request(item.query).tokens))
                except UrialError:
                    continue  # an error row, when its turn comes
        need = -(-(prompt + answer + SLACK) // 256) * 256
        return min(need, model.ctx_train) if model.ctx_train else need

    def _generate(
        self,
        stack: ExitStack,
        model: Model,
        file: ModelFile,
        asker: PromptedModel,
        items: Sequence[Item],
        scorer: Scorer,
    ) -> None:
        o = self.setup.options
        ctx = self._ctx_size(model, [asker], items, o.max_tokens)
        parallel = max(1, min(o.runtime.parallel, len(items)))
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
        engine = Engine(model.vocab, sequences, ctx_size=ctx, cache=self._cache(model, sequences))
        asked: list[Item] = []

        def requests() -> Iterator[Request]:
            for item in items:
                try:
                    request = scorer.request(item)
                except UrialError as error:
                    self._error(file, item, error)
                    continue
                asked.append(item)
                yield request

        for index, event in engine.stream(requests()):
            if isinstance(event, Completion):
                self._score(file, asked[index], scorer, partial(scorer.generated, event))

    def _score(
        self, file: ModelFile, item: Item, scorer: Scorer, answer: Callable[[], GivenAnswer]
    ) -> None:
        """One row: scored, or an error row that says why not."""
        began = time.perf_counter()
        try:
            if item.error:
                raise UrialError(item.error)
            found = answer()
            row = {
                "id": item.id,
                "number": item.number,
                "aligned": file.name,
                "query": item.query,
                "tags": {k: list(v) for k, v in item.tags.items()},
                "answer": found.text,
                "answer_ids": found.ids,
                "ended": found.ended,
                "finish_reason": found.finish_reason,
                **scorer.score(item, found),
                "seconds": round(time.perf_counter() - began, 4),
            }
        except UrialError as error:
            scorer.forget()
            self._error(file, item, error)
            return
        self.log.append(row)
        self.progress.row(len(found.ids))

    def _error(self, file: ModelFile, item: Item, error: UrialError) -> None:
        if isinstance(error, ModelError):
            raise error  # not the row's own fault
        self.log.append(
            {
                "id": item.id,
                "number": item.number,
                "aligned": file.name,
                "query": item.query,
                "error": error.message,
            }
        )
        self.progress.row(0)

    def _write_tokens(self, file: ModelFile, model: Model) -> None:
        """`tokens-NAME.json`: what each token id stands for, for those who read the rows."""
        path = self.log.folder / f"tokens-{file.name}.json"
        if not path.exists():
            write_json(path, [model.vocab.label(t) for t in range(model.vocab.size)])


def _longest_answer(
    items: Sequence[Item],
    answers: Mapping[str, str] | None,
    asker: PromptedModel,
    max_tokens: int,
) -> int:
    if answers is None:
        return max_tokens
    longest = sorted((answers.get(i.id) or "" for i in items), key=len)[-SAMPLE:]
    return max((len(asker.model.vocab.tokenize(a)) for a in longest), default=0) + 1
