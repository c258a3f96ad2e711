"""Opens what `ask` and `chat` run on, from their options, and tells the user what is going on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urial_local.base import gguf_facts
from urial_local.base.errors import UsageError
from urial_local.base.gguf_header import GGUFHeader
from urial_local.base.registry import DEMO_NOTE, find_model
from urial_local.cli.options import runtime_choice
from urial_local.cli.terminal import StatusLine, note
from urial_local.prompting.library import load_prompt
from urial_local.prompting.prompts import Prompt
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.open import open_engine
from urial_local.runtime.probe import check_unknown
from urial_local.tasks.prompted import (
    PromptedModel,
    answer_limit,
    choose_prompt,
    recommended,
    try_prompt,
)

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
    """An open model under a prompt, and what the user chose, for prompts chosen later."""

    model: Model
    engine: Engine
    asker: PromptedModel
    status: StatusLine
    chosen: dict[str, Any] = field(default_factory=dict)  # the command's options

    def use(self, prompt: Prompt) -> None:
        """Ask with this prompt: the user's sampling goes before the prompt's recommendation.

        Raises PromptError for one that this model cannot be asked with; then nothing changes.
        """
        try_prompt(prompt, self.model.chat_template)
        sampling = {field: self.chosen.get(option) for option, field in SAMPLING.items()}
        self.asker.sampling = recommended(prompt, sampling)  # which may refuse the prompt's own
        self.asker.prompt = prompt
        self.asker.max_tokens = answer_limit(prompt, self.chosen.get("max_tokens"))


@contextmanager
def open_session(options: dict[str, Any]) -> Iterator[Session]:
    """Model, engine and prompt from a command's options; closes them in the end."""
    runtime = runtime_choice(options)
    status = StatusLine()
    if "" in options["stop"]:
        raise UsageError("--stop needs a text; an empty one would end every answer at once.")
    named = find_model(options["model"] or "demo")
    if not options["model"]:
        note(DEMO_NOTE)
    name = options["prompt"] or named.prompt
    # Before any weights are loaded: a wrong prompt's name should not cost that wait.
    wanted = None if name is None else load_prompt(name, options["frame"])
    header = check_unknown(named.path, lambda: tell_about_check(named.path))
    if wanted is not None:
        try_prompt(wanted, str(header.metadata.get("tokenizer.chat_template") or ""))
    tell_about_context(header, runtime.ctx_size)
    with open_engine(named.path, runtime, status.prefill, header) as (model, engine):
        prompt = choose_prompt(model, name, options["frame"], engine.ctx_size)
        asker = PromptedModel(
            model, prompt, markers=options["markers"], stop_strings=tuple(options["stop"])
        )
        session = Session(model, engine, asker, status, options)
        session.use(prompt)
        if options["prompt"] is None:
            tell_about_frame(session)
        yield session
        status.clear()
        if engine.cache and engine.cache.warning:
            note(engine.cache.warning)


def tell_about_check(path: Path) -> None:
    """A large file takes a while to try."""
    if path.stat().st_size > _LARGE:
        note(f"{path.name} is new here: trying it in a process of its own first, this once.")


def tell_about_context(header: GGUFHeader, ctx_size: int) -> None:
    """A context beyond what the model was trained for works, and answers get worse."""
    trained = gguf_facts.context(header)
    if trained and ctx_size > trained:
        title = header.metadata.get("general.name") or "The model"
        note(f"{title} was trained for contexts of {trained:,} tokens; beyond, answers get worse.")


def tell_about_frame(session: Session) -> None:
    """Says which prompt was chosen for the user, where that may surprise."""
    model, prompt = session.model, session.asker.prompt
    if prompt.frame.template == "model":
        note(f"{model.name} is aligned; it is asked in its own chat template. See --prompt.")
    elif model.chat_template:
        note(
            f"{model.name} carries a chat template, so it may be aligned already. It is asked with"
            f" the URIAL prompt {prompt.name!r}; --prompt chat uses its own template."
        )
    elif prompt.name == "urial-mini":
        note("The context is small, so the short prompt 'urial-mini' is used; see --prompt.")
