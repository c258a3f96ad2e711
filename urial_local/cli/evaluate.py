"""`urial-local evaluate`: a judge scores answers on several aspects, with a reason for each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urial_local.base import limits
from urial_local.base.errors import UsageError
from urial_local.base.formats import counted
from urial_local.base.paths import user_path
from urial_local.cli.plumbing.crew_options import crew_options, workers_of
from urial_local.cli.plumbing.data_options import (
    FAILED,
    chosen_ids,
    data_options,
    fields,
    reading_options,
    selection,
)
from urial_local.cli.plumbing.judging import judge_rows
from urial_local.cli.plumbing.numbers import Whole
from urial_local.cli.plumbing.options import complete_models, parallel_option, runtime_options
from urial_local.cli.plumbing.output import Output, json_option

if TYPE_CHECKING:
    from urial_local.tasks.evaluate.scores import NotApplicable

CHOICES = ("auto", "general", "safety", "pairwise", "mt-bench", "tags")


class WithDefault(click.Group):
    """A group whose first word may be left out: `evaluate RUN` is `evaluate run RUN`. A folder may
    be called like a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if len(args) > 1 and args[0] in self.commands and Path(args[0]).is_dir():
            if args[1].startswith("-") and args[1] not in ("-h", "--help"):
                args = ["run", *args]
        elif args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            close = get_close_matches(args[0], self.commands, n=1)
            if close and not Path(args[0]).exists():
                raise click.UsageError(f"There is no {args[0]!r}. Did you mean {close[0]}?", ctx)
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=WithDefault)
def command() -> None:
    """Score answers by a judge: a model on this machine, or an endpoint.

    \b
    Examples:
      urial-local evaluate run/ --judge mistral-7b-instruct
      urial-local evaluate run/ --judge openai:gpt-4o-mini --dry-run
      urial-local evaluate summarize run/judged-mistral-7b-instruct
      urial-local evaluate run --help
    """


@command.command("run")
@click.argument("answers")
@click.option(
    "--judge",
    required=True,
    metavar="NAME|FILE|openai:MODEL",
    shell_complete=complete_models,
    help="A GGUF model, named as in `models list` or by its file; or openai:MODEL, a model of any"
    " OpenAI-compatible endpoint ([eval] extra; OPENAI_API_KEY).",
)
@click.option("--base-url", metavar="URL", help="The endpoint.  [default: OPENAI_BASE_URL]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="The judgements' folder. Run the same command again to resume."
    "  [default: judged-JUDGE in the run]",
)
@click.option(
    "--mode",
    type=click.Choice(CHOICES),
    default="auto",
    help="auto judges safety rows for safety, others on five aspects.  [default: auto]",
)
@click.option("--against", metavar="RUN", help="pairwise: the answers to compare with.")
@click.option("--template", metavar="FILE", help="Your own wording (.jinja) for the mode.")
@click.option(
    "--expected",
    is_flag=True,
    help="Local judge: also keep the expected score over the digit's whole distribution.",
)
@click.option("--judge-prompt", metavar="NAME|FILE", help="How a local judge is asked."
              "  [default: its chat template]")  # fmt: skip
@click.option(
    "--reason-tokens",
    type=Whole(8, 1000),
    default=60,
    metavar="N",
    help="Local judge: the longest reason.  [default: 60]",
)
@parallel_option("Rows, or requests, at a time.", 8)
@click.option(
    "--exact",
    is_flag=True,
    help="Local judge: one row at a time, so that no score depends on its neighbours.",
)
@click.option(
    "--max-tokens",
    type=Whole(16, limits.TOKENS),
    default=1024,
    metavar="N",
    help="Endpoint: the longest reply.  [default: 1024]",
)
@click.option("--dry-run", is_flag=True, help="Say what would be judged, in tokens, and stop.")
@json_option("Print the summary as JSON.")
@data_options
@runtime_options
@crew_options
def run(answers: str, output: Path | None, out: Output, **options: Any) -> None:
    """Judge ANSWERS: a run of `generate`, or a file with answers.

    Files of JUST-EVAL, AlpacaEval and others are read as they are. Judgements are written to
    FOLDER/rows.jsonl as they are made; Ctrl-C finishes those in flight.

    \b
    Examples:
      urial-local evaluate run/ --judge mistral-7b-instruct --expected
      urial-local evaluate model.to_eval.json --judge openai:gpt-4o-mini -o judged
      urial-local evaluate urial/ --mode pairwise --against zero-shot/ --judge llama-3.1-8b-instruct
      urial-local evaluate mt/ --mode mt-bench --judge openai:some-model --base-url http://localhost:8000/v1
    """
    from urial_local.cli.plumbing.evaluate_results import finish, print_results
    from urial_local.tasks.evaluate.job import plan
    from urial_local.tasks.evaluate.setup import rows_of

    check(options)
    workers = workers_of(options)
    wording = plan(options["mode"], options["template"])
    rows = rows_of(
        answers,
        wording,
        against=options["against"],
        selection=selection(options),
        fields=fields(options),
        kind=options["format"],
    )
    tell_before(rows, options, out)
    if options["dry_run"]:
        return
    folder = output or default_folder(answers, options["judge"], options["mode"])
    tally = judge_rows(rows, folder, wording, options, workers)
    print_results(folder, finish(folder), out)
    if not out.as_json and tally.done:
        out.note(f"{counted(tally.read, 'token')} read and {tally.tokens:,} written.")
    if tally.errors:
        out.note(
            f"{counted(tally.errors, 'row')} could not be judged; each has its reason in"
            f" rows.jsonl. The first: {tally.first_error}"
        )
        raise click.exceptions.Exit(FAILED)


