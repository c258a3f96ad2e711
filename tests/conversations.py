"""A conversation with a model whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace

from tests.fakes import FakeDecoder, FakeModel, script
from urial_local.assistant import Assistant, Settings
from urial_local.cli.plumbing.repl import Repl
from urial_local.cli.plumbing.session import Session
from urial_local.cli.plumbing.terminal import StatusLine
from urial_local.prompting.frames import load_frame
from urial_local.prompting.prompts import Prompt, Turn
from urial_local.runtime.engine import Engine
from urial_local.tasks.chat import Conversation
from urial_local.tasks.prompted import PromptedModel

ASK = "\n# Query:\n```\n{}\n```\n\n# Answer:\n```\n"
ANSWERS = {
    ASK.format("Hi"): "Hello!\n```\n\n# Query:\n```\n",
    ASK.format("Code?"): "Look:\n\n```py\nx = 1\n```\n\nDone.\n```\n",
    ASK.format("two\nlines"): "Both read.\n```\n",
    ASK.format("/slash"): "A slash.\n```\n",
}
PROMPT = Prompt(
    "test", load_frame("fenced"), system="# Instruction\n\nBe kind.\n", examples=(Turn("q", "a"),)
)


def conversation(cells: int = 4096, max_tokens: int = 100) -> Conversation:
    decoder = FakeDecoder(script(ANSWERS), cells=cells)
    asker = PromptedModel(FakeModel(), PROMPT, max_tokens=max_tokens)  # type: ignore[arg-type]
    return Conversation(asker, Engine(asker.model.vocab, decoder))


def repl(talk: Conversation, file_commands: bool = True) -> Repl:
    file = SimpleNamespace(chat_template="")
    assistant = Assistant(file, talk.asker.model, talk.engine, PROMPT, Settings())  # type: ignore[arg-type]
    assistant.asker = talk.asker
    return Repl(Session(assistant, StatusLine()), talk, file_commands)
