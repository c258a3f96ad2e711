"""Which prompt a model is asked under: decided here, for every face and task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Prompt
from urial_local.tasks.model_file import ModelFile
from urial_local.tasks.prompted import try_prompt

DEFAULT_PROMPTS = ("urial", "urial-mini")  # the first that fits
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


def choose_prompt(
    file: ModelFile,
    asked: str | Prompt | None = None,
    frame: str | None = None,
    otherwise: Sequence[str] = DEFAULT_PROMPTS,
) -> PromptChoice:
    """The prompt asked for, by name or as it was loaded; else the one that is known to suit the
    model; else the model's own chat template, unless a frame is asked for; else `otherwise`.

    No weights are needed. Raises PromptError, also where every question would fail under it.
    """
    suits = file.prompt or ("chat" if file.chat_template and not frame else None)
    reason = ""
    if isinstance(asked, Prompt):
        prompts: tuple[Prompt, ...] = (asked,)
    else:
        names = (asked,) if asked else (suits,) if suits else otherwise
        prompts = tuple(load_prompt(name, frame) for name in names)
    if not asked and suits == "chat":
        reason = (
            f"{file.title} carries a chat template and is asked in it; `prompt=urial` asks it as a"
            " base model."
        )
    choice = PromptChoice(prompts, reason)
    for prompt in choice.candidates:
        try_prompt(prompt, file.chat_template)
    return choice