@command.command("summarize")
@click.argument("names", nargs=-1, required=True)
@reading_options
@click.option("--tags-from", metavar="FILE", help="Take the rows' tags from this file, by id.")
@click.option(
    "--compat",
    type=click.Choice(["just-eval"]),
    help="As the reference: its report's fields, and in tables the last of a row's tags only.",
)
@json_option("All as JSON.")
def summarize(
    names: tuple[str, ...],
    na: NotApplicable,
    expected: bool,
    ids: str | None,
    tags_from: str | None,
    compat: str | None,
    out: Output,
) -> None:
    """Means with intervals of judged runs and files, taken together.

    NAMES are runs of `evaluate`, JUST-EVAL's judged files, or files of answers that were not judged
    (for their lengths).

    \b
    Examples:
      urial-local evaluate summarize run/judged-mistral-7b-instruct
      urial-local evaluate summarize model.score_multi.gpt-4.json model.score_safety.chatgpt.json
      urial-local evaluate summarize model.score_safety.chatgpt.json --compat just-eval
    """
    from urial_local.cli.plumbing.evaluate_lines import lines_of
    from urial_local.tasks.evaluate.results import summary_of
    from urial_local.tasks.evaluate.summary import Reading

    wanted = chosen_ids(ids)
    if compat and (na != "five" or expected):
        raise UsageError("--compat just-eval counts N/A as 5, and takes the scores as they are.")
    # One file alone: the reference's own report. Several, or JSON: our summary by its rules.
    if compat and not out.as_json and len(names) == 1 and not tags_from:
        from urial_local.records.judged import read_judgements
        from urial_local.tasks.evaluate.summary import just_eval_report

        judgements = [j for j in read_judgements(names[0]) if wanted is None or j.id in wanted]
        out.json(just_eval_report(judgements, names[0]), indent=2)
        return
    reading = Reading(na, expected, last_tag=bool(compat))
    found = summary_of(names, reading, tags_from=tags_from, ids=wanted)
    out.lines(lines_of(found), found.as_json())


def check(options: Mapping[str, Any]) -> None:
    """Raises UsageError for options that do not go together."""
    endpoint = options["judge"].startswith("openai:")
    if (options["mode"] == "pairwise") != bool(options["against"]):
        raise UsageError("--mode pairwise and --against go together.")
    if options["base_url"] and not endpoint:
        raise UsageError("--base-url is for an endpoint; name its model with --judge openai:MODEL.")
    for name in ("expected", "judge_prompt", "exact", "devices", "ray"):
        if endpoint and options[name]:
            raise UsageError(f"--{name.replace('_', '-')} needs a judge on this machine.")
    if options["expected"] and options["mode"] not in ("auto", "general", "safety"):
        raise UsageError("--expected is for scores from 1 to 5.")


def tell_before(rows: list[Any], options: Mapping[str, Any], out: Output) -> None:
    """How much there is to judge; in tokens where an endpoint counts them, or on --dry-run."""
    from urial_local.tasks.evaluate.usage import estimate_tokens

    modes = [row["mode"] for row, _ in rows]
    parts = [f"{modes.count(m):,} {m}" for m in dict.fromkeys(modes)]
    text = f"{len(rows):,} to judge ({', '.join(parts)})"
    if options["dry_run"] or options["judge"].startswith("openai:"):
        total = sum(estimate_tokens(question.text) for _, question in rows if question)
        text += f", about {counted(total, 'token')} to read"
    if options["dry_run"]:
        Output().line(f"{text}.")  # a sentence also where the summary would be JSON
    else:
        out.note(f"{text}.")


def default_folder(answers: str, judge: str, mode: str) -> Path:
    """Beside the answers, named after the judge, and after the mode where one was named."""
    from urial_local.records.runs import is_run

    folder = user_path(answers)
    if not is_run(folder):
        raise UsageError(f"{answers} is a file, so the judgements need a folder.", "Add -o FOLDER.")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(judge.removeprefix("openai:")).name)
    name = f"judged-{name.removesuffix('.gguf')}"
    chosen = folder / (name if mode == "auto" else f"{name}-{mode}")
    if chosen.is_symlink():  # not chosen by the user, perhaps, but by who made the run
        raise UsageError(f"{chosen} is a symbolic link.", "Name its target with -o.")
    return chosen
