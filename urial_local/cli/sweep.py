"""`urial-local sweep`: the same questions over models, prompts and settings, a run a cell."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.model_names import parse_name
from urial_local.cli.plumbing.crew_options import crew_of, crew_options
from urial_local.cli.plumbing.data_options import (
    FAILED,
    data_options,
    fields,
    output_option,
    selection,
)
from urial_local.cli.plumbing.generating import ParallelType
from urial_local.cli.plumbing.guide_options import guide_choice, guide_options
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import (
    Repeated,
    chat_template_option,
    prefill_option,
    runtime_choice,
    runtime_options,
)
from urial_local.cli.plumbing.output import Output, json_option

if TYPE_CHECKING:
    from urial_local.tasks.generate.setup import GenerateOptions
    from urial_local.tasks.generate.summary import GenerateSummary


class ListType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """Numbers with commas between them."""

    name = "A,B,…"

    def __init__(self, kind: Callable[[str], Any]) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in str(value).split(","))
        except ValueError:
            return self.fail(f"{value!r} is not a list of numbers such as 1.0,1.1", param, ctx)


@click.command()
@click.argument("data")
@click.option(
    "-m", "--model", "models", cls=Repeated, required=True, metavar="FILE", help="A model."
)
@click.option("-p", "--prompt", "prompts", cls=Repeated, metavar="NAME|FILE", help="A prompt.")
@click.option(
    "--scales", type=ListType(float), help="Factors for the scales of adapters, such as 0,0.5,1."
)
@click.option("--shots", type=ListType(int), help="Numbers of examples, such as 0,1,3.")
@click.option("--temp", type=ListType(float), help="Temperatures.")
@click.option("--repeat-penalty", type=ListType(float), help="Repetition penalties.")
@output_option("Gets a run folder for each cell. Run the same command again to resume.")
@click.option(
    "-n", "--max-tokens", type=Whole(1, limits.TOKENS), metavar="N", help="Longest answer."
)
@click.option(
    "-s",
    "--seed",
    type=Whole(-limits.SEED, limits.SEED),
    metavar="N",
    help="Seed of the random draws.",
)
@click.option("-np", "--parallel", type=ParallelType(), default="auto", help="Rows at a time.")
@click.option(
    "--exact", is_flag=True, help="One row at a time, so that none depends on its neighbours."
)
@prefill_option
@chat_template_option("Ask in this chat template, in place of the models' own.")
@guide_options
@crew_options
@json_option("Print the table as JSON.")
@data_options
@runtime_options
def command(data: str, output: Path, out: Output, **options: Any) -> None:
    """Answer DATA with every combination of models, prompts and settings.

    Models, prompts (-m and -p again and again), --scales, --shots, --temp and --repeat-penalty span
    a grid. --scales is an axis from a base model to what an adapter makes of it, and beyond.
    Each cell is a run of its own in FOLDER, to be read with show, report and export; the table says
    how each went.

    \b
    Examples:
      urial-local sweep q.jsonl -m a.gguf -m b.gguf -p zero-shot -p urial -o runs
      urial-local sweep q.jsonl -m base.gguf -p urial --shots 0,1,3 -o runs
      urial-local sweep q.jsonl -m base.gguf -p urial --repeat-penalty 1.0,1.1,1.15 -o runs
      urial-local sweep q.jsonl -m step1000.gguf -m step2000.gguf -o runs
      urial-local sweep q.jsonl -m base.gguf+lora.gguf --scales 0,0.5,1,1.5 -p zero-shot -o runs
    """

    from urial_local.cli.plumbing import generating
    from urial_local.cli.plumbing.answered import as_json, print_table
    from urial_local.records.runlog import write_json
    from urial_local.records.sources import open_source

    grid = checked(cells(options))
    found: dict[str, GenerateSummary] = {}
    rates: dict[str, float | None] = {}
    failed = 0
    with open_source(data, options["format"]) as source:
        dataset = generating.Dataset(source, fields(options), selection(options))
        for number, cell in enumerate(grid, 1):
            out.note(f"{number} of {len(grid)}: {cell.name}")
            with generating.planned(cell.model, cell.options) as plan:
                _, errors = generating.run(plan, dataset, output / cell.name, crew=crew_of(options))
            failed += errors
            found[cell.name], rates[cell.name] = summary_of(output / cell.name)
    write_json(output / "sweep.json", as_json(found, rates))
    print_table(found, out, rates)
    out.note(f"`urial-local report {output}/*/ -o answers.html` shows the answers side by side.")
    if failed:
        raise click.exceptions.Exit(FAILED)


def summary_of(folder: Path) -> tuple[GenerateSummary, float | None]:
    """How a cell went, over all starts of its run, and its tokens a second."""
    from urial_local.records.generated import Generated
    from urial_local.records.runs import latest_rows, read_run
    from urial_local.tasks.generate.job import KEY
    from urial_local.tasks.generate.summary import summarise

    sessions = read_run(folder).sessions
    tokens, seconds = sum(s.tokens for s in sessions), sum(s.seconds for s in sessions)
    found = summarise(latest_rows(folder, KEY, Generated.read))
    return found, round(tokens / seconds, 2) if seconds else None


@dataclass(frozen=True)
class Cell:
    """One combination."""

    name: str
    model: str
    options: GenerateOptions


def checked(cells: Iterator[Cell]) -> list[Cell]:
    """All of the grid, tried before the first cell is made. Raises UsageError, or what planning
    raises."""
    from urial_local.cli.plumbing import generating

    grid = list(cells)
    if len({cell.name for cell in grid}) < len(grid):
        raise UsageError("Two cells have the same name: give models and prompts different names.")
    for cell in grid:
        with generating.planned(cell.model, cell.options):
            pass
    return grid


def at_scales(models: Sequence[str], scales: Sequence[float] | None) -> list[str]:
    """Each model with its adapters' scales times each factor; one without adapters is there once.
    Raises UsageError where none has any."""
    named = [parse_name(model) for model in models]
    if scales is None:
        return list(models)
    if not any(name.adapters for name in named):
        raise UsageError(
            "--scales needs a model with an adapter.", "Name one as -m base.gguf+adapter.gguf."
        )
    return [
        each
        for name in named
        for each in ([name.scaled(scale) for scale in scales] if name.adapters else [name.base])
    ]


def cells(options: dict[str, Any]) -> Iterator[Cell]:
    """Each combination of the axes."""
    from urial_local.tasks.generate.job import JobOptions
    from urial_local.tasks.generate.setup import GenerateOptions, run_name

    parallel, guide = options["parallel"], guide_choice(options)
    seed = options["seed"]
    for model, prompt, shots, temperature, penalty in itertools.product(
        at_scales(options["models"], options["scales"]),
        options["prompts"] or (None,),
        options["shots"] or (None,),
        options["temp"] or (None,),
        options["repeat_penalty"] or (None,),
    ):
        parts = [] if prompt is None else [Path(prompt).stem]
        for value, short in ((shots, "k"), (temperature, "t"), (penalty, "rp")):
            if value is not None:
                parts.append(f"{short}{value:g}")
        sampling = {"temperature": temperature, "repeat_penalty": penalty, "seed": seed}
        asked = GenerateOptions(
            prompt=prompt,
            chat_template=options["chat_template"],
            shots=shots,
            sampling={name: value for name, value in sampling.items() if value is not None},
            max_tokens=options["max_tokens"],
            prefill=options["prefill"] or "",
            guide=guide,
            parallel=None if parallel == "auto" else parallel,
            exact=options["exact"],
            job=JobOptions(seed=seed or 0),
            runtime=runtime_choice(options),
        )
        yield Cell(run_name(model, *parts), model, asked)
