"""Which prompt a model is asked under: decided here, for every face and task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from urial_local.base import gguf_facts
from urial_local.base.errors import PromptError, UrialError
from urial_local.prompting.library import load_prompt, prompt_files
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
                f"{reason} The context of {ctx_size:,} tokens is small, so the short prompt"
                f" {last.name!r} is used; see `prompt`."
            ).strip()
        return PromptChoice((last,), reason)


def base_prompts(file: ModelFile) -> tuple[str, ...]:
    """Names of the prompts that suit a base model of this size, the fullest first; of a model that
    one is known for, or was chosen for (by `fit`, or `prompts default`), only that. Raises
    PromptError where the one that was chosen is of no use: there is no place here for a remark."""
    chosen, trouble = chosen_prompt(file)
    if trouble:
        raise PromptError(trouble)
    return (chosen.name,) if chosen else _suiting(file)


def _suiting(file: ModelFile) -> tuple[str, ...]:
    if file.prompt:
        return (file.prompt,)
    return SMALL if gguf_facts.parameters(file.header) <= SMALL_PARAMETERS else LARGE


def chosen_prompt(file: ModelFile, frame: str | None = None) -> tuple[Prompt | None, str]:
    """The prompt that was chosen for a model, or None; then also why it is of no use, where one was
    chosen: its file may be gone since, or the settings are malformed."""
    try:
        name = fitted_prompt(file.fingerprint)
    except UrialError as error:
        return None, f"{error.message} {error.hint}".strip()
    if name is None:
        return None, ""
    try:
        if name not in prompt_files():
            raise PromptError(f"There is no longer a prompt {name!r}.")
        # Under the name that it was chosen by, whatever its file says.
        prompt = replace(load_prompt(name, frame), name=name)
        try_prompt(prompt, file.chat_template)
    except UrialError as error:
        return None, (
            f"{error.message} It was chosen as the default of {file.title};"
            f" `urial-local prompts default {file.argument} --clear` takes that back."
        )
    return prompt, ""


def usual_prompts(file: ModelFile, frame: str | None = None) -> tuple[Prompt, ...]:
    """What a model is asked under where none was chosen for it, the fullest first."""
    names = _suiting(file)
    if file.chat_template and not (file.prompt or frame):
        names = ("chat",)
    found = tuple(load_prompt(name, frame) for name in names)
    for prompt in found:
        try_prompt(prompt, file.chat_template)
    return found


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
    count there. A choice that is of no use any more is passed over, and the reason says so.

    No weights are needed. Raises PromptError, also where every question would fail under it.
    """
    if asked is not None:
        prompt = load_prompt(asked, frame) if isinstance(asked, str) else asked
        try_prompt(prompt, file.chat_template)
        return PromptChoice((prompt,))
    trouble = ""
    if not otherwise:
        chosen, trouble = chosen_prompt(file, frame)
        if chosen:
            said = f"{file.title} is asked under {chosen.name!r}, its chosen default."
            return PromptChoice((chosen,), said)
    if otherwise and not (file.prompt or (file.chat_template and not frame)):
        found = tuple(load_prompt(name, frame) for name in otherwise)
        for prompt in found:
            try_prompt(prompt, file.chat_template)
    else:
        found = usual_prompts(file, frame)
    reason = ""
    if [prompt.name for prompt in found] == ["chat"]:
        reason = (
            f"{file.title} carries a chat template and is asked in it; `prompt=urial` asks it as a"
            " base model."
        )
    elif trouble:
        reason = f"Until then, it is asked under {found[0].name!r}."
    return PromptChoice(found, f"{trouble} {reason}".strip())
