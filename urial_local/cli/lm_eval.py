"""`urial-local lm-eval`: tasks of lm-evaluation-harness on a GGUF file, under any prompt."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click

from urial_local.base.errors import UsageError
from urial_local.cli.plumbing.options import (
    complete_prompts,
    model_options,
    parallel_option,
    runtime_choice,
)


@click.command(context_settings={"ignore_unknown_options": True})
@model_options
@click.option(
    "-p",
    "--prompt",
    metavar="NAME|FILE",
    shell_complete=complete_prompts,
    help="Ask under this prompt.  [default: texts as the harness lays them out]",
)
@parallel_option("Answers written at a time.", 8)
@click.option("--exact", is_flag=True, help="One answer at a time, and scores that never vary.")
@click.argument("harness", nargs=-1, type=click.UNPROCESSED, required=True)
def command(harness: tuple[str, ...], **options: Any) -> None:
    """Run tasks of lm-evaluation-harness on a model, under any prompt.

    HARNESS are the options of `lm_eval run`: tasks, shots, limits, where results go. It needs
    pip install 'urial-local[harness]'.

    \b
    Examples:
      urial-local lm-eval -m base.gguf --tasks arc_easy --limit 100
      urial-local lm-eval -m base.gguf -p urial --tasks gsm8k,ifeval --output_path results
      urial-local lm-eval -m base.gguf --tasks my_task --include_path tasks/
    """
    try:
        from lm_eval._cli import HarnessCLI
        from lm_eval.utils import setup_logging
    except ModuleNotFoundError as error:
        raise UsageError(
            f"lm-evaluation-harness is not installed ({error.name}).",
            "pip install 'urial-local[harness]' brings it.",
        ) from None
    import urial_local.harness  # noqa: F401  # registers the model class
    from urial_local.cli.plumbing.session import tell_about_check
    from urial_local.tasks.model_file import model_file

    model_file(options["model"] or "demo", tell_about_check)
    runtime = runtime_choice(options, parallel=options["parallel"])
    chosen = {"model": options["model"] or "demo", "prompt": options["prompt"], **asdict(runtime)}
    chosen = {**chosen, "exact": options["exact"] or None}
    arguments = ",".join(f"{k}={v}" for k, v in chosen.items() if v not in (None, ""))
    for name in ("model", "prompt"):
        if {",", "="} & set(str(chosen[name] or "")):
            raise UsageError(f"The harness cannot take a {name} with a comma or an = in its name.")
    chat = ["--apply_chat_template"] if options["prompt"] else []
    setup_logging()
    before = sys.argv
    sys.argv = ["lm_eval", "run", "--model", "urial", "--model_args", arguments, *chat, *harness]
    try:
        cli = HarnessCLI()
        cli.execute(cli.parse_args())
    finally:
        sys.argv = before
