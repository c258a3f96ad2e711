"""A GGUF model as the judge: rows in one batch over one shared rubric, the record a form."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from urial_local.base import gguf_facts
from urial_local.base.errors import ContextOverflow, UrialError
from urial_local.prompting.prompts import Prompt
from urial_local.runtime.alphabet import Alphabet
from urial_local.runtime.engine import Engine
from urial_local.runtime.forms import Form, filled_text
from urial_local.runtime.model import Model
from urial_local.runtime.open import DEFAULT_CTX, RuntimeOptions
from urial_local.runtime.rows import Completion, Request
from urial_local.runtime.sampling import Sampling, row_seed
from urial_local.tasks.evaluate.judge import Question, Verdict
from urial_local.tasks.evaluate.modes import REASON_TOKENS, Mode
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompt_choice import choose_prompt
from urial_local.tasks.prompted import PromptedModel

LONGEST = 8  # texts that are counted in tokens, to see how long one may be
TEMPLATE = 64  # tokens of a chat template around a text


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """How a local judge is asked. `prompt`: None for its chat template, else zero-shot."""

    prompt: str | None = None
    expected: bool = False
    reason_tokens: int = REASON_TOKENS
    exact: bool = False  # one row at a time
    temperature: float = 0.0
    seed: int = 0
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)


class LocalJudge:
    """A judge over an open engine."""

    def __init__(self, file: ModelFile, model: Model, engine: Engine, options: LocalOptions):
        self.name, self._file, self._model, self._engine = file.name, file, model, engine
        self._options = options
        self._forms: dict[str, Form] = {}
        self._alphabet = Alphabet(model.vocab)
        self._stopping = False
        self._asker = PromptedModel(model, judge_prompt(file, options))

    @property
    def together(self) -> int:
        """How many rows it judges at a time."""
        return 1 if self._options.exact else self._options.runtime.parallel

    def about(self) -> dict[str, Any]:
        return describe(self._file, self._options)

    def stop(self) -> None:
        self._stopping = True

    def abort(self) -> None:
        """Also leave those in flight. May be called from a signal handler."""
        self._engine.abort()

    def form(self, mode: Mode) -> Form:
        if mode.name not in self._forms:
            parts = mode.form(self._options.reason_tokens)
            self._forms[mode.name] = Form(self._alphabet, parts)
        return self._forms[mode.name]

    def judge(self, questions: Iterable[Question | None]) -> Iterator[Verdict]:
        """Raises Aborted where the engine's abort flag is set. A None among the questions says that
        the next one is not known yet: see Engine.steps."""
        asked: dict[Hashable, Question] = {}
        refused: list[Verdict] = []
        for step in self._engine.stream(self._requests(questions, asked, refused)):
            if step.completion is not None:
                yield self._verdict(asked.pop(step.tag), step.completion)
            while refused:
                yield refused.pop()
        yield from refused

    def _requests(
        self,
        questions: Iterable[Question | None],
        asked: dict[Hashable, Question],
        refused: list[Verdict],
    ) -> Iterator[Request | None]:
        for number, question in enumerate(questions):
            if question is None:
                yield None
            else:
                try:
                    request = self.request(question)
                except UrialError as error:
                    refused.append(Verdict(question.key, error=error.message))
                else:
                    asked[number] = question
                    # Alone, so that it does not matter what came before: another row, or a wait for
                    # this one, in which the last one's cells stay.
                    yield replace(request, tag=number, alone=self._engine.exact)
            if self._stopping:
                return

    def request(self, question: Question) -> Request:
        """What to ask of the engine. Raises UrialError for a question that cannot be asked."""
        form = self.form(question.mode)
        request = self._asker.request(question.text, constant=question.rubric)
        need = len(request.tokens) + len(form.opening) + form.max_tokens
        if need > self._engine.ctx_size:
            raise ContextOverflow(
                f"The judge would need {need:,} tokens, and its context has"
                f" {self._engine.ctx_size:,}."
            )
        seed = row_seed(self._options.seed, "\0".join(question.key))
        return replace(
            request,
            tokens=[*request.tokens, *form.opening],
            sampling=Sampling(temperature=self._options.temperature, seed=seed),
            form=form,
        )

    def _verdict(self, question: Question, done: Completion) -> Verdict:
        form, mode = self.form(question.mode), question.mode
        verdict = Verdict(
            question.key,
            prompt_tokens=done.prompt_tokens,
            cached_tokens=done.cached_tokens,
            completion_tokens=len(done.tokens),
            seconds=round(done.prefill_seconds + done.decode_seconds, 4),
        )
        if done.finish_reason != "form":
            error = done.error or f"The judge ran out of room ({done.finish_reason})."
            return replace(verdict, error=error)
        text = filled_text(form, done.fields)
        expected = mode.expected(done.fields) if self._options.expected else {}
        return replace(verdict, text=text, record=mode.record(done.fields), expected=expected)


def fitting_context(file: ModelFile, questions: Iterable[Question], options: LocalOptions) -> int:
    """Tokens that a row needs at most, for the longest of these questions and its record, rounded
    up to 256: many rows at a time take no more memory than they use. At most the model's own."""
    longest = sorted(questions, key=lambda q: -len(q.text))[:LONGEST]
    need = 0
    forms: dict[str, Form] = {}
    most = gguf_facts.context(file.header) or DEFAULT_CTX
    with file.vocabulary() as vocab:
        vocab.most = most
        alphabet = Alphabet(vocab)
        for q in longest:
            if q.mode.name not in forms:
                forms[q.mode.name] = Form(alphabet, q.mode.form(options.reason_tokens))
            form = forms[q.mode.name]
            try:
                prompt = len(vocab.tokenize(q.text)) + len(form.opening) + form.max_tokens
            except UrialError:  # an error row, when its turn comes
                need = most
            else:
                need = max(need, prompt + TEMPLATE)
    return min(-(-need // 256) * 256 or DEFAULT_CTX, most)


def judge_prompt(file: ModelFile, options: LocalOptions) -> Prompt:
    """The prompt that a judge is asked under. Raises PromptError."""
    return choose_prompt(file, options.prompt, otherwise=("zero-shot",)).candidates[0]


def describe(file: ModelFile, options: LocalOptions) -> dict[str, Any]:
    prompt = judge_prompt(file, options)
    return {
        "kind": "local",
        **file.about(),
        "prompt": {"name": prompt.name, "sha": prompt.fingerprint()},
        "expected": options.expected,
        "reason_tokens": options.reason_tokens,
        "exact": options.exact,
        "temperature": options.temperature,
        "seed": options.seed if options.temperature else 0,
        "kv_type": options.runtime.kv_type,
    }


@contextmanager
def open_local_judge(
    file: ModelFile,
    options: LocalOptions,
    on_prefill: Callable[[int, int], None] | None = None,
) -> Iterator[LocalJudge]:
    """Opens the model; closes it in the end. Raises ModelError, or UsageError where the model's
    vocabulary cannot write a record; PromptError, before weights are loaded, for a prompt that it
    cannot be asked with."""
    runtime = replace(options.runtime, parallel=1) if options.exact else options.runtime
    judge_prompt(file, options)
    with file.open(runtime, on_prefill) as (model, engine):
        yield LocalJudge(file, model, engine, options)
