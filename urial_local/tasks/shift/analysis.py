"""Runs a shift analysis: answers, scores, rows. One aligned model after the other.

The aligned model answers on the batching engine; as each answer is complete it is scored, in the
same process and before the next batch, and becomes one row of the run log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from urial_local.base.errors import Interrupted, ModelError, UrialError
from urial_local.records.datasets import Item
from urial_local.records.runlog import RunLog, write_json
from urial_local.records.runs import read_rows
from urial_local.runtime import llama_api
from urial_local.runtime.engine import Engine
from urial_local.runtime.interrupt import interruptible
from urial_local.runtime.model import Model
from urial_local.runtime.prefix_cache import PrefixCache
from urial_local.runtime.rows import Request
from urial_local.runtime.sequences import Aborted, Sequences
from urial_local.runtime.teacher_forced import TeacherForced
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompted import PromptedModel
from urial_local.tasks.shift.scorer import GivenAnswer, Scorer, answer_digest
from urial_local.tasks.shift.scoring import Bridge
from urial_local.tasks.shift.setup import Setup

SLACK = 32  # tokens
SHAPE_ROWS = 4  # the first of a run, in which the effect of a batch's shape is measured


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
    """One run: opens the models it needs, and writes to the run's log."""

    def __init__(self, setup: Setup, log: RunLog, progress: Progress) -> None:
        self.setup, self.log, self.progress = setup, log, progress
        self._abort_flag = np.zeros(1, np.int32)
        self._scored_again: set[str] = set()  # ids

    def run(self, items: Sequence[Item], answers: Mapping[str, str] | None) -> None:
        """Make every row that the log lacks. `answers`: given ones, by item id.

        Raises Interrupted on Ctrl-C, ModelError or RunError where nothing can go on.
        """
        self._refuse_changed(items, answers)
        self._scored_again = {item.id for item in items[:SHAPE_ROWS]}
        pending = {
            model.name: [i for i in items if not self.log.has(model.name, i.id)]
            for model in self.setup.aligned
        }
        if not any(pending.values()):
            return
        with interruptible(self._abort_flag):
            try:
                with ExitStack() as stack:
                    base = stack.enter_context(self._open(self.setup.base))
                    noise_file = self.setup.noise
                    noise = stack.enter_context(self._open(noise_file)) if noise_file else None
                    sides = self._base_sides(stack, base, noise, items, answers)
                    for model in self.setup.aligned:
                        if pending[model.name]:
                            self._one_aligned(sides, model, items, pending[model.name], answers)
            except Aborted:
                raise Interrupted(
                    f"Stopped; {self.progress.done:,} of {self.progress.total:,} rows are done.",
                    "The same command goes on from there.",
                ) from None

    def _open(self, file: ModelFile) -> Model:
        runtime = self.setup.options.runtime
        model = file.load(runtime.gpu_layers)
        model.vocab.most = runtime.ctx_size or model.ctx_train or None
        return model

    def _refuse_changed(self, items: Sequence[Item], answers: Mapping[str, str] | None) -> None:
        """The dataset may have grown since the run began, but not changed."""
        queries = {item.id: item.query for item in items}
        for row in read_rows(self.log.rows_path):
            now = queries.get(str(row.get("id")))
            if now is None or row.get("error"):
                continue
            what = "question" if now != row.get("query") else ""
            given = (answers or {}).get(str(row["id"]))
            if given is not None and answer_digest(given) != row.get("answer_sha"):
                what = what or "answer to"
            if what:
                raise UrialError(
                    f"The {what} {row['id']!r} is not the one that this run holds.",
                    "The file has changed; choose another folder with -o.",
                )

    def _base_sides(
        self,
        stack: ExitStack,
        base: Model,
        noise: Model | None,
        items: Sequence[Item],
        answers: Mapping[str, str] | None,
    ) -> _BaseSides:
        """The base model's contexts, open for the whole run: each prefix is decoded once."""
        prompts = self.setup.contexts
        contexts = {name: PromptedModel(base, prompt) for name, prompt in prompts.items()}
        first = next(iter(prompts.values()))
        longest = self._longest_answer(base, items, answers)
        noise_asker = PromptedModel(noise, first) if noise else None
        return _BaseSides(
            base,
            contexts,
            self._forced(stack, base, list(contexts.values()), items, longest),
            noise_asker,
            self._forced(stack, noise, [noise_asker], items, longest)
            if noise and noise_asker
            else None,
        )

    def _one_aligned(
        self,
        sides: _BaseSides,
        file: ModelFile,
        items: Sequence[Item],
        pending: Sequence[Item],
        answers: Mapping[str, str] | None,
    ) -> None:
        """`items` are all there are: what a row gets must not depend on which are left."""
        setup, o = self.setup, self.setup.options
        with ExitStack() as stack:
            aligned = stack.enter_context(self._open(file))
            asker = PromptedModel(
                aligned,
                setup.aligned_prompts[file.name],
                sampling=o.sampling,
                max_tokens=o.max_tokens,
            )
            longest = self._longest_answer(aligned, items, answers)
            scorer = Scorer(
                setup=setup,
                bridge=Bridge(setup.pairs[file.name], sides.base.vocab, aligned.vocab),
                asker=asker,
                aligned=self._forced(stack, aligned, [asker], items, longest),
                contexts=sides.contexts,
                bases=sides.forced,
                noise=sides.noise,
                noise_asker=sides.noise_asker,
            )
            self._write_tokens(file, aligned)
            if answers is None:
                self._generate(stack, aligned, file, asker, items, pending, scorer)
            else:
                for item in pending:
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
        return TeacherForced(sequences, self._cache(model, sequences), ctx)

    def _cache(self, model: Model, sequences: Sequences) -> PrefixCache | None:
        if not self.setup.options.runtime.disk_cache:
            return None
        parts = (model.fingerprint, llama_api.build_id(), sequences.cache_id, "scoring")
        return PrefixCache("\n".join(parts), per_token=model.state_bytes_per_token)

    def _ctx_size(
        self, model: Model, askers: Sequence[PromptedModel], items: Sequence[Item], answer: int
    ) -> int:
        """Tokens a sequence needs: the longest prompt and answer, or what the user said."""
        asked = self.setup.options.runtime.ctx_size
        if asked:
            return asked
        prompt = max(_longest_prompt(asker, items) for asker in askers)
        need = -(-(prompt + answer + SLACK) // 256) * 256
        return min(need, model.ctx_train) if model.ctx_train else need

    def _longest_answer(
        self, model: Model, items: Sequence[Item], answers: Mapping[str, str] | None
    ) -> int:
        """Tokens of the longest answer there may be."""
        if answers is None:
            return self.setup.options.max_tokens
        texts = [answers[i.id] for i in items if i.id in answers]

        def tokens(text: str) -> int:
            try:
                return len(model.vocab.tokenize(text))
            except UrialError:
                return 0  # an error row, when its turn comes

        return _longest(texts, tokens) + 1

    def _generate(
        self,
        stack: ExitStack,
        model: Model,
        file: ModelFile,
        asker: PromptedModel,
        items: Sequence[Item],
        pending: Sequence[Item],
        scorer: Scorer,
    ) -> None:
        o = self.setup.options
        ctx = self._ctx_size(model, [asker], items, o.max_tokens)
        parallel = max(1, min(o.runtime.parallel, len(pending)))
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
        asked = {item.id: item for item in pending}

        def requests() -> Iterator[Request]:
            for item in pending:
                try:
                    request = scorer.request(item)
                except UrialError as error:
                    self._error(file, item, error)
                    continue
                yield replace(request, tag=item.id)

        for step in engine.stream(requests()):
            if step.completion is not None:
                given = partial(scorer.generated, step.completion)
                self._score(file, asked[str(step.tag)], scorer, given)

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
                "end_token": found.end_token,
                "finish_reason": found.finish_reason,
                **({"answer_sha": found.given_sha} if found.given_sha else {}),
                **scorer.score(item, found, again=item.id in self._scored_again),
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


@dataclass(frozen=True, slots=True)
class _BaseSides:
    """The base model in its contexts, and its other quantisation in the first of them."""

    base: Model
    contexts: Mapping[str, PromptedModel]
    forced: TeacherForced
    noise_asker: PromptedModel | None
    noise: TeacherForced | None


def _longest_prompt(asker: PromptedModel, items: Sequence[Item]) -> int:
    def tokens(query: str) -> int:
        try:
            return len(asker.request(query).tokens)
        except UrialError:
            return 0  # an error row, when its turn comes

    return _longest([item.query for item in items if not item.error], tokens)


def _longest(texts: Sequence[str], tokens: Callable[[str], int]) -> int:
    """The most tokens that any of the texts has. A token has a byte at least (two are reckoned,
    for escaped markers), so texts too short to have more than is known are not tokenised."""
    most = 0
    frame = tokens("x")
    for text in sorted(texts, key=lambda t: -len(t.encode("utf-8", "surrogatepass"))):
        if frame + 2 * len(text.encode("utf-8", "surrogatepass")) <= most:
            break
        most = max(most, tokens(text))
    return most
