"""`urial-local prompts`: the texts that make a base model answer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from urial_local.base import limits
from urial_local.base.errors import PromptError, UrialError, UsageError
from urial_local.base.formats import counted
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import complete_models, complete_prompts
from urial_local.cli.plumbing.output import Output, json_option
from urial_local.cli.plumbing.tables import Column
from urial_local.cli.plumbing.terminal import seen


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, show, render, lint and import prompts; choose a model's default.

    A prompt is a frame (how queries and answers are laid out) and content (system text and
    examples). Put your own .toml files into the folder that `prompts path` prints.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_prompts)


@command.command("list")
@click.option(
    "-m",
    "--model",
    metavar="NAME|FILE",
    shell_complete=complete_models,
    help="Also mark the prompt that this model is asked under, and say why.",
)
@json_option("A JSON list.")
def list_prompts(out: Output, model: str | None = None) -> None:
    """List all prompts.

    \b
    Examples:
      urial-local prompts list
      urial-local prompts list -m model.gguf   # which one it is asked under, and why
    """
    from urial_local.prompting.library import load_prompt, prompt_files

    usual, why = usual_prompt(model) if model else ("", "")

    prompts, rows, broken = [], [], []
    keys = ("name", "frame", "description", "fingerprint")
    for name in sorted(prompt_files()):
        try:
            prompt = load_prompt(name)
            if out.as_json:  # which renders the prompt, and its frame may fail
                found = prompt.as_dict()
                mark = {"default": name == usual} if model else {}
                more = {"examples": len(prompt.examples), **mark}
                rows.append({**{k: found[k] for k in keys}, **more})
            prompts.append((name, prompt))
        except PromptError as error:
            broken.append(error.message)
    lines = (
        (*(["*" if name == usual else ""] if model else []),
         p.name, f"K={len(p.examples)}", p.description)
        for name, p in prompts
    )  # fmt: skip
    out.table([Column()] * (4 if model else 3), lines, rows, gap=2)
    if why:
        out.tell(why)
    for message in broken:
        out.tell(f"Warning: {message}")


def usual_prompt(model: str) -> tuple[str, str]:
    """The prompt that a model is asked under where none is named, and a sentence on it."""
    from urial_local.cli.plumbing.session import tell_about_check
    from urial_local.tasks.model_file import model_file
    from urial_local.tasks.prompt_choice import choose_prompt

    file = model_file(model, tell_about_check)
    choice = choose_prompt(file)
    names = [prompt.name for prompt in choice.candidates]
    otherwise = f", or {names[1]!r} where the context is small" if len(names) > 1 else ""
    return names[0], choice.reason or f"{file.title} is asked under {names[0]!r}{otherwise}."


@command.command("default")
@click.argument("model", shell_complete=complete_models)
@click.argument("name", required=False, shell_complete=complete_prompts)
@click.option("--clear", is_flag=True, help="Go back to the prompt that suits its kind.")
def set_default(model: str, name: str | None, clear: bool) -> None:
    """Say under which prompt MODEL is asked where none is named, or make it NAME.

    It is the file that counts, whatever its name: `fit` sets the same default.

    \b
    Examples:
      urial-local prompts default base.gguf
      urial-local prompts default base.gguf urial-help
      urial-local prompts default base.gguf --clear
    """
    from urial_local.cli.plumbing.session import tell_about_check
    from urial_local.prompting.library import load_prompt, prompt_files
    from urial_local.tasks.fitted import keep_default
    from urial_local.tasks.model_file import model_file
    from urial_local.tasks.prompted import try_prompt

    out = Output()
    if clear or name:
        if clear and name:
            raise UsageError("NAME and --clear exclude each other.")
        prompt = load_prompt(name) if name else None  # which says what is wrong with it
        if name and name not in prompt_files():
            raise UsageError(
                f"{name} is a file, but a default must be a prompt's name.",
                "Put it into the folder that `urial-local prompts path` prints.",
            )
        file = model_file(model, tell_about_check)
        if prompt:
            try_prompt(prompt, file.chat_template)
        keep_default(file.fingerprint, name)
    out.line(usual_prompt(model)[1])


@command.command()
@click.argument("name", shell_complete=complete_prompts)
@json_option("All parts as JSON.")
def show(name: str, out: Output) -> None:
    """Print a prompt's constant text: system and examples, laid out in its frame.

    \b
    Examples:
      urial-local prompts show urial
      urial-local prompts show my-prompt.toml --json
    """
    from urial_local.prompting.library import load_prompt

    prompt = load_prompt(name)
    if out.as_json:
        out.data(prompt.as_dict(), indent=2)
    else:
        out.text(prompt.prefix())


@command.command()
@click.argument("name", shell_complete=complete_prompts)
@click.option("-q", "--query", required=True, help="The question; `-` reads standard input.")
@click.option(
    "--history",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="Earlier turns: a list of texts, of messages, or a saved conversation.",
)
@click.option("--frame", metavar="NAME|FILE", help="Use another frame for the prompt.")
@click.option(
    "--shots", type=Whole(0, limits.SHOTS), metavar="K", help="Only the prompt's first K examples."
)
@click.option(
    "--markers",
    type=click.Choice(["escape", "raw", "refuse"]),
    default="escape",
    help="What to do with the frame's own markers in the texts.  [default: escape]",
)
def render(
    name: str, query: str, history: Path | None, frame: str | None, shots: int | None, markers: Any
) -> None:
    """Print exactly the text that a model would see, nothing added.

    \b
    Examples:
      urial-local prompts render urial --query "Why?" | sha256sum
      urial-local prompts render inst_1k.txt --query "Why?" --frame fenced-inline
    """
    from urial_local.cli.plumbing.questions import read_question
    from urial_local.prompting.history import read_history
    from urial_local.prompting.library import load_prompt

    prompt = load_prompt(name, frame)
    if shots is not None:
        prompt = prompt.shots(shots)
    if prompt.frame.template == "model":
        raise UsageError(
            "The chat frame is the template inside a model's file, so it needs a model.",
            "In `urial-local chat --prompt chat -m FILE`, /raw shows what the model sees.",
        )
    turns = read_history(history) if history else []
    question = read_question((query,)) if query == "-" else query
    text = prompt.render(question, turns, markers).text
    if seen(sys.stdout):
        Output().text(text)
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))


@command.command()
@click.argument("names", nargs=-1, required=True, shell_complete=complete_prompts)
@click.option(
    "-m",
    "--model",
    metavar="NAME|FILE",
    envvar="URIAL_MODEL",
    shell_complete=complete_models,
    help="Also check that the prompt fits this model's context.",
)
@click.option("-c", "--ctx-size", type=Whole(1, limits.TOKENS), metavar="N", help="Context to fit.")
@json_option("A JSON list of findings.")
def lint(names: tuple[str, ...], model: str | None, ctx_size: int | None, out: Output) -> None:
    """Find what is wrong with prompts. Exit code 1 when there is an error.

    \b
    Examples:
      urial-local prompts lint my-prompt.toml
      urial-local prompts lint urial urial-8 -m model.gguf -c 2048
    """
    from contextlib import ExitStack

    from urial_local.prompting.lint import lint as lint_prompt

    if ctx_size and not model:
        raise UsageError("-c needs -m: how many tokens a prompt has depends on the model.")
    rows = []
    with ExitStack() as stack:
        count, context = None, 0
        if model is not None:
            from urial_local.cli.plumbing.session import tell_about_check
            from urial_local.tasks.model_file import model_file

            file = model_file(model, tell_about_check)
            count = stack.enter_context(file.vocabulary()).count
            context = ctx_size or file.trained_context

        for name in names:
            rows += [(name, f) for f in lint_prompt(name, count, context)]
    out.lines(
        (f"{name}: {f.level}: {f.where}: {f.message}" for name, f in rows),
        [{"prompt": n, "level": f.level, "where": f.where, "message": f.message} for n, f in rows],
    )
    if not rows and not out.as_json:
        out.tell("No problems found.")
    if any(f.level == "error" for _, f in rows):
        raise click.exceptions.Exit(1)


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the prompt; the file's by default.")
@click.option("--frame", metavar="NAME|FILE", help="The frame, instead of the one recognised.")
@click.option("--to-stdout", is_flag=True, help="Print the TOML instead of keeping it.")
@click.option("--force", is_flag=True, help="Replace a prompt of that name.")
def import_file(
    file: Path, name: str | None, frame: str | None, to_stdout: bool, force: bool
) -> None:
    """Import one of the authors' .txt prompts: recognise its frame, split it, write TOML.

    It renders byte for byte as the reference assembles it. Files whose examples hold the query on
    one line with its fence are asked on lines of its own, as the reference's current code does;
    --frame fenced-inline asks as the paper's code did.

    \b
    Examples:
      urial-local prompts import inst_1k_v4.txt
      urial-local prompts import inst_1k_v4.txt --name authors --frame fenced-inline
    """
    from dataclasses import replace

    from urial_local.base.files import private_folder, replacing
    from urial_local.base.paths import user_prompts_dir
    from urial_local.prompting.importer import import_text
    from urial_local.prompting.library import prompt_toml, read_prompt_text

    name = name or file.stem
    if not name or any(c in name for c in '/\\"\n') or name.startswith("."):
        raise UsageError(f"{name!r} cannot be a prompt's name.", "Use letters, digits, - _ and .")
    prompt = import_text(read_prompt_text(file), name, frame)
    text = prompt_toml(replace(prompt, description=f"Imported from {file.name}"))
    if to_stdout:
        Output().text(text)
        return
    target = user_prompts_dir() / f"{name}.toml"
    if os.path.lexists(target) and not force:
        raise UsageError(
            f"There is a prompt {name!r} already ({target}).", "Use --name or --force."
        )
    try:
        private_folder(target.parent)
        with replacing(target) as out:
            out.write(text)
    except OSError as error:
        raise UrialError(
            f"{target} could not be written: {error.strerror}.",
            "URIAL_CONFIG_DIR names another folder, and --to-stdout prints the prompt.",
        ) from None
    Output().tell(
        f"Imported {name!r}: frame {prompt.frame.name},"
        f" {counted(len(prompt.examples), 'example')}. Try:\n"
        f"  urial-local prompts render {name} --query 'Why is the sky blue?'"
    )


@command.command()
def path() -> None:
    """Print the folders of shipped prompts and of your own.

    \b
    Examples:
      urial-local prompts path
      cp my-prompt.toml "$(urial-local prompts path | tail -1)"
    """
    from urial_local.base.paths import shipped, user_prompts_dir

    Output().lines(map(str, (shipped("templates") / "prompts", user_prompts_dir())))
