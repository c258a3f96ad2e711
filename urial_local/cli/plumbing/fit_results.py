"""The course of a fit as a command goes about it, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from urial_local.base.errors import Interrupted, UsageError
from urial_local.base.formats import counted, number, percent
from urial_local.cli.plumbing.output import Output

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
    from urial_local.cli.plumbing.running import RESUME
    from urial_local.cli.plumbing.stopping import stoppable
    from urial_local.cli.plumbing.terminal import note
    from urial_local.records.runlog import RunLog
    from urial_local.records.runs import read_rows
    from urial_local.runtime.sequences import Aborted
    from urial_local.tasks.fit.job import KEY, Fit

    tuning, held_out = plan.halves()
    with RunLog(folder, plan.config(), KEY) as log:
        known = {
            (str(row["prompt"]), str(row["id"])): float(row["score"])
            for row in read_rows(log.rows_path)
        }
        if known:
            note(f"{counted(len(known), 'score is', 'scores are')} there already.")
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
        log.end_session(rows=done)
    if fit.outcome is None:
        raise Interrupted(f"Stopped; {counted(len(known) + done, 'score')} are kept.", RESUME)
    return fit.outcome


def finish(plan: Plan, outcome: Outcome, folder: Path, out: Output, *, default: bool) -> None:
    """Write the prompt and the summary, make it the model's default where it is better, and say
    what was found."""
    from urial_local.base.files import replacing
    from urial_local.base.paths import user_prompts_dir
    from urial_local.prompting.library import prompt_toml
    from urial_local.records.runlog import write_json
    from urial_local.tasks.fit.result import NOT_BETTER, result_of
    from urial_local.tasks.fitted import keep_default

    name = f"fit-{plan.file.name}"
    result = result_of(plan, outcome, name)
    write_json(folder / "summary.json", result.as_json())
    with replacing(folder / "prompt.toml") as file:
        file.write(prompt_toml(result.prompt))
    kept = default and not outcome.same and result.verdict != NOT_BETTER
    if kept:
        home = user_prompts_dir()
        try:
            home.mkdir(parents=True, exist_ok=True)
            with replacing(home / f"{name}.toml") as file:
                file.write(prompt_toml(result.prompt))
        except OSError as error:
            raise UsageError(f"{home} cannot be written: {error.strerror or error}.") from None
        keep_default(plan.file.fingerprint, name)
    out.lines(lines_of(result, outcome.same), {**result.as_json(), "made_default": kept})
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
        return [*lines, "  No other prompt was better: the default stays."]
    lines.append(f"  {result.prompt.name:24} {figure(result.mean):>9}  {what}")
    ends = ""
    if result.interval:
        ends = f" (95 %: {figure(result.interval.low)} to {figure(result.interval.high)})"
    sure = "" if result.p is None else f", p = {result.p:.3f}"
    lines.append(f"  difference {figure(result.difference)}{ends}{sure}: {result.verdict}")
    examples = counted(len(result.prompt.examples), "example")
    penalty = result.prompt.sampling.get("repeat_penalty", 1.0)
    lines.append(f"  frame {result.prompt.frame.name}, {examples}, repetition penalty {penalty}")
    return lines


def tell(plan: Plan, result: Result, folder: Path, out: Output, *, kept: bool, same: bool) -> None:
    """What happens next, and what to type."""
    if kept:
        out.tell(
            f"{plan.file.title} is asked under {result.prompt.name} from now on;"
            f" `urial-local prompts default {plan.file.name} --clear` takes it back."
        )
    elif not same:
        out.tell(f"The prompt is {folder / 'prompt.toml'}; ask under it with -p.")


def aligned_answers(
    name: str, probes: Sequence[Probe], folder: Path, parallel: int
) -> dict[str, tuple[str, str]]:
    """What an aligned model says to the probes' first questions, by id: a run of its own in the
    fit's folder. Answers that were cut off, or are empty, are left out."""
    from urial_local.cli.plumbing import generating
    from urial_local.records.generated import Generated
    from urial_local.records.runs import latest_rows
    from urial_local.tasks.benchmark.setup import Asked
    from urial_local.tasks.generate.job import KEY
    from urial_local.tasks.generate.setup import GenerateOptions

    first = tuple(
        replace(probe, turns=probe.turns[:1], max_tokens=ANSWER_TOKENS)
        for probe in probes
        if probe.kind != "long"
    )
    asked = GenerateOptions(max_tokens=ANSWER_TOKENS, parallel=parallel)
    with generating.planned(name, asked) as plan:
        generating.run(plan, Asked(first), folder / "answers")
    rows = latest_rows(folder / "answers", KEY, Generated.read)
    return {
        row.id: (row.query, row.answer)
        for row in rows
        if not row.error and row.answer.strip() and "truncated" not in row.flags
    }
