"""`urial-local shift`: what alignment changed, token by token."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.cli.plumbing.crew_options import crew_options, workers_of
from urial_local.cli.plumbing.data_options import (
    FAILED,
    data_options,
    fields,
    output_option,
    selection,
)
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import (
    Repeated,
    chat_template_option,
    complete_models,
    parallel_option,
    runtime_choice,
    runtime_options,
)
from urial_local.cli.plumbing.output import Output, json_option
from urial_local.cli.plumbing.shift_modes import chosen_mode, mode_options


@click.command()
@click.argument("questions", required=False)
@click.option(
    "--base",
    required=True,
    metavar="NAME|FILE",
    shell_complete=complete_models,
    help="The base model, named as in `models list` or by its file.",
)
@click.option(
    "--aligned",
    cls=Repeated,
    metavar="NAME|FILE",
    shell_complete=complete_models,
    help="Its aligned counterpart; give it again to compare several."
    "  [default: the registry's counterpart of --base]",
)
@output_option("The run's folder. Run the same command again to resume.")
@click.option(
    "--base-prompt",
    "base_prompts",
    cls=Repeated,
    metavar="NAME|FILE",
    help="A context for the base model; may be given again.  [default: zero-shot and urial]",
)
@click.option(
    "--aligned-prompt",
    metavar="NAME|FILE",
    help="How the aligned model is asked.  [default: its own chat template]",
)
@chat_template_option("The aligned model's chat template, in place of its own.")
@click.option(
    "--answers",
    metavar="FILE",
    help="Score these answers, by id or else by question, instead of letting the model answer.",
)
@click.option(
    "--noise-floor",
    metavar="FILE",
    help="Another quantisation of the base: measures what quantising alone changes.",
)
@data_options
@click.option(
    "-n",
    "--max-tokens",
    type=Whole(1, limits.TOKENS),
    default=512,
    metavar="N",
    help="Longest answer.  [default: 512]",
)
@click.option(
    "--sample", is_flag=True, help="Let the aligned model sample instead of decoding greedily."
)
@click.option(
    "--n",
    type=Whole(1, limits.REPEATS),
    default=1,
    metavar="N",
    help="Answers sampled for each question; needs --sample.  [default: 1]",
)
@click.option(
    "--temp",
    type=float,
    metavar="X",
    help="Temperature for --sample.  [default: 0.7, and 1 with --n]",
)
@click.option("--top-p", type=float, metavar="P", help="Nucleus for --sample.  [default: 1, all]")
@click.option(
    "-s",
    "--seed",
    type=Whole(-limits.SEED, limits.SEED),
    default=0,
    metavar="N",
    help="Seed for --sample, and for what --swap swaps at random.",
)
@parallel_option("Answers written at the same time.", 4)
@click.option(
    "--allow-vocab-mismatch",
    is_flag=True,
    help="Continue with the token ids that both models share.",
)
@click.option("--save-prompts", is_flag=True, help="Keep each prompt's text and ids in its row.")
@click.option("--csv", is_flag=True, help="Also write positions.csv.")
@click.option("--figures", is_flag=True, help="Also write figures as SVG files ([report] extra).")
@mode_options
@json_option("Print the summary as JSON.")
@runtime_options
@crew_options
def command(questions: str | None, output: Path, out: Output, **options: Any) -> None:
    """Compare a base model with its aligned counterpart, token by token.

    The aligned model answers QUESTIONS (JSON, JSONL, CSV, TSV, a line each, hf:user/dataset, or -
    for standard input); the base model, in one or several contexts, says of each token how likely
    it would have written it. The folder gets report.html, to be opened in a browser, summary.json
    and rows.jsonl.

    \b
    Examples:
      urial-local shift questions.txt --base demo -o run
      urial-local shift just_eval.json --base base.gguf --aligned chat.gguf -o run \\
        --base-prompt zero-shot --base-prompt urial-1 --base-prompt urial --limit 100
      urial-local shift q.json --base b.gguf --aligned a.gguf --answers answers.json -o run
      urial-local shift --texts wiki.txt --base b.gguf --aligned a.gguf -o texts
      urial-local shift q.json --base b.gguf --aligned a.gguf --handover 0,1,2,5,sentence -o hand
      urial-local shift q.json --base b.gguf --aligned a.gguf --swap "js>0.1" -o swap
    """
    from urial_local.cli.plumbing.session import tell_about_context
    from urial_local.cli.plumbing.shift_results import (
        analyse,
        finish,
        print_summary,
        require_matplotlib,
        unmeasured,
    )
    from urial_local.records.answers import given_answers
    from urial_local.records.datasets import read_items
    from urial_local.tasks.shift.setup import set_up

    if mode := chosen_mode(questions, options):
        if run_mode(mode, questions, output, out, options):
            raise click.exceptions.Exit(FAILED)
        return
    workers = workers_of(options)
    names, answers = fields(options), options["answers"]
    items = read_items(str(questions), names, selection(options), options["format"])
    given = given_answers(answers, items, names) if answers and items else None
    if options["figures"]:
        require_matplotlib()
    setup = set_up(
        shift_options(options), lambda path: out.note(f"Trying {path.name} first, once.")
    )
    for file in (setup.base, *setup.aligned):
        tell_about_context(file.header, setup.options.runtime.ctx_size)
    for remark in setup.remarks:
        out.note(remark)
    failed = analyse(setup, items, given if answers else None, output, workers)
    summary = finish(output, csv=options["csv"], figures=options["figures"])
    print_summary(output, summary, out)
    if failed or unmeasured(summary):
        raise click.exceptions.Exit(FAILED)


def run_mode(
    mode: str, questions: str | None, output: Path, out: Output, options: Mapping[str, Any]
) -> int:
    """A run of another kind; returns how many of its rows failed."""
    from urial_local.cli.plumbing import shift_interventions, shift_texts

    if mode == "texts":
        return shift_texts.run(options, output, out)
    asked = shift_options(options)
    return shift_interventions.run(mode, str(questions), output, out, asked, options)


def shift_options(options: Mapping[str, Any]) -> Any:
    """The command's options as the task takes them."""
    from urial_local.runtime.sampling import Sampling
    from urial_local.tasks.shift.setup import ShiftOptions

    if options["temp"] is not None and not options["sample"]:
        raise UsageError("--temp needs --sample; without it the model is greedy.")
    if options["temp"] == 0:
        raise UsageError("--temp 0 is greedy; leave --sample out for that.")
    if options["answers"] and options["sample"]:
        raise UsageError("With --answers, there is nothing to --sample.")
    several = options["n"] > 1
    if several and not options["sample"]:
        raise UsageError("--n needs --sample; the greedy answer is always the same.")
    if options["top_p"] is not None and not options["sample"]:
        raise UsageError("--top-p needs --sample; without it the model is greedy.")
    usual = 1.0 if several else 0.7
    temperature = (
        (usual if options["temp"] is None else options["temp"]) if options["sample"] else 0
    )
    return ShiftOptions(
        base=options["base"],
        aligned=tuple(options["aligned"]),
        base_prompts=tuple(options["base_prompts"]),
        aligned_prompt=options["aligned_prompt"],
        chat_template=options["chat_template"],
        noise_floor=options["noise_floor"],
        sampling=Sampling(
            temperature=temperature,
            top_p=1.0 if options["top_p"] is None else options["top_p"],
            seed=options["seed"] if temperature else 0,
        ),
        samples=options["n"],
        max_tokens=options["max_tokens"],
        shard=options["shard"],
        allow_vocab_mismatch=options["allow_vocab_mismatch"],
        save_prompts=options["save_prompts"],
        runtime=runtime_choice(options, parallel=options["parallel"]),
    )
