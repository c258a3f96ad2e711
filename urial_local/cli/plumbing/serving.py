"""What `serve` opens, from its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from urial_local.base.errors import UsageError
from urial_local.base.registry import DEMO_NOTE
from urial_local.cli.plumbing.guide_options import guide_choice
from urial_local.cli.plumbing.session import tell_about_check, tell_about_context
from urial_local.cli.plumbing.terminal import note
from urial_local.prompting.library import load_prompt
from urial_local.runtime.open import RuntimeOptions
from urial_local.server.lanes import LanePlan, runtime_of, usable_prompts
from urial_local.tasks.guide import plan_guide
from urial_local.tasks.model_file import model_file
from urial_local.tasks.prompt_choice import choose_prompt


def lane_plans(options: Mapping[str, Any], runtime: RuntimeOptions) -> list[LanePlan]:
    """The model, and its aligned counterpart where one is named. Checked, but not loaded."""
    base, aligned = options["model"] or "demo", options["aligned"]
    if not options["model"]:
        note(DEMO_NOTE)
        aligned = aligned or "demo-aligned"
    wanted = load_prompt(options["prompt"], options["frame"]) if options["prompt"] else None
    template = options["chat_template"]
    first = _plan(base, wanted, options, runtime, None if aligned else template)
    plans = [_guided(first, options)]
    if aligned:
        other = _plan(aligned, None, options, runtime, template)
        if other.name == plans[0].name:
            raise UsageError(
                f"Both models are called {other.name}.", "Rename the aligned model's file."
            )
        plans.append(other)
    return plans


def _guided(plan: LanePlan, options: Mapping[str, Any]) -> LanePlan:
    """With the guide that was chosen, if one was."""
    guide = plan_guide(guide_choice(options), plan.choice, tell_about_check)
    if guide and guide.remark:
        note(guide.remark)
    return replace(plan, guide=guide)


def _plan(
    name: str,
    prompt: Any,
    options: Mapping[str, Any],
    runtime: RuntimeOptions,
    template: str | None,
) -> LanePlan:
    file = model_file(name, tell_about_check, template)
    frame = options["frame"] if prompt is not None else None
    choice = choose_prompt(file, prompt, frame)
    tell_about_context(file.header, runtime.ctx_size)
    return LanePlan(
        file.name,
        file,
        choice,
        runtime_of(runtime, options["parallel"], options["exact"]),
        options["exact"],
        options["markers"],
        usable_prompts(file),
    )
