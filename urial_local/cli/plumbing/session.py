"""Opens what `ask` and `chat` run on, from their options, and tells the user what is going on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urial_local.assistant import Assistant, Settings, open_assistant
from urial_local.base import gguf_facts
from urial_local.base.errors import UsageError
from urial_local.base.gguf_header import GGUFHeader
from urial_local.base.registry import DEMO_NOTE
from urial_local.cli.plumbing.guide_options import guide_choice
from urial_local.cli.plumbing.options import runtime_choice
from urial_local.cli.plumbing.terminal import StatusLine, note
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Prompt
from urial_local.runtime.engine import Engine
from urial_local.tasks.guide import plan_guide
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import choose_prompt
from urial_local.tasks.prompted import PromptedModel

_LARGE = 200 << 20  # bytes
# The options of sampling, as click names them, and the fields of Sampling they set.
SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "penalty_scope": "penalty_scope",
    "seed": "seed",
}


@dataclass
class Session:
    """An assistant, and what the user chose, for prompts chosen later."""

    assistant: Assistant
    status: StatusLine
    chosen: Settings = field(default_factory=Settings)
    frame: str | None = None
    show_guide: bool = False

    @property
    def asker(self) -> PromptedModel:
        return self.assistant.asker

    @property
    def engine(self) -> Engine:
        return self.assistant.engine

    def use(self, prompt: Prompt) -> None:
        """Ask with this prompt: the user's sampling goes before the prompt's recommendation.

        Raises PromptError for one that this model cannot be asked with; then nothing changes.
        """
        other = self.assistant.under(prompt, self.chosen).asker
        asker = self.asker  # which a conversation holds, too
        asker.prompt, asker.sampling, asker.max_tokens = prompt, other.sampling, other.max_tokens


def settings(options: Mapping[str, Any]) -> Settings:
    """What the user chose by `sampling_options` and `prompt_options` of how to ask."""
    if "" in options["stop"]:
        raise UsageError("--stop needs a text; an empty one would end every answer at once.")
    sampling = {field: options[option] for option, field in SAMPLING.items()}
    return Settings(
        sampling={name: value for name, value in sampling.items() if value is not None},
        max_tokens=options["max_tokens"],
        markers=options["markers"],
        stop=tuple(options["stop"]),
        prefill=options["prefill"] or "",
    )


@contextmanager
def open_session(options: Mapping[str, Any]) -> Iterator[Session]:
    """An assistant from a command's options, closed in the end; tells the user what is going on."""
    status = StatusLine()
    asked = settings(options)
    runtime = runtime_choice(options)
    if not options["model"]:
        note(DEMO_NOTE)
    # Before any weights are loaded: a wrong prompt's name should not cost that wait.
    wanted = load_prompt(options["prompt"], options["frame"]) if options["prompt"] else None
    file = model_file(options["model"] or "demo", tell_about_check, options["chat_template"])
    choice = choose_prompt(file, wanted, options["frame"])
    guide = plan_guide(guide_choice(options), choice, tell_about_check)
    if guide and guide.remark:
        note(guide.remark)
    tell_about_context(file.header, runtime.ctx_size)
    with open_assistant(file, choice, runtime, asked, status.prefill, guide) as assistant:
        if assistant.remark:
            note(assistant.remark)
        yield Session(assistant, status, asked, options["frame"], bool(options.get("show_guide")))
        status.clear()
        if assistant.engine.cache and assistant.engine.cache.warning:
            note(assistant.engine.cache.warning)


def tell_about_check(path: Path) -> None:
    """A large file takes a while to try."""
    if path.stat().st_size > _LARGE:
        note(f"{path.name} is new here: testing it once in a child process first.")


def tell_about_context(header: GGUFHeader, ctx_size: int) -> None:
    """A context beyond what the model was trained for works, and answers get worse."""
    trained = gguf_facts.context(header)
    if trained and ctx_size > trained:
        title = header.metadata.get("general.name") or "The model"
        note(f"{title} was trained for contexts of {trained:,} tokens; longer ones get worse.")
