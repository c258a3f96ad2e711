"""`urial-local`: finds the command, and is the one place where errors become sentences."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import os
import signal
import sys
from collections.abc import Iterable
from typing import NoReturn

import click

from urial_local import __version__
from urial_local.base.errors import UrialError, near
from urial_local.cli.plumbing.terminal import complain, prepare, tell

# Command → module and one line of help, so that --help imports no command.
COMMANDS = {
    "ask": ("urial_local.cli.ask", "Ask one question; the answer goes to stdout."),
    "chat": ("urial_local.cli.chat", "Hold a conversation with a base model."),
    "generate": ("urial_local.cli.generate", "Answer every row of a dataset."),
    "sweep": ("urial_local.cli.sweep", "Answer the same rows in a grid of settings."),
    "benchmark": (
        "urial_local.cli.benchmark",
        "Measure what prompts are worth, without a judge.",
    ),
    "fit": ("urial_local.cli.fit", "Find the prompt that suits a model, by measurement."),
    "serve": ("urial_local.cli.serve", "Serve OpenAI's API and a chat page."),
    "show": ("urial_local.cli.show", "Read a run's answers, or two runs' side by side."),
    "export": ("urial_local.cli.export", "Write a run in another tool's format."),
    "shift": ("urial_local.cli.shift", "Compare a base model with an aligned one, by token."),
    "evaluate": ("urial_local.cli.evaluate", "Score answers by a judge, with reasons."),
    "leaderboard": ("urial_local.cli.leaderboard", "Compare judged runs side by side."),
    "agreement": ("urial_local.cli.leaderboard", "Measure how far two judges agree."),
    "merge": ("urial_local.cli.merge", "Put the shards of a run together."),
    "slurm": ("urial_local.cli.slurm", "A Slurm script that makes a run in shards."),
    "report": ("urial_local.cli.report", "Rebuild a run's summary and page."),
    "lm-eval": ("urial_local.cli.lm_eval", "Run lm-evaluation-harness under any prompt."),
    "prompts": ("urial_local.cli.prompts", "List, show, render, lint and import prompts."),
    "demo": ("urial_local.cli.demo", "See what URIAL does, in under a minute."),
    "models": ("urial_local.cli.models", "List, pull, check and describe models."),
    "doctor": ("urial_local.cli.doctor", "What this machine can do, and what would help."),
    "completion": ("urial_local.cli.completion", "Set up completion in a shell."),
    "cache": ("urial_local.cli.cache", "Show or clear the saved states of prompts."),
}


class Commands(click.Group):
    """Loads a command's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[name][0])
        named = getattr(module, name, None)  # where a module holds two commands
        command: click.Command = named if isinstance(named, click.Command) else module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = near(args[0], list(COMMANDS))
            raise click.UsageError(f"There is no command {args[0]!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "URIAL"},
)
@click.version_option(__version__, prog_name="urial-local")
def cli() -> None:
    """Base language models as assistants, on your own hardware.

    A base model is not trained to answer. A URIAL prompt, a short text and a few well-styled
    examples, makes it answer like an assistant, without any training.

    \b
    Examples:
      urial-local ask "How do I make tea?"
      urial-local ask -m model.gguf "Why is the sky blue?"
      urial-local chat -m model.gguf
      urial-local prompts list

    Every option can be set by an environment variable: URIAL_ASK_TEMP, URIAL_CHAT_PROMPT, and
    URIAL_MODEL for all commands; several values are a line each. URIAL_DEBUG=1 shows tracebacks.
    """


def main() -> NoReturn:
    """Run the command. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 some rows failed,
    75 unfinished (SIGTERM, or a shard is missing), 130 interrupted."""
    if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None):  # as nohup sets it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = _run()
    except KeyboardInterrupt:  # once more, while the first was being told
        code = 130
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is said; what follows is quick
    if code != 130:
        sys.exit(code)
    # Python would now wait for threads and take modules apart in whatever state Ctrl-C left them,
    # and breaks down if one of them calls back. What was open has been closed on the way here.
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    os._exit(code)


def _run() -> int:
    prepare()
    debug = os.environ.get("URIAL_DEBUG", "") not in ("", "0")
    if "_URIAL_LOCAL_COMPLETE" in os.environ:  # set by a shell that asks how a word goes on
        from urial_local.cli.plumbing.completion import teach

        teach()
    try:
        code = 0
        for arguments in _wanted():
            # click hands back the code of a command that left with `Exit`, and None otherwise.
            code = cli(arguments, prog_name="urial-local", standalone_mode=False) or 0
            if code:
                break
        if sys.stdout is not None:
            sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        tell("Interrupted.")
        code = 130
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)  # it may name files
        tell(said.getvalue().removesuffix("\n"))
        code = error.exit_code
    except UrialError as error:
        if debug:
            raise
        complain(error.message, error.hint)
        code = error.exit_code
    except BrokenPipeError:
        code = 1  # the reader of our output is gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if debug:
            raise
        complain(f"{error.strerror or error} ({error.filename or 'output'}).")
        code = 1
    return int(code)


def _wanted() -> Iterable[list[str]]:
    """The command's arguments; of a bare name on a terminal, what its user chooses from a menu."""
    if given := sys.argv[1:]:
        return [given]
    from urial_local.cli.welcome import is_wanted, welcome

    return welcome() if is_wanted() else [[]]


if __name__ == "__main__":
    main()
