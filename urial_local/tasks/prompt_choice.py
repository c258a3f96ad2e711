"""Which prompt a model is asked under: decided here, for every face and task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from urial_local.base import gguf_facts
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Prompt
from urial_local.tasks.fitted import fitted_prompt
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompted import try_prompt

# What base models are asked under: the first that fits. docs/prompts.md has the evidence.
LARGE, SMALL = ("urial", "urial-mini"), ("urial-small", "urial-mini")
SMALL_PARAMETERS = 2_000_000_000  # up to so many, a model is small
ANSWER_ROOM = 256  # tokens that a prompt must leave for query and answer
Count = Callable[[str], int]  # of a text's tokens


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """The prompts that come into question, the fullest first, and why it is these.

    One that was asked for is taken at its word: if it does not fit, asking says so.
    """

    candidates: tuple[Prompt, ...]
    reason: str = ""  # for the user, where the choice may surprise

    @property
    def certain(self) -> Prompt | None:
        """The prompt, where it does not hang on the context."""
        return self.candidates[0] if len(self.candidates) == 1 else None

    def fitting(self, count: Count, ctx_size: int) -> PromptChoice:
        """Only the first that leaves room for an answer, or the last."""
        *fuller, last = self.candidates
        for prompt in fuller:
            if count(prompt.prefix()) + ANSWER_ROOM <= ctx_size:
                return PromptChoice((prompt,), self.reason)
        reason = self.reason
        if fuller:
            reason = (
                f"The context of {ctx_size:,} tokens is small, so the short prompt {last.name!r} is"
                " used; see `prompt`."
            )
        return PromptChoice((last,), reason)


def base_prompts(file: ModelFile, fitted: bool = True) -> tuple[str, ...]:
    """Names of the prompts that suit a base model of this size, the fullest first; of a model that
    one is known for, or was chosen for by `fit`, only that. `fitted`: whether `fit`'s choice
    counts."""
    known = (fitted_prompt(file.fingerprint) if fitted else None) or file.prompt
    if known:
        return (known,)
    return SMALL if gguf_facts.parameters(file.header) <= SMALL_PARAMETERS else LARGE


def choose_prompt(
    file: ModelFile,
    asked: str | Prompt | None = None,
    frame: str | None = None,
    otherwise: tuple[str, ...] = (),
) -> PromptChoice:
    """The prompt asked for, by name or as it was loaded; else the one that was chosen for the model
    (by `fit`, or `prompts default`), or that is known to suit it; else the model's own chat
    template, unless a frame is asked for; else what suits a base model of its size. `otherwise`:
    names in place of the latter, for what is no answer to a user's question; a choice does not
    count there.

    No weights are needed. Raises PromptError, also where every question would fail under it.
    """
    reason = ""
    names: tuple[str, ...] = ()
    if isinstance(asked, str):
        names = (asked,)
    elif asked is None:
        fitted = None if otherwise else fitted_prompt(file.fingerprint)
        if fitted:
            names, reason = (
                (fitted,),
                f"{file.title} is asked under {fitted!r}, its chosen default.",
            )
        elif file.prompt:
            names = (file.prompt,)
        elif file.chat_template and not frame:
            names = ("chat",)
        else:
            names = otherwise or base_prompts(file)
        if names == ("chat",):
            reason = (
                f"{file.title} carries a chat template and is asked in it; `prompt=urial` asks it"
                " as a base model."
            )
    loaded = tuple(load_prompt(name, frame) for name in names)
    choice = PromptChoice((asked,) if isinstance(asked, Prompt) else loaded, reason)
    for prompt in choice.candidates:
        try_prompt(prompt, file.chat_template)
    return choice
