"""`urial-local fit`: finds the prompt that suits one model, by measurement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.paths import user_path
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import (
    complete_models,
    parallel_option,
    runtime_choice,
    runtime_options,
)
from urial_local.cli.plumbing.output import Output, json_option

if TYPE_CHECKING:
    from urial_local.prompting.prompts import Turn
    from urial_local.tasks.fit.plan import Plan
    from urial_local.tasks.model_file import ModelFile


@click.command()
@click.argument("model", shell_complete=complete_models)
@click.option("--pool", metavar="FILE", help="Questions with answers, as further examples.")
@click.option(
    "--aligned",
    metavar="NAME|FILE",
    shell_complete=complete_models,
    help="Make this model's answers likely, rather than probes right.",
)
@click.option("--answers", metavar="FILE", help="Make these questions' answers likely.")
@click.option("--probes", metavar="FILE", help="Your own probes, instead of the shipped ones.")
@click.option(
    "-k",
    "--shots",
    type=Whole(0, 8),
    default=4,
    metavar="K",
    help="At most this many examples.  [default: 4]",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    default=20.0,
    metavar="MINUTES",
    help="Start no new question after this many minutes.  [default: 20]",
)
@click.option(
    "--default/--no-default",
    default=True,
    help="From now on, ask the model under the prompt found, if it is better.  [default: on]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="The run's folder.  [default: fit-MODEL]",
)
@parallel_option("Probes answered at a time.", 8)
@click.option(
    "-s",
    "--seed",
    type=Whole(-limits.SEED, limits.SEED),
    default=0,
    metavar="N",
    help="Seed of the search.  [default: 0]",
)
@json_option("Print the result as JSON.")
@runtime_options
def command(model: str, output: Path | None, out: Output, **options: Any) -> None:
    """Find the frame, system text, examples, their order and the penalty that suit MODEL.

    Prompts are tried on probes, first many on few, then the better ones on more (successive
    halving), and the best is compared with the default on probes that had no part in the choice.
    With --aligned or --answers, what counts is how likely given answers are under a prompt.
    FOLDER/prompt.toml holds the prompt with its evidence; the same command resumes.

    \b
    Examples:
      urial-local fit base.gguf --budget 10
      urial-local fit base.gguf --aligned chat.gguf --pool examples.jsonl -k 2
      urial-local fit base.gguf --answers answers.json --no-default -o fit-run
    """
    from urial_local.cli.plumbing.fit_results import finish, refuse_other_runs, search
    from urial_local.cli.plumbing.session import tell_about_check, tell_about_context
    from urial_local.cli.plumbing.terminal import note
    from urial_local.tasks.fitted import fit_name
    from urial_local.tasks.model_file import model_file

    check(options)
    file = model_file(model, tell_about_check)
    tell_about_context(file.header, options["ctx_size"])
    folder = output or Path(fit_name(file.name))
    refuse_other_runs(folder)
    plan = planned(file, folder, options)
    for remark in plan.remarks:
        note(remark)
    outcome = search(plan, folder, options["budget"] * 60)
    finish(plan, outcome, folder, out, default=options["default"])


def check(options: dict[str, Any]) -> None:
    """Raises UsageError for options that do not go together."""
    if options["aligned"] and options["answers"]:
        raise UsageError("--aligned and --answers exclude each other.")
    if options["probes"] and options["answers"]:
        raise UsageError("--answers brings its own questions, so --probes would not be used.")


def planned(file: ModelFile, folder: Path, options: dict[str, Any]) -> Plan:
    """What is to be done, the aligned model's answers made where they are wanted."""
    from urial_local.cli.plumbing.fit_results import aligned_answers
    from urial_local.records.datasets import read_items
    from urial_local.tasks.benchmark.probes import load_probes
    from urial_local.tasks.fit.material import given
    from urial_local.tasks.fit.plan import FitOptions, plan

    own = options["probes"]
    probes = load_probes(user_path(own) if own else None)
    examples = pool(options["pool"])
    answers = None
    if options["answers"]:
        answers = given(read_items(options["answers"]))
    elif options["aligned"]:
        answers = aligned_answers(options["aligned"], probes, folder, options["parallel"])
    asked = FitOptions(
        most=options["shots"],
        seed=options["seed"],
        parallel=options["parallel"],
        runtime=runtime_choice(options),
    )
    return plan(file, asked, probes, examples, answers)


def pool(name: str | None) -> list[Turn]:
    """The examples of a file: its questions with answers."""
    from urial_local.prompting.prompts import Turn
    from urial_local.records.datasets import read_items
    from urial_local.tasks.fit.material import given

    if not name:
        return []
    found = given(read_items(name))
    if not found:
        raise UsageError(f"No row of {name} has an answer, so none can be an example.")
    return [Turn(query, answer) for query, answer in found.values()]
