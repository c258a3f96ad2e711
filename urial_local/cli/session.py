"""Opens what `ask` and `chat` run on, from their options, and tells the user what is going on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from urial_local.base.fences import LINE_BREAKS
from urial_local.base.registry import DEMO_NOTE, find_model
from urial_local.cli.options import DecodingOptions
from urial_local.prompting.library import load_prompt
from urial_local.runtime.engine import Engine
from urial_local.runtime.model import Model
from urial_local.runtime.open import RuntimeOptions, open_engine
from urial_local.tasks.prompted import PromptedModel, choose_prompt, recommended

DEFAULT_MAX_TOKENS = 1024
_PATIENCE = 1.0  # seconds before a status line appears


@dataclass
class Session:
    model: Model
    engine: Engine
    asker: PromptedModel
    decoding: DecodingOptions
    status: StatusLine


class StatusLine:
    """One line on stderr that is overwritten and erased; nothing where there is no terminal."""

    def __init__(self) -> None:
        self._active = sys.stderr.isatty()
        self._since = time.monotonic()
        self._shown = False

    def prefill(self, done: int, total: int) -> None:
        if done >= total:
            self.clear()
        elif self._active and time.monotonic() - self._since > _PATIENCE:
            click.echo(
                f"\r\x1b[2KReading the prompt: {done:,} of {total:,} tokens", err=True, nl=False
            )
            self._shown = True

    def begin(self) -> None:
        self._since = time.monotonic()

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._shown = False


def note(text: str) -> None:
    """A remark to the person at the terminal; never on stdout."""
    click.echo(click.style(text, dim=True), err=True, color=None if sys.stderr.isatty() else False)


@contextmanager
def open_session(options: dict[str, Any]) -> Iterator[Session]:
    """Model, engine and prompt from a command's options; closes them in the end."""
    decoding = DecodingOptions(**{k: options[k] for k in DecodingOptions.__slots__})
    runtime = RuntimeOptions(
        ctx_size=options["ctx_size"],
        batch=options["batch_size"],
        threads=options["threads"],
        gpu_layers=options["gpu_layers"],
        kv_type=options["kv_type"],
        disk_cache=options["disk_cache"],
    )
    status = StatusLine()
    named = find_model(options["model"] or "demo")
    if options["model"] is None:
        note(DEMO_NOTE)
    name = options["prompt"] or named.prompt
    # Before any weights are loaded: a wrong prompt's name should not cost that wait.
    if name is not None:
        load_prompt(name, options["frame"])
    with open_engine(named.path, runtime, status.prefill) as (model, engine):
        prompt = choose_prompt(model, name, options["frame"], engine.ctx_size)
        max_tokens = options["max_tokens"]
        if max_tokens is None:
            max_tokens = int(prompt.sampling.get("max_tokens", DEFAULT_MAX_TOKENS))
        asker = PromptedModel(
            model,
            prompt,
            recommended(prompt, decoding.chosen()),
            max_tokens,
            options["markers"],
            tuple(options["stop_strings"]),
        )
        if name is None:
            tell_about_frame(model, asker)
        yield Session(model, engine, asker, decoding, status)
        status.clear()
        if engine.cache and engine.cache.warning:
            note(engine.cache.warning)


def tell_about_frame(model: Model, asker: PromptedModel) -> None:
    """Says which prompt was chosen for the user, where that may surprise."""
    name = asker.prompt.name
    if model.chat_template:
        note(
            f"{model.name} carries a chat template, so it may be aligned already. It is asked with"
            f" the URIAL prompt {name!r}; --prompt chat uses its own template."
        )
    elif name == "urial-mini":
        note("The context is small, so the short prompt 'urial-mini' is used; see --prompt.")


def printable(text: str) -> str:
    """Text for a terminal: control characters, with which output could drive it, are dropped."""
    return "".join(
        c for c in text if c in "\n\t" or (c.isprintable() or c == "\u00a0" or c in LINE_BREAKS[7:])
    )


def emit(text: str) -> None:
    """The model's text to stdout: as it is into a pipe, harmless on a terminal."""
    if not text:
        return
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
