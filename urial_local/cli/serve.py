"""`urial-local serve`: OpenAI's API and a chat page, over one base model or a pair."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from urial_local.base.errors import UsageError
from urial_local.cli.plumbing.guide_options import guide_options
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import (
    Repeated,
    chat_template_option,
    complete_models,
    complete_prompts,
    model_options,
    parallel_option,
    runtime_choice,
)


@click.command()
@model_options
@click.option(
    "--aligned",
    metavar="NAME|FILE",
    shell_complete=complete_models,
    help="Also serve this model, under its own chat template.  [default with the demo model:"
    " demo-aligned]",
)
@click.option(
    "-p",
    "--prompt",
    metavar="NAME|FILE",
    shell_complete=complete_prompts,
    help="The prompt of the model's plain name; others are NAME:PROMPT.  [default: as `ask`]",
)
@click.option("--frame", metavar="NAME|FILE", help="Use another frame for the prompt.")
@chat_template_option("The aligned model's chat template, or the only one's, in place of its own.")
@click.option(
    "--markers",
    type=click.Choice(["escape", "raw", "refuse"]),
    default="escape",
    help="What to do with the frame's own markers in messages.  [default: escape]",
)
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="The address to listen on.  [default: 127.0.0.1]",
)
@click.option(
    "--port",
    type=Whole(0, 65535),
    default=8080,
    metavar="N",
    help="The port to listen on.  [default: 8080]",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The key that requests must carry; or URIAL_API_KEY. Other addresses than this machine's"
    " own need one.",
)
@click.option(
    "--allow-host", "allow_hosts", cls=Repeated, metavar="NAME",
    help="Also accept this host name; may be given again.",
)  # fmt: skip
@click.option(
    "--allow-origin", "allow_origins", cls=Repeated, metavar="URL",
    help="Accept requests from this origin, such as https://app.example.org; may be given again.",
)  # fmt: skip
@guide_options
@parallel_option("Answers at a time, of each model.", 4)
@click.option(
    "--exact", is_flag=True, help="One answer at a time, so that none depends on its neighbours."
)
@click.option(
    "--queue",
    type=Whole(0, 100_000),
    default=256,
    metavar="N",
    help="Requests that may wait; further ones are told to try again.  [default: 256]",
)
@click.option(
    "--drain",
    type=click.FloatRange(0, 86_400),
    default=30.0,
    metavar="SECONDS",
    help="How long answers may continue once the server is told to stop.  [default: 30]",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Let the chat page save conversations as runs in this folder.",
)
def command(**options: Any) -> None:
    """Serve a base model under a URIAL prompt: OpenAI's API and a chat page.

    /v1/chat/completions asks through the prompt, /v1/completions continues a text as it is, and
    with `echo` and `logprobs` scores it exactly, as lm-evaluation-harness wants it. Model names are
    NAME and NAME:PROMPT. A guide has a say in chats, not in completions. SIGTERM and Ctrl-C let
    answers end first. See docs/serve.md.

    \b
    Examples:
      urial-local serve
      urial-local serve -m mistral-7b-q4 -np 8
      urial-local serve -m base.gguf --aligned chat.gguf --runs runs
      urial-local serve -m base.gguf --guide small-chat.gguf
      URIAL_API_KEY=... urial-local serve -m base.gguf --host 0.0.0.0 --allow-host gpu1.example.org
      curl localhost:8080/v1/completions -d '{"prompt": "Once upon a time", "max_tokens": 50}'
    """
    try:
        from urial_local.server.run import serve
    except ImportError as error:
        raise UsageError(
            f"Serving needs packages that are not installed ({error.name}).",
            "pip install 'urial-local[serve]'",
        ) from None
    from urial_local.cli.plumbing.serving import lane_plans
    from urial_local.cli.plumbing.terminal import note
    from urial_local.server.lanes import open_lanes
    from urial_local.server.settings import KEY_ENV, ServeSettings, read_key

    file = options["api_key_file"]
    settings = ServeSettings(
        host=options["host"],
        port=options["port"],
        key=read_key(file) if file else os.environ.get(KEY_ENV, "").strip(),
        allow_hosts=options["allow_hosts"],
        allow_origins=options["allow_origins"],
        queue=options["queue"],
        drain=options["drain"],
        runs=options["runs"],
    )
    plans = lane_plans(options, runtime_choice(options))
    serve(settings, lambda: open_lanes(plans), note)
