"""`urial-local benchmark`: what a prompt is worth on a model, measured without a judge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urial_local.base.errors import UsageError
from urial_local.base.formats import counted
from urial_local.base.paths import user_path
from urial_local.cli.plumbing.data_options import FAILED, ShardType, output_option
from urial_local.cli.plumbing.generating import ParallelType
from urial_local.cli.plumbing.guide_options import guide_choice, guide_options
from urial_local.cli.plumbing.options import (
    Repeated,
    chat_template_option,
    complete_models,
    complete_prompts,
    runtime_choice,
    runtime_options,
    sampling_options,
)
from urial_local.cli.plumbing.output import Output, json_option

if TYPE_CHECKING:
    from urial_local.tasks.benchmark.setup import Benchmark, BenchmarkOptions


class KindsType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """Names with commas between them."""

    name = "A,B,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(filter(None, map(str.strip, str(value).split(",")))))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        from click.shell_completion import CompletionItem

        from urial_local.tasks.benchmark.probes import probe_kinds

        before, comma, begun = incomplete.rpartition(",")
        known = (kind for kind in probe_kinds() if kind.startswith(begun))
        return [CompletionItem(f"{before}{comma}{kind}") for kind in known]


@click.command()
@click.option(
    "-m",
    "--model",
    "models",
    cls=Repeated,
    required=True,
    metavar="NAME|FILE",
    shell_complete=complete_models,
    help="A base model; again for more, such as the checkpoints of a training.",
)
@click.option(
    "-p",
    "--prompt",
    "prompts",
    cls=Repeated,
    metavar="NAME|FILE",
    shell_complete=complete_prompts,
    help="A prompt to try; again for more.  [default: zero-shot, the model's own default,"
    " urial-mini and urial-help]",
)
@click.option(
    "--aligned",
    metavar="NAME|FILE",
    shell_complete=complete_models,
    help="Its aligned counterpart, asked in its own chat template: how much of the gap is closed?",
)
@chat_template_option("The aligned model's chat template, in place of its own.")
@click.option("--probes", metavar="FILE", help="Your own probes, instead of the shipped ones.")
@click.option("--kinds", type=KindsType(), default=(), help="Only probes of these kinds.")
@click.option("--shard", type=ShardType(), help="Only the i-th of n parts; see merge.")
@output_option("Gets a run folder for each cell. Run the same command again to resume.")
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
@json_option("Print all figures as JSON.")
@guide_options
@sampling_options
@runtime_options
def command(output: Path, out: Output, **options: Any) -> None:
    """Say what prompts are worth on a model, without a judge.

    Every model answers the same probes under every prompt, each a run of its own in FOLDER, to be
    read with show, report and export. Rules say which answers are right; the table says how often,
    and which differences are more than chance. FOLDER/report.html shows the answers side by side.
    With a guide every prompt is asked twice: without it, and with it.

    \b
    Examples:
      urial-local benchmark -m base.gguf -o run
      urial-local benchmark -m base.gguf -p zero-shot -p my-prompt.toml --aligned chat.gguf -o run
      urial-local benchmark -m step1000.gguf -m step2000.gguf -p urial -o run
      urial-local benchmark -m base.gguf --kinds facts,code --shard 1/2 -o part1
      urial-local benchmark -m base.gguf -p urial --guide small.gguf -o run
    """
    from urial_local.cli.plumbing.benchmark_results import finish, print_results
    from urial_local.cli.plumbing.session import tell_about_check, tell_about_context
    from urial_local.tasks.benchmark.setup import plan

    asked = plan(chosen(options), tell_about_check)
    for file in {c.plan.file.fingerprint: c.plan.file for c in asked.cells}.values():
        tell_about_context(file.header, options["ctx_size"])
    for remark in asked.remarks:
        out.note(remark)
    failed = run_cells(asked, output, out)
    print_results(output, finish(output), out)
    if failed:
        out.note(f"{counted(failed, 'answer')} failed; run the same command again to retry them.")
        raise click.exceptions.Exit(FAILED)


def run_cells(asked: Benchmark, output: Path, out: Output) -> int:
    """Make the answers that the folder lacks; returns how many rows are errors."""
    from urial_local.cli.plumbing import generating
    from urial_local.records.runlog import RunLog
    from urial_local.tasks.benchmark import kept
    from urial_local.tasks.generate.setup import Weights

    questions, failed, nth = asked.asked, 0, 0
    own = questions.own()
    if not own:
        raise UsageError(
            f"None of the {counted(len(asked.probes), 'probe')} falls into this shard.",
            "Use fewer shards, or more kinds.",
        )
    # The folder's own rows are its probes, so that it can be read without their file.
    with RunLog(output, asked.config(), kept.KEY, kept.placed) as log:
        for number, probe in enumerate(asked.probes):
            if probe in own and not log.has(probe.id):
                log.append(kept.row_of(probe, number))
        for cells in asked.by_model().values():
            with Weights(len(own)) as weights:
                for cell in cells:
                    nth += 1
                    out.note(f"{nth} of {len(asked.cells)}: {cell.name}")
                    folder = output / cell.name
                    _, errors = generating.run(cell.plan, questions, folder, weights)
                    failed += errors
    return failed


def chosen(options: Mapping[str, Any]) -> BenchmarkOptions:
    """The command's options as the task takes them."""
    from urial_local.cli.plumbing.session import SAMPLING
    from urial_local.tasks.benchmark.setup import BenchmarkOptions
    from urial_local.tasks.generate.job import JobOptions
    from urial_local.tasks.generate.setup import GenerateOptions

    parallel = options["parallel"]
    return BenchmarkOptions(
        models=tuple(options["models"]),
        prompts=tuple(options["prompts"]),
        aligned=options["aligned"],
        probes=user_path(options["probes"], "--probes") if options["probes"] else None,
        kinds=options["kinds"],
        shard=options["shard"],
        guide=guide_choice(options),
        generate=GenerateOptions(
            chat_template=options["chat_template"],
            sampling={f: options[o] for o, f in SAMPLING.items() if options[o] is not None},
            max_tokens=options["max_tokens"],
            parallel=None if parallel == "auto" else parallel,
            exact=options["exact"],
            job=JobOptions(seed=options["seed"] or 0),
            runtime=runtime_choice(options),
        ),
    )
