"""A guide beside a base model: chosen, checked, opened, and asked with its own prompt.

The rules stand in `runtime.guides`; here is which model sees what. The guide sees the question in
its chat template, or under the prompt chosen for it; the small base of `proxy` sees what the base
sees; `contrast` is the base itself under another prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.prompting.library import load_prompt
from urial_local.prompting.markers import MarkerPolicy
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.runtime.common_ids import exchange
from urial_local.runtime.engine import Engine
from urial_local.runtime.guided import Ends, Guided
from urial_local.runtime.guided_words import GuidedWords
from urial_local.runtime.guides import PARAMETERS, Rule
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions
from urial_local.runtime.sequences import Sequences
from urial_local.runtime.voice import Voice
from urial_local.tasks.model_file import ModelFile, OnCheck, model_file
from urial_local.tasks.prompt_choice import PromptChoice
from urial_local.tasks.prompted import PromptedModel, try_prompt

# Signs that a template's model writes its thoughts before its answer.
_THINKS = re.compile(r"<think>|enable_thinking|<\|channel\|>|\bthinking\b")


@dataclass(frozen=True, slots=True)
class GuideOptions:
    """What the user chose."""

    model: str | None = None  # none under `contrast`
    rule: Rule = field(default_factory=Rule)
    prompt: str | None = None  # the guide's, or the one that `contrast` goes away from
    small: str | None = None  # the guide's own base, for `proxy`


KEYS = ("guide_rule", "gamma", "beta", "alpha", "guide_prompt", "guide_base")


def taken(settings: dict[str, Any]) -> dict[str, Any]:
    """Take what says how a guide is used out of a program's settings."""
    return {name: settings.pop(name) for name in KEYS if name in settings}


def guide_options(
    model: str | None = None,
    *,
    guide_rule: str | None = None,
    gamma: float | None = None,
    beta: float | None = None,
    alpha: float | None = None,
    guide_prompt: str | None = None,
    guide_base: str | None = None,
) -> GuideOptions | None:
    """A user's choice, or None where nothing was chosen. Raises UsageError for what does not go
    together."""
    given = {"gamma": gamma, "beta": beta, "alpha": alpha}
    chosen = {name: value for name, value in given.items() if value is not None}
    if model is None and guide_rule != "contrast":
        rest = {"guide_rule": guide_rule, "guide_prompt": guide_prompt, "guide_base": guide_base}
        for name, value in {**given, **rest}.items():
            if value is not None:
                raise UsageError(f"`{name}` needs a guide.", "Name one by `guide`.")
        return None
    name = guide_rule or "nudge"
    found = Rule(name, **chosen)  # type: ignore[arg-type]
    for other in chosen:
        if other != PARAMETERS[found.name]:
            raise UsageError(
                f"`guide_rule={name}` has no `{other}`; it is set by `{PARAMETERS[found.name]}`."
            )
    if name == "contrast" and model is not None:
        raise UsageError(
            "`guide_rule=contrast` is one model under two prompts and takes no `guide`.",
            "Its other prompt is `guide_prompt`, by default zero-shot.",
        )
    if (name == "proxy") != (guide_base is not None):
        raise UsageError(
            "`guide_rule=proxy` needs `guide_base`, the guide's own base model; other rules take"
            " none."
        )
    return GuideOptions(model, found, guide_prompt, guide_base)


@dataclass(frozen=True)
class GuidePlan:
    """All that is known of a guide before weights are loaded."""

    rule: Rule
    file: ModelFile | None  # None under `contrast`
    small: ModelFile | None
    prompt: Prompt | None  # None: the base's own, where that is not certain yet
    remark: str = ""
    follows: bool = False  # it is asked under the base's prompt, whichever that is

    def config(self) -> dict[str, Any]:
        """For run.json: all that decides what the guide does."""
        prompt = self.prompt
        return {
            **self.rule.about(),
            "model": self.file.about() if self.file else None,
            "base": self.small.about() if self.small else None,
            "prompt": {"name": prompt.name, "sha": prompt.fingerprint()} if prompt else "base's",
        }


