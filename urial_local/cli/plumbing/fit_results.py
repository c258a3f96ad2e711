"""The course of a fit as a command goes about it, and what it leaves behind."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from urial_local.base.errors import Interrupted, RunError, Unfinished, UsageError
from urial_local.base.formats import counted, number, percent
from urial_local.cli.plumbing.output import Output
from urial_local.cli.plumbing.running import RESUME

if TYPE_CHECKING:
    from urial_local.tasks.benchmark.probes import Probe
    from urial_local.tasks.fit.job import Outcome
    from urial_local.tasks.fit.plan import Plan
    from urial_local.tasks.fit.result import Result

ANSWER_TOKENS = 200  # of an aligned model's answer that is to be made likely


def search(plan: Plan, folder: Path, seconds: float) -> Outcome:
    """Go through the search, its scores kept as they come. Raises Interrupted where it was
    stopped."""
    from urial_local.cli.plumbing.progress import bar
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.cli.plumbing.terminal import note
    from urial_local.records.runlog import RunLog
    from urial_local.records.runs import latest_rows
    from urial_local.runtime.sequences import Aborted
    from urial_local.tasks.fit.job import KEY, Fit, Kept

    tuning, held_out = plan.halves()
    with RunLog(folder, plan.config(), KEY, Kept.read) as log:
        known = {(row.prompt, row.id): row.score for row in latest_rows(folder, KEY, Kept.read)}
        if known:
            note(f"{counted(len(known), 'score is', 'scores are')} already there.")
        with stoppable() as stop, plan.open() as objective, bar(None, "score", len(known)) as shown:
            fit = Fit(
                objective,
                plan.space,
                plan.library,
                tuning,
                held_out,
                known,
                seed=plan.options.seed,
                seconds=seconds,
                tell=shown.say,
            )
            stop.watch(fit.stop, fit.abort)
            done = 0
            try:
                for row in fit.rows():
                    log.append(row)
                    done += 1
                    shown.to(len(known) + done)
            except (Aborted, KeyboardInterrupt):
                stop.asked = True
        log.end_session(finished=fit.outcome is not None, rows=done)
    if fit.outcome is None:
        kind = Unfinished if stop.terminated else Interrupted
        raise kind(f"Stopped; {counted(len(known) + done, 'score')} are kept.", RESUME)
    return fit.outcome


def finish(plan: Plan, outcome: Outcome, folder: Path, out: Output, *, default: bool) -> None:
    """Write the prompt and the summary, make it the model's default where it is better, and say
    what was found."""
    from urial_local.base.files import replacing
    from urial_local.prompting.library import prompt_toml
    from urial_local.records.runlog import write_json
    from urial_local.tasks.fit.result import BETTER, result_of
    from urial_local.tasks.fitted import keep_default, keep_prompt, prompt_name

    name = prompt_name(plan.file.name, plan.file.fingerprint)
    result = result_of(plan, outcome, name)
    # What may be chance changes nothing that a model says from now on.
    better = not outcome.same and result.verdict == BETTER
    try:
        write_json(folder / "summary.json", result.as_json())
        with replacing(folder / "prompt.toml") as file:
            file.write(prompt_toml(result.prompt))
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror or error}.", RESUME) from None
    failure = None
    if default and better:
        try:
            keep_prompt(result.prompt)
            keep_default(plan.file.fingerprint, name)
        except UsageError as error:
            failure = error  # said after the result, which is worth the wait
    kept = default and better and failure is None
    out.lines(lines_of(result, outcome.same), {**result.as_json(), "made_default": kept})
    if failure:
        raise UsageError(failure.message, f"The prompt is {folder / 'prompt.toml'}.")
    tell(plan, result, folder, out, kept=kept, same=outcome.same)


def lines_of(result: Result, same: bool) -> list[str]:
    """The result for people."""
    figure = percent if result.objective == "probes" else (lambda value: number(value, 3))
    what = "right" if result.objective == "probes" else "nats a token"
    lines = [
        f"{counted(result.candidates, 'prompt')} tried on"
        f" {counted(result.tuning_questions, 'question')}, the best compared on {result.n} others:",
        f"  {result.default.name:24} {figure(result.default_mean):>9}  {what} (the default)",
    ]
    if same:
        return [*lines, "  No other prompt was better on the questions to choose by."]
    lines.append(f"  {result.prompt.name:24} {figure(result.mean):>9}  {what}")
    ends = ""
    if result.interval:
        ends = f" (95 %: {figure(result.interval.low)} to {figure(result.interval.high)})"
    sure = "" if result.p is None else f", p {p_text(result.p)}"
    lines.append(f"  difference {figure(result.difference)}{ends}{sure}: {result.verdict}")
    examples = counted(len(result.prompt.examples), "example")
    penalty = result.prompt.sampling.get("repeat_penalty", 1.0)
    lines.append(f"  frame {result.prompt.frame.name}, {examples}, repetition penalty {penalty}")
    return lines


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def tell(plan: Plan, result: Result, folder: Path, out: Output, *, kept: bool, same: bool) -> None:
    """What happens next, and what to type."""
    from urial_local.tasks.fit.result import BETTER

    path = shlex.quote(str(folder / "prompt.toml"))
    if kept:
        out.tell(
            f"{plan.file.title} is asked under {result.prompt.name} from now on;"
            f" `urial-local prompts default {plan.file.argument} --clear` takes it back."
        )
    elif not same and result.verdict != BETTER:
        more = "; run the same command again to continue the search" if result.n < 48 else ""
        out.tell(f"The default stays. What was found is {path}; `-p` asks under it{more}.")
    elif not same:
        out.tell(f"The prompt is {path}; `-p` asks under it.")


def refuse_other_runs(folder: Path) -> None:
    """Raises UsageError where a folder holds a run of another task, before anything is made."""
    from urial_local.records.runs import is_run, read_run

    if is_run(folder) and (task := read_run(folder).task) != "fit":
        raise UsageError(f"{folder} holds a run of {task}.", "Choose another folder with -o.")


def aligned_answers(
    name: str, probes: Sequence[Probe], folder: Path, parallel: int
) -> dict[str, tuple[str, str]]:
    """What an aligned model says to the probes' first questions, by id: a run of its own in the
    fit's folder. Answers that were cut off, or are empty, are left out."""
    from urial_local.cli.plumbing import generating
    from urial_local.cli.plumbing.session import tell_about_check
    from urial_local.records.generated import Generated
    from urial_local.records.runs import latest_rows
    from urial_local.tasks.benchmark.setup import Asked
    from urial_local.tasks.fit.material import MOST_ANSWERS
    from urial_local.tasks.generate.job import KEY
    from urial_local.tasks.generate.setup import GenerateOptions
    from urial_local.tasks.model_file import model_file

    file = model_file(name, tell_about_check)
    if not file.aligned_prompt:
        raise UsageError(
            f"{file.title} carries no chat template, so how to ask it is unknown.",
            "Give its answers with --answers.",
        )
    short = [probe for probe in probes if probe.kind != "long"][:MOST_ANSWERS]
    first = {p.id: replace(p, turns=p.turns[:1], max_tokens=ANSWER_TOKENS) for p in short}
    asked = GenerateOptions(prompt=file.aligned_prompt, max_tokens=ANSWER_TOKENS, parallel=parallel)
    with generating.planned(name, asked) as plan:
        generating.run(plan, Asked(tuple(first.values())), folder / "answers")
    rows = latest_rows(folder / "answers", KEY, Generated.read)
    return {
        row.id: (row.query, row.answer.strip())
        for row in rows
        if row.id in first  # an earlier start may have had other probes
        and not row.error
        and row.answer.strip()
        and "truncated" not in row.flags
    }
