"""`urial-local sweep`: the same questions over models, prompts and settings, a run a cell."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.cli.data_options import FAILED, data_options, output_option
from urial_local.cli.generate import ParallelType
from urial_local.cli.options import Repeated, runtime_options
from urial_local.cli.terminal import say, say_json

# Options that generate has and a sweep leaves at their defaults.
FIXED: dict[str, Any] = {
    "frame": None,
    "retrieve": None,
    "embedding_model": None,
    "restyle": None,
    "repeat": 1,
    "candidates": 1,
    "pick": "first",
    "turns": None,
    "markers": "escape",
    "stop": (),
    "top_k": None,
    "top_p": None,
    "min_p": None,
    "penalty_scope": None,
}


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
            return self.fail(f"{value!r} is no list of numbers, such as 1.0,1.1", param, ctx)


@click.command()
@click.argument("data")
@click.option(
    "-m", "--model", "models", cls=Repeated, required=True, metavar="FILE", help="A model."
)
@click.option("-p", "--prompt", "prompts", cls=Repeated, metavar="NAME|FILE", help="A prompt.")
@click.option("--shots", type=ListType(int), help="Numbers of examples, such as 0,1,3.")
@click.option("--temp", type=ListType(float), help="Temperatures.")
@click.option("--repeat-penalty", type=ListType(float), help="Repetition penalties.")
@output_option("Gets a run folder for each cell. The same command goes on with it.")
@click.option(
    "-n", "--max-tokens", type=click.IntRange(1, limits.TOKENS), metavar="N", help="Longest answer."
)
@click.option(
    "-s",
    "--seed",
    type=click.IntRange(-limits.SEED, limits.SEED),
    metavar="N",
    help="Seed of the random draws.",
)
@click.option("-np", "--parallel", type=ParallelType(), default="auto", help="Rows at a time.")
@click.option("--exact", is_flag=True, help="One row at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@data_options
@runtime_options
def command(data: str, output: Path, as_json: bool, **options: Any) -> None:
    """Answer DATA with every combination of models, prompts and settings.

    Models, prompts (-m and -p again and again), --shots, --temp and --repeat-penalty span a grid.
    Each cell is a run of its own in FOLDER, to be read with show, report and export; the table says
    how each went.

    \b
    Examples:
      urial-local sweep q.jsonl -m a.gguf -m b.gguf -p zero-shot -p urial -o runs
      urial-local sweep q.jsonl -m base.gguf -p urial --shots 0,1,3 -o runs
      urial-local sweep q.jsonl -m base.gguf -p urial --repeat-penalty 1.0,1.1,1.15 -o runs
      urial-local sweep q.jsonl -m step1000.gguf -m step2000.gguf -o runs
    """

    from urial_local.base.gguf_parts import read_model
    from urial_local.base.registry import find_model
    from urial_local.cli import generate
    from urial_local.cli.report import table
    from urial_local.cli.terminal import note
    from urial_local.records.generated import Generated
    from urial_local.records.runlog import write_json
    from urial_local.records.runs import latest_rows, read_run
    from urial_local.records.sources import open_source
    from urial_local.tasks.generate.job import KEY
    from urial_local.tasks.generate.setup import check, chosen_prompt
    from urial_local.tasks.generate.summary import summarise

    grid = list(cells(options))
    names = [name for name, _ in grid]
    if len(set(names)) < len(names):
        raise UsageError("Two cells have the same name: give models and prompts different names.")
    for name in dict.fromkeys(chosen["model"] for _, chosen in grid):
        read_model(find_model(name).path)
    for _, chosen in grid:  # all of it, before the first cell is made
        asked = generate.generate_options(chosen)
        check(asked)
        chosen_prompt(asked, chosen["model"], False)
    found: dict[str, dict[str, object]] = {}
    failed = 0
    with open_source(data, options["kind"]) as source:
        for number, (name, chosen) in enumerate(grid, 1):
            note(f"{number} of {len(grid)}: {name}")
            _, errors = generate.run(source, output / name, chosen)
            failed += errors
            sessions = read_run(output / name).sessions
            tokens, seconds = sum(s.tokens for s in sessions), sum(s.seconds for s in sessions)
            found[name] = {
                **summarise(latest_rows(output / name, KEY, Generated.read)),
                "tokens_per_second": round(tokens / seconds, 2) if seconds else None,
            }
    write_json(output / "sweep.json", found)
    if as_json:
        say_json(found)
    else:
        for line in table(found):
            say(line)
    note(f"`urial-local report {output}/*/ -o answers.html` shows the answers side by side.")
    if failed:
        raise click.exceptions.Exit(FAILED)


def cells(options: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and options of each combination, those of generate."""
    axes = {
        "model": options["models"],
        "prompt": options["prompts"] or (None,),
        "shots": options["shots"] or (None,),
        "temp": options["temp"] or (None,),
        "repeat_penalty": options["repeat_penalty"] or (None,),
    }
    shared = {k: v for k, v in options.items() if k not in ("models", "prompts", *axes)}
    for values in itertools.product(*axes.values()):
        cell = dict(zip(axes, values, strict=True))
        parts = [Path(cell["model"]).stem]
        if cell["prompt"] is not None:
            parts.append(Path(cell["prompt"]).stem)
        for axis, short in (("shots", "k"), ("temp", "t"), ("repeat_penalty", "rp")):
            if cell[axis] is not None:
                parts.append(f"{short}{cell[axis]:g}")
        name = re.sub(r"[^\w.=-]", "_", "__".join(parts))
        yield name, {**FIXED, **shared, **cell}
