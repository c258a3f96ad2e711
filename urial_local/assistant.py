"""A model under a prompt, ready to be asked: what every face stands on, and what a program opens.

with urial_local.load("mistral-7b", parallel=8) as assistant:
    print(assistant.complete("How do I make tea?"))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, Literal

from urial_local.base.errors import ModelError, UrialError, UsageError
from urial_local.prompting.library import load_prompt
from urial_local.prompting.markers import MarkerPolicy
from urial_local.prompting.prompts import Prompt, Rendered, Turn
from urial_local.runtime.engine import Engine
from urial_local.runtime.interrupt import interruptible
from urial_local.runtime.model import GpuLayers, Model
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.rows import Completion, Request, Step
from urial_local.runtime.sampling import Sampling
from urial_local.runtime.sequences import Aborted
from urial_local.tasks.chat import Conversation
from urial_local.tasks.guide import (
    GuidePlan,
    GuidePrompts,
    guide_options,
    opened_guide,
    plan_guide,
    taken,
)
from urial_local.tasks.model_file import ModelFile, OnPrefill, model_file
from urial_local.tasks.prompt_choice import PromptChoice, choose_prompt
from urial_local.tasks.prompted import PromptedModel, answer_limit, recommended, try_prompt

OWN = ("max_tokens", "markers", "stop", "prefill")  # settings beside those of sampling


@dataclass(frozen=True, slots=True)
class Settings:
    """How to ask, as far as it was chosen; the prompt's recommendation and our defaults stand for
    the rest. `sampling` by the names of `Sampling`."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    markers: MarkerPolicy = "escape"
    stop: tuple[str, ...] = ()
    prefill: str = ""  # every answer begins with it

    def changed(self, **changes: Any) -> Settings:
        """With other values, by the names of `Sampling` and of this record. Raises UsageError for
        a name that neither has."""
        own = {k: v for k, v in changes.items() if k in OWN}
        rest = {k: v for k, v in changes.items() if k not in own}
        known = Sampling.__dataclass_fields__
        for name in rest:
            if name not in known:
                names = ", ".join([*known, *OWN])
                raise UsageError(f"There is no setting {name!r}.", f"Known: {names}.")
        if "stop" in own:
            stop = own["stop"]
            own["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
        return replace(self, sampling={**self.sampling, **rest}, **own)


@dataclass(frozen=True)
class Guide:
    """A second model that is listened to, and how it is asked."""

    plan: GuidePlan
    prompts: GuidePrompts


class Assistant:
    """Questions to one model under one prompt. Close it, or use it as a context manager; those that
    `using` makes share its weights and end with it. One thread uses it at a time."""

    def __init__(
        self,
        file: ModelFile,
        model: Model,
        engine: Engine,
        prompt: Prompt,
        settings: Settings,
        remark: str = "",
        guide: Guide | None = None,
    ) -> None:
        """`remark`: why it is this prompt, where that may surprise. `guide`: of the engine."""
        self.file, self.model, self.engine = file, model, engine
        self.settings, self.remark, self.guide = settings, remark, guide
        self.asker = PromptedModel(
            model,
            prompt,
            sampling=recommended(prompt, dict(settings.sampling)),
            max_tokens=answer_limit(prompt, settings.max_tokens),
            markers=settings.markers,
            stop_strings=settings.stop,
            prefill=settings.prefill,
            guide=guide.prompts if guide else None,
        )
        self._handles = ExitStack()

    def __enter__(self) -> Assistant:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._handles.close()

    @property
    def prompt(self) -> Prompt:
        return self.asker.prompt

    def complete(
        self, question: str, history: Sequence[Turn] = (), *, top_logprobs: int = 0
    ) -> Completion:
        """The answer to a question, after the turns of `history`; str() of it is its text.

        The oldest turns go where the context has no room for them. Raises ContextOverflow,
        TokenizeError or PromptError for what cannot be asked, ModelError where the model fails,
        KeyboardInterrupt on Ctrl-C.
        """
        *_, last = self.stream(question, history, top_logprobs=top_logprobs)
        assert last.completion is not None
        return last.completion

    def stream(
        self, question: str, history: Sequence[Turn] = (), *, top_logprobs: int = 0
    ) -> Iterator[Step]:
        """The same as it is written: steps with text, the last of them with the completion."""
        request, _ = self.asker.fit(question, history, self.engine.ctx_size)
        for step in self._steps([replace(request, top_logprobs=top_logprobs)]):
            if step.completion is not None and step.completion.error:
                raise ModelError(step.completion.error, "The model file may be damaged.")
            yield step

    def map(self, questions: Iterable[str]) -> Iterator[Completion]:
        """The answers to many questions, in their order, as many at a time as `parallel` said, over
        one shared prefix. A question that cannot be asked has an `error` in place of an answer.
        Raises KeyboardInterrupt on Ctrl-C.
        """
        done: dict[int, Completion] = {}
        due = 0

        def requests() -> Iterator[Request]:
            for number, question in enumerate(questions):
                try:
                    request, _ = self.asker.fit(question, (), self.engine.ctx_size)
                except UrialError as error:
                    done[number] = Completion(error=error.message)
                else:
                    yield replace(request, tag=number)

        for step in self._steps(requests()):
            if step.completion is not None:
                assert isinstance(step.tag, int)
                done[step.tag] = step.completion
            while due in done:
                yield done.pop(due)
                due += 1
        while due in done:
            yield done.pop(due)
            due += 1

    def using(
        self, prompt: str | None = None, frame: str | None = None, **changes: Any
    ) -> Assistant:
        """The same model under another prompt or with other settings (`temperature`, `top_p`,
        `seed`, `max_tokens`, `stop` …): same weights, same cache.

        Raises PromptError or UsageError.
        """
        other = self.prompt if prompt is None else load_prompt(prompt, frame)
        return self.under(other, self.settings.changed(**changes))

    def under(self, prompt: Prompt, settings: Settings) -> Assistant:
        """The same model under this prompt. Raises PromptError for one that it cannot be asked
        with, UsageError for settings out of range."""
        try_prompt(prompt, self.file.chat_template)
        return Assistant(self.file, self.model, self.engine, prompt, settings, guide=self.guide)

    def chat(self) -> Conversation:
        """A conversation, whose turns become history."""
        return Conversation(self.asker, self.engine)

    def render(self, question: str, history: Sequence[Turn] = ()) -> Rendered:
        """Exactly what the model would see."""
        return self.asker.render(question, history)

    def about(self) -> dict[str, Any]:
        """For JSON: with what answers are made."""
        return {
            "model": {
                "name": self.model.name,
                "file": self.model.path.name,
                "description": self.model.description,
                "fingerprint": self.file.fingerprint,
            },
            "prompt": {
                "name": self.prompt.name,
                "frame": self.prompt.frame.name,
                "fingerprint": self.prompt.fingerprint(),
            },
            **({"guide_model": self.guide.plan.config()} if self.guide else {}),
        }

    def __repr__(self) -> str:
        return f"<Assistant {self.file.name}, prompt {self.prompt.name}>"

    def _repr_html_(self) -> str:
        return f"<b>{escape(self.file.title)}</b>, prompt {escape(self.prompt.name)}"

    def _steps(self, requests: Iterable[Request]) -> Iterator[Step]:
        try:
            with interruptible(self.engine.decoder.abort_flag):
                yield from self.engine.stream(requests)
        except Aborted:
            raise KeyboardInterrupt from None


@contextmanager
def open_assistant(
    file: ModelFile,
    choice: PromptChoice,
    runtime: RuntimeOptions,
    settings: Settings,
    on_prefill: OnPrefill | None = None,
    guide: GuidePlan | None = None,
) -> Iterator[Assistant]:
    """A model that was found and checked, under the prompt that was chosen and fits its context,
    with a guide where there is one.

    Raises ModelError, PromptError, or UsageError for options out of range.
    """
    with file.open(runtime, on_prefill) as (model, engine):
        fitting = choice.fitting(model.vocab.count, engine.ctx_size)
        (prompt,) = fitting.candidates
        with opened_guide(guide, model, engine, prompt, runtime, settings.markers) as prompts:
            heard = Guide(guide, prompts) if guide and prompts else None
            yield Assistant(file, model, engine, prompt, settings, fitting.reason, heard)


def load(
    name: str = "demo",
    *,
    prompt: str | None = None,
    frame: str | None = None,
    chat_template: str | None = None,
    parallel: int = 1,
    ctx_size: int = 0,
    threads: int | None = None,
    gpu_layers: GpuLayers = "auto",
    kv_type: Literal["f16", "f32", "q8_0"] = "f16",
    disk_cache: bool = True,
    on_prefill: OnPrefill | None = None,
    guide: str | None = None,
    **settings: Any,
) -> Assistant:
    """Open a model by its name in the registry, `hf:user/repo:quant`, or its file; with adapters:
    `base.gguf+adapter.gguf@0.5`.

    prompt: a prompt's name or file; by default the model's own chat template where it has one, else
    the URIAL prompt that fits its context. chat_template: a file with one, in place of the model's
    own, as adapters need it (docs/models.md). parallel: questions answered at a time by `map`.
    ctx_size: tokens that a question and its answer may have; 0 for the model's own, up to 4096.
    guide: a second model that writes where this one is unsure; with it `guide_rule`, `gamma`,
    `beta`, `alpha`, `guide_prompt`, `guide_base` (docs/guides.md). Other keywords are settings:
    `temperature`, `top_k`, `top_p`, `min_p`, `repeat_penalty`, `penalty_scope`, `seed`,
    `max_tokens`, `stop`, `markers`, `prefill`.

    Raises ModelError, PromptError, or UsageError that names the keyword.
    """
    second = guide_options(guide, **taken(settings))
    chosen = Settings().changed(**settings)
    file = model_file(name, chat_template=chat_template)
    choice = choose_prompt(file, prompt, frame)
    planned = plan_guide(second, choice)
    runtime = RuntimeOptions(
        ctx_size=ctx_size,
        parallel=parallel,
        threads=threads,
        gpu_layers=gpu_layers,
        kv_type=kv_type,
        disk_cache=disk_cache,
    )
    with ExitStack() as stack:
        opened = open_assistant(file, choice, runtime, chosen, on_prefill, planned)
        assistant = stack.enter_context(opened)
        assistant._handles = stack.pop_all()
    return assistant
