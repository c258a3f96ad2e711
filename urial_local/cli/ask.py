"""`urial-local ask`: one question, one answer."""

from __future__ import annotations

from typing import Any

import click

from urial_local.base.errors import Interrupted
from urial_local.cli.plumbing.guide_options import guide_options, show_guide_option
from urial_local.cli.plumbing.options import model_options, prompt_options, sampling_options
from urial_local.cli.plumbing.output import Output, json_option
from urial_local.cli.plumbing.questions import read_question


@click.command(context_settings={"ignore_unknown_options": False})
@click.argument("text", nargs=-1)
@model_options
@prompt_options
@sampling_options
@guide_options
@show_guide_option
@json_option("One JSON object with text and figures.")
def command(text: tuple[str, ...], out: Output, **options: Any) -> None:
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
    from urial_local.cli.plumbing.guiding import tell_about_guide
    from urial_local.cli.plumbing.session import open_session

    with open_session(options) as session:
        done = None
        try:
            for step in session.assistant.stream(question):
                done = step.completion
                if step.text and not out.as_json:
                    session.status.clear()
                    out.answer(step.text, options["show_guide"] and step.guided)
        except KeyboardInterrupt:
            session.status.clear()
            out.answer("\n")
            raise Interrupted("Stopped.") from None
        assert done is not None
        out.data({**done.as_dict(), **session.assistant.about()})
        if not done.text.endswith("\n"):
            out.answer("\n")
        if guide := session.assistant.guide:
            tell_about_guide(done.guidance, guide.plan)
