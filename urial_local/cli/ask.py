"""`urial-local ask`: one question, one answer."""

from __future__ import annotations

import sys
from typing import Any

import click

from urial_local.base.encodings import decoded
from urial_local.base.errors import Interrupted, UsageError
from urial_local.cli.plumbing.options import model_options, prompt_options, sampling_options

MAX_STDIN = 64 << 20  # bytes


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("text", nargs=-1)
@model_options
@prompt_options
@sampling_options
@click.option(
    "--json",
    "as_json",
    envvar="URIAL_ASK_JSON",
    is_flag=True,
    help="One JSON object with text and figures.",
)
def command(text: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask one question; the answer goes to stdout, everything else to stderr.

    TEXT is the question; `-` reads it from standard input.

    \b
    Examples:
      urial-local ask -m model.gguf "Why is the sky blue?"
      git diff | urial-local ask -m model.gguf - --prompt urial-help
      urial-local ask -m model.gguf --prompt raw "Once upon a time" -n 50
      urial-local ask -m model.gguf --json "Who are you?" | jq .finish_reason
    """
    question = read_question(text)
    from urial_local.cli.plumbing.session import open_session
    from urial_local.cli.plumbing.terminal import emit, say_json

    with open_session(options) as session:
        done = None
        try:
            for step in session.assistant.stream(question):
                done = step.completion
                if step.text and not as_json:
                    session.status.clear()
                    emit(step.text)
        except KeyboardInterrupt:
            session.status.clear()
            emit("" if as_json else "\n")
            raise Interrupted("Stopped.") from None
        assert done is not None
        if as_json:
            say_json({**done.as_dict(), **session.assistant.about()})
        elif not done.text.endswith("\n"):
            emit("\n")


def read_question(text: tuple[str, ...]) -> str:
    """The question from the arguments or standard input. Raises UsageError where there is none."""
    if text == ("-",) or (not text and sys.stdin is not None and not sys.stdin.isatty()):
        if sys.stdin is None:
            raise UsageError("Standard input is closed, so there is no question to read.")
        data = sys.stdin.buffer.read(MAX_STDIN + 1)
        if len(data) > MAX_STDIN:
            raise UsageError(f"Standard input has more than {MAX_STDIN >> 20} MB.")
        question = decoded(data, "Standard input").removesuffix("\n").removesuffix("\r")
        if "\0" in question:
            raise UsageError("Standard input holds a NUL, as UTF-16 and binary data do.")
    else:
        question = " ".join(text)
        try:
            question.encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError("The question is not valid UTF-8.") from None
    if not question.strip():
        raise UsageError("The question is empty.", 'Type it in quotes: urial-local ask -m … "Why?"')
    return question
