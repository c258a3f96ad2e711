"""`urial-local chat`: a conversation in the terminal, or lines in and answers out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from urial_local.base.encodings import as_utf8
from urial_local.base.errors import UsageError
from urial_local.cli.plumbing.guide_options import guide_options, show_guide_option
from urial_local.cli.plumbing.options import model_options, prompt_options, sampling_options


@click.command()
@model_options
@prompt_options
@sampling_options
@guide_options
@show_guide_option
@click.option(
    "--load",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Continue a conversation that /save wrote.",
)
@click.option(
    "--file-commands",
    is_flag=True,
    help="Without a terminal: let lines use /save, /load and prompt files as well.",
)
def command(load: Path | None, file_commands: bool, **options: Any) -> None:
    """Hold a conversation with a base model.

    Earlier turns become further examples in the prompt's frame. In the terminal, Ctrl-C stops an
    answer, Ctrl-D quits, and /help lists commands. Without a terminal, every line of standard input
    is a question, or a command that touches no files, and the answers go to standard output.

    \b
    Examples:
      urial-local chat -m model.gguf
      urial-local chat -m model.gguf --prompt urial-help --temp 0.7 --seed 1
      printf 'What is tea?\\nHow do I make it?\\n' | urial-local chat -m model.gguf
    """
    from urial_local.cli.plumbing.repl import Repl
    from urial_local.cli.plumbing.session import open_session

    with open_session(options) as session:
        repl = Repl(session, session.assistant.chat(), file_commands)
        if load is not None:
            repl.load(str(load))
        if sys.stdin is None:
            raise UsageError("Standard input is closed, so there are no questions to read.")
        interactive = sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()
        lines = sys.stdin.buffer
        ok = repl.interact() if interactive else repl.pipe(as_utf8(lines, "Standard input"))
    if not ok:
        raise click.exceptions.Exit(1)
