"""`urial-local generate`: answers every row of a dataset, and can be stopped and restarted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from urial_local.base import limits
from urial_local.base.errors import Interrupted, UsageError
from urial_local.cli.data_options import (
    FAILED,
    data_options,
    fields,
    output_option,
    selection,
)
from urial_local.cli.options import (
    model_options,
    prompt_options,
    runtime_choice,
    sampling_options,
)


class ParallelType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """auto, or a number of rows."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("auto", None):
            return "auto"
        # The digits of a long number are not repeated.
        return limits.count(str(value), limits.ROWS_AT_A_TIME) or self.fail(
            f"{str(value)[:20]!r} is neither auto nor a number from 1 to {limits.ROWS_AT_A_TIME}",
            param,
            ctx,
        )


@click.command()
@click.argument("data")
@output_option("The run's folder. The same command goes on with it.")
@data_options
@click.option(
    "--shots",
    type=click.IntRange(0, limits.SHOTS),
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
    help="Find them by a GGUF embedding model, rather than by words (BM25).",
)
@click.option(
    "--restyle",
    metavar="PROMPT",
    help="Draft under this prompt first (such as zero-shot), then rewrite under --prompt.",
)
@click.option("--raw", is_flag=True, help="Plain completion; the same as --prompt raw.")
@click.option(
    "--repeat",
    type=click.IntRange(1, limits.REPEATS),
    default=1,
    metavar="N",
    help="Answer each N times.",
)
@click.option(
    "--n",
    "candidates",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="Write N answers for each turn and keep one; see --pick.",
)
@click.option(
    "--pick",
    type=click.Choice(["first", "longest-clean"]),
    default="longest-clean",
    help="Which of --n answers stands: the first, or the longest without flags."
    "  [default: longest-clean]",
)
@click.option(
    "--turns",
    type=click.IntRange(1, limits.ROWS),
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
@click.option("--exact", is_flag=True, help="One row at a time: no neighbour, no noise from one.")
@model_options
@prompt_options
@sampling_options
def command(data: str, output: Path, **options: Any) -> None:
    """Answer every row of DATA with a model under a prompt.

    DATA is JSON, JSONL, CSV, TSV, Parquet or text (a question a line), hf:user/dataset[:file], or -
    for standard input. Rows go to FOLDER/rows.jsonl as they are finished; the same command goes on
    after any stop. Ctrl-C finishes the rows in hand.

    \b
    Examples:
      urial-local generate questions.txt -m base.gguf -o run
      urial-local generate just_eval.json -m base.gguf --prompt urial --where category=safety -o run
      urial-local generate q.jsonl -m base.gguf --prompt vanilla --repeat-penalty 1.1 -o run
      urial-local generate q.jsonl -m base.gguf --retrieve pool.jsonl --shots 3 -o run
    """
    from urial_local.cli.terminal import note
    from urial_local.records.sources import open_source

    if options.pop("raw"):
        if options["prompt"]:
            raise UsageError("--raw and --prompt are two ways to ask; choose one.")
        options["prompt"] = "raw"
    with open_source(data, options["kind"]) as source:
        tally, errors = run(source, output, options)
    note(
        f"{tally.done:,} rows, {tally.tokens:,} tokens, {tally.tokens_per_second:.1f} tokens/s;"
        f" `urial-local show {output}` reads the answers."
    )
    if errors:
        note(f"{errors:,} rows failed; each has its reason in {output / 'rows.jsonl'}.")
        raise click.exceptions.Exit(FAILED)


def run(source: Any, output: Path, options: Mapping[str, Any]) -> Any:
    """Answer the rows of a source into a run folder; returns the job's tally and its errors."""
    from urial_local.base.registry import DEMO_NOTE
    from urial_local.cli.session import tell_about_check, tell_about_context
    from urial_local.cli.terminal import note
    from urial_local.records.datasets import count
    from urial_local.tasks.generate import setup
    from urial_local.tasks.model_file import model_file

    chosen = generate_options(options)
    setup.check(chosen)
    wanted, rows = selection(options), fields(options)
    counted = count(source, rows, wanted)
    if counted.cut:
        note(
            f"{counted.cut:,} rows are conversations with a system text or later questions; only"
            " the first question of each is asked."
        )
    name = options["model"] or "demo"
    if not options["model"]:
        note(DEMO_NOTE)
    file = model_file(name, tell_about_check)
    aligned = bool(file.header.metadata.get("tokenizer.chat_template"))
    prompt = setup.chosen_prompt(chosen, name, aligned)
    setup.try_prompts(file, prompt, chosen)
    tell_about_context(file.header, chosen.runtime.ctx_size)
    with open_pool(chosen.retrieve, options["embedding_model"]) as pool:
        config = setup.config(file, prompt, chosen, pool)
        if wanted.shard:
            config["shard"] = "/".join(map(str, wanted.shard))
        total = counted.rows
        return answer((source, rows, wanted), total, output, config, chosen, (file, prompt, pool))


@contextmanager
def open_pool(name: str | None, embedding_model: str | None) -> Iterator[Any]:
    """The pool of --retrieve, or None; with its embedding model where one was named."""
    from urial_local.cli.session import tell_about_check
    from urial_local.runtime.embeddings import Embedder
    from urial_local.tasks.model_file import model_file
    from urial_local.tasks.retrieve import Pool

    if embedding_model and not name:
        raise UsageError("--embedding-model needs --retrieve, the pool that it searches.")
    with ExitStack() as stack:
        embedder = None
        if embedding_model:
            path = model_file(embedding_model, tell_about_check).path
            embedder = stack.enter_context(Embedder(path))
        yield stack.enter_context(Pool(name, embedder=embedder)) if name else None


def answer(
    data: tuple[Any, Any, Any],
    total: int,
    output: Path,
    config: dict[str, Any],
    chosen: Any,
    what: tuple[Any, Any, Any],
) -> Any:
    """Answer the rows that the run lacks. `data`: source, fields, selection; `what`: the model's
    file, the prompt and the pool."""
    from urial_local.cli.progress import bar
    from urial_local.cli.stopping import stoppable
    from urial_local.cli.terminal import note
    from urial_local.records.datasets import iterate
    from urial_local.records.generated import Generated
    from urial_local.records.runlog import RunLog
    from urial_local.runtime.sequences import Aborted
    from urial_local.tasks.generate import setup
    from urial_local.tasks.generate.job import KEY, Job, Tally, refuse_changed

    source, rows, wanted = data
    file, prompt, pool = what
    with RunLog(output, config, KEY, Generated.read) as log:

        def items() -> Iterator[Any]:
            """Rows that are not done, all their repeats; those that are done must be the same."""
            for item in iterate(source, rows, wanted):
                done = [r for r in range(chosen.job.repeat) if log.has(item.id, str(r))]
                for repeat in done:
                    refuse_changed(log, item, repeat)
                if len(done) < chosen.job.repeat:
                    yield item

        there = sum(not error for error in log.keys.values())
        if there:
            note(f"{there:,} rows are there already.")
        first = None
        pending = 0
        for item in items():  # the whole file, so that a changed question is found before a model
            first = first or (item if not item.error else None)
            pending += 1
        if not pending:
            return Tally(), log.count_errors()
        left = max(1, total * chosen.job.repeat - there)
        trials = lambda n, rate: note(f"  {n} at a time: {rate:.1f} tokens/s")  # noqa: E731
        with (
            stoppable() as stop,
            setup.open_method(file, prompt, chosen, pool, left, first, trials) as opened,
        ):
            if chosen.parallel is None and not chosen.exact:
                note(f"{opened.parallel} rows at a time.")
            with bar(total * chosen.job.repeat, "row", there) as shown:

                def tell(tally: Any) -> None:
                    ended = tally.ended / max(1, tally.done - tally.errors)
                    rate = f"{tally.tokens_per_second:.1f}"
                    shown.to(there + tally.done, **{"tok/s": rate, "ended": f"{ended:.0%}"})

                job = Job(opened.engine, opened.method, log, chosen.job, tell)
                opened.engine.resume()
                stop.watch(job.stop, opened.engine.abort)
                try:
                    job.run(items())
                except Aborted:
                    job.stopping = True
        seconds = round(time.perf_counter() - job.tally.began, 3)
        log.end_session(rows=job.tally.done, tokens=job.tally.tokens, seconds=seconds)
        if job.stopping:
            raise Interrupted(
                f"Stopped; {there + job.tally.done:,} of {total * chosen.job.repeat:,} rows are"
                " done.",
                "The same command goes on from there.",
            )
        return job.tally, log.count_errors()


def generate_options(options: Mapping[str, Any]) -> Any:
    """The command's options as the task takes them."""
    from urial_local.cli.session import SAMPLING
    from urial_local.tasks.generate.job import JobOptions
    from urial_local.tasks.generate.setup import GenerateOptions

    if "" in options["stop"]:
        raise UsageError("--stop needs a text; an empty one would end every answer at once.")
    parallel = options["parallel"]
    return GenerateOptions(
        prompt=options["prompt"],
        frame=options["frame"],
        shots=options["shots"],
        retrieve=options["retrieve"],
        restyle=options["restyle"],
        sampling={f: options[o] for o, f in SAMPLING.items() if options[o] is not None},
        max_tokens=options["max_tokens"],
        markers=options["markers"],
        stop=tuple(options["stop"]),
        parallel=None if parallel == "auto" else parallel,
        exact=options["exact"],
        job=JobOptions(
            repeat=options["repeat"],
            candidates=options["candidates"],
            pick=options["pick"] if options["candidates"] > 1 else "first",
            seed=options["seed"] or 0,
            turns=options["turns"] or 0,
        ),
        runtime=runtime_choice(options),
    )