def plan_guide(
    options: GuideOptions | None, choice: PromptChoice, on_check: OnCheck = lambda path: None
) -> GuidePlan | None:
    """Find the guide's files and its prompt. `choice`: the base's prompt, which a guide without a
    chat template sees, too. Raises ModelError, PromptError or UsageError."""
    if options is None:
        return None
    if options.model is None:
        return GuidePlan(options.rule, None, None, load_prompt(options.prompt or "zero-shot"))
    file = model_file(options.model, on_check)
    small = model_file(options.small, on_check) if options.small else None
    thinks = bool(_THINKS.search(file.chat_template))
    if options.prompt:
        prompt: Prompt | None = load_prompt(options.prompt)
    elif file.chat_template:
        prompt = load_prompt("chat")
        if thinks:
            raise UsageError(
                f"{file.title} is a model that thinks before it answers, and its thoughts would be"
                " put into the answer.",
                "Choose a guide that does not; or `guide_prompt=chat`, where this one does not.",
            )
    else:
        prompt = choice.certain
    if prompt:
        try_prompt(prompt, file.chat_template)
    remark = f"{file.title} may think before it answers." if thinks else ""
    follows = not (options.prompt or file.chat_template)
    return GuidePlan(options.rule, file, small, prompt, remark, follows)


@dataclass
class GuidePrompts:
    """What a rule's further models see of a question."""

    asker: PromptedModel
    as_base: bool  # whether a second one sees what the base sees
    told: Callable[[Sequence[int]], list[int]] | None = None  # in its own tokens
    follows: bool = False  # the guide is asked under the base's prompt, whichever that is

    def beside(
        self, prompt: Prompt, changed: Callable[[PromptedModel], Prompt] | None = None
    ) -> GuidePrompts:
        """The same guide beside a base that is asked under this prompt. `changed`: its own prompt
        with a client's system text in it."""
        asker = replace(self.asker, prompt=prompt) if self.follows else self.asker
        if changed is not None:
            asker = replace(asker, prompt=changed(asker))
        return replace(self, asker=asker)

    def others(
        self, query: str, history: Sequence[Turn], base: Sequence[int]
    ) -> tuple[Sequence[int], ...]:
        """Their prompts' tokens, in the order of the chooser's voices."""
        own = self.asker.request(query, history).tokens
        if not self.as_base:
            return (own,)
        return own, self.told(base) if self.told else base


@contextmanager
def opened_guide(
    plan: GuidePlan | None,
    model: Model,
    engine: Engine,
    prompt: Prompt,
    runtime: RuntimeOptions,
    markers: MarkerPolicy = "escape",
) -> Iterator[GuidePrompts | None]:
    """Open a guide's weights and let an engine listen to it, until the context ends. `prompt`: the
    base's. Raises ModelError, or UsageError where rule and vocabularies do not go together."""
    if plan is None:
        yield None
        return
    before = engine.chooser
    with ExitStack() as stack:
        guide = stack.enter_context(plan.file.load(runtime.gpu_layers)) if plan.file else model
        small = stack.enter_context(plan.small.load(runtime.gpu_layers)) if plan.small else None
        others = [m for m in (guide, small) if m is not None]
        end = model.vocab.eos if model.vocab.eos >= 0 else model.vocab.bos
        passing = [exchange(model.vocab, m.vocab, end) for m in others]
        apart = [found for found in passing if isinstance(found, str)]
        if apart and plan.rule.name != "nudge":
            raise UsageError(
                f"`guide_rule={plan.rule.name}` adds up tokens, and these vocabularies differ:"
                f" {apart[0]}",
                "`guide_rule=nudge` exchanges words, for any two models.",
            )
        exchanges = [found for found in passing if not isinstance(found, str)]
        room = min(engine.ctx_size, *(m.ctx_train or engine.ctx_size for m in others))
        voices = [Voice(_sequences(stack, m, engine, runtime, room)) for m in others]
        if apart:
            engine.chooser = GuidedWords(
                plan.rule, voices[0], model.vocab, guide.vocab, end, room=room
            )
        else:
            ends = Ends(model.vocab, exchanges[0] or guide.vocab, end)
            engine.chooser = Guided(plan.rule, voices, ends, exchanges=exchanges, room=room)
        try:
            asker = PromptedModel(guide, plan.prompt or prompt, markers=markers)
            told = exchanges[1].told if small and exchanges[1] else None
            yield GuidePrompts(asker, small is not None, told, plan.follows)
        finally:
            engine.chooser = before


def _sequences(
    stack: ExitStack, model: Model, engine: Engine, runtime: RuntimeOptions, room: int
) -> Sequences:
    """One for each row of the engine, stopped together with it."""
    found = Sequences(
        model,
        cells=room * runtime.parallel,
        n_seq=runtime.parallel,
        batch=min(runtime.batch, room * runtime.parallel),
        threads=runtime.threads,
        flash_attention=runtime.flash_attention,
        kv_type=runtime.kv_type,
        abort_flag=engine.decoder.abort_flag,
    )
    stack.callback(found.close)
    return found
