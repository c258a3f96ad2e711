"""`urial-local generate`: answers every row of a dataset, and can be stopped and restarted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.formats import counted, rate
from urial_local.cli.plumbing.crew_options import crew_of, crew_options
from urial_local.cli.plumbing.data_options import (
    FAILED,
    data_options,
    fields,
    output_option,
    selection,
)
from urial_local.cli.plumbing.generating import (
    Dataset,
    ParallelType,
    generate_options,
    planned,
    run,
)
from urial_local.cli.plumbing.guide_options import guide_options
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import model_options, prompt_options, sampling_options
from urial_local.cli.plumbing.output import Output


@click.command()
@click.argument("data")
@output_option("The run's folder. Run the same command again to resume.")
@data_options
@click.option(
    "--shots",
    type=Whole(0, limits.SHOTS),
    metavar="K",
    help="Only the prompt's first K examples.",
)
@click.option(
    "--retrieve",
    metavar="POOL",
    help="Put the --shots most similar examples of this file before each question.  [3 shots]",
)
@click.option(
    "--embedding-model",
    metavar="FILE",
    help="Find examples with a GGUF embedding model instead of by words (BM25).",
)
@click.option(
    "--restyle",
    metavar="PROMPT",
    help="Draft under this prompt first (such as zero-shot), then rewrite under --prompt.",
)
@click.option("--raw", is_flag=True, help="Plain completion; the same as --prompt raw.")
@click.option(
    "--repeat",
    type=Whole(1, limits.REPEATS),
    default=1,
    metavar="N",
    help="Answer each N times.",
)
@click.option(
    "--n",
    type=Whole(1, 64),
    default=1,
    metavar="N",
    help="Write N answers for each turn and keep one; see --pick.",
)
@click.option(
    "--pick",
    type=click.Choice(["first", "longest-clean"]),
    default="longest-clean",
    help="Which of the --n answers to keep: the first, or the longest without flags."
    "  [default: longest-clean]",
)
@click.option(
    "--turns",
    type=Whole(1, limits.ROWS),
    metavar="N",
    help="Only the first N turns of dialogues.",
)
@click.option(
    "-np",
    "--parallel",
    type=ParallelType(),
    default="auto",
    help="Rows at a time; auto measures which number is fastest.  [default: auto]",
)
@click.option(
    "--exact", is_flag=True, help="One row at a time, so that none depends on its neighbours."
)
@model_options
@prompt_options
@sampling_options
@guide_options
@crew_options
def command(data: str, output: Path, **options: Any) -> None:
    """Answer every row of DATA with a model under a prompt.

    DATA is JSON, JSONL, CSV, TSV, Parquet or text (a question a line), hf:user/dataset[:file], or -
    for standard input. Rows go to FOLDER/rows.jsonl as they are finished; the same command resumes
    after any stop. Ctrl-C finishes the rows in flight.

    \b
    Examples:
      urial-local generate questions.txt -m base.gguf -o run
      urial-local generate just_eval.json -m base.gguf --prompt urial --where category=safety -o run
      urial-local generate q.jsonl -m base.gguf --prompt vanilla --repeat-penalty 1.1 -o run
      urial-local generate q.jsonl -m base.gguf --retrieve pool.jsonl --shots 3 -o run
    """
    from urial_local.records.sources import open_source

    if options.pop("raw"):
        if options["prompt"]:
            raise UsageError("--raw and --prompt are two ways to ask; choose one.")
        options["prompt"] = "raw"
    with open_source(data, options["format"]) as source:
        dataset = Dataset(source, fields(options), selection(options))
        asked = generate_options(options)
        with planned(options["model"], asked, options["embedding_model"]) as plan:
            crew = crew_of(options, options["embedding_model"])
            tally, errors = run(plan, dataset, output, crew=crew)
    out = Output()
    out.note(
        f"{counted(tally.done, 'row')}, {counted(tally.tokens, 'token')},"
        f" {rate(tally.tokens_per_second)};"
        f" `urial-local show {output}` reads the answers."
    )
    if errors:
        out.note(
            f"{counted(errors, 'row')} failed; each has its reason in {output / 'rows.jsonl'}."
        )
        raise click.exceptions.Exit(FAILED)
