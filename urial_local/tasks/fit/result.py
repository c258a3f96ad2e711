"""What a fit has found: the winner beside the default on held-out questions, and its prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from urial_local.prompting.prompts import Prompt
from urial_local.tasks.fit.job import Outcome
from urial_local.tasks.fit.objectives import WORST
from urial_local.tasks.fit.plan import Plan
from urial_local.tasks.intervals import Interval, Scale, ends, estimate
from urial_local.tasks.sign_flip import least_p, sign_flip_p

SURE = 0.05  # a p below is called more than chance
ROUNDING = 1e-9  # a difference below is none
BETTER, MAYBE, NOT_BETTER = "better", "may be better", "not better"


@dataclass(frozen=True, slots=True)
class Result:
    """Means over n held-out questions, which had no part in the choice, of the default prompt and
    of the best; their difference, its 95 % interval (jackknife and Student's t, see
    tasks.intervals) and p (sign-flip test, see tasks.sign_flip)."""

    prompt: Prompt
    default: Prompt
    objective: str
    n: int
    default_mean: float
    mean: float
    interval: Interval | None
    p: float | None
    tuning_mean: float
    tuning_questions: int
    candidates: int
    rounds: int

    @property
    def difference(self) -> float:
        return self.mean - self.default_mean

    @property
    def verdict(self) -> str:
        """BETTER where the difference is more than chance, MAYBE where it is not."""
        if self.difference <= ROUNDING:
            return NOT_BETTER
        return BETTER if self.p is not None and self.p < SURE else MAYBE

    def as_json(self) -> dict[str, Any]:
        return {
            "prompt": self.prompt.name,
            "default": self.default.name,
            "objective": self.objective,
            "held_out": self.n,
            "default_mean": self.default_mean,
            "mean": self.mean,
            "difference": self.difference,
            **ends(self.interval),
            "p": self.p,
            "verdict": self.verdict,
            "tuning_mean": self.tuning_mean,
            "tuning_questions": self.tuning_questions,
            "candidates": self.candidates,
            "rounds": self.rounds,
        }


def result_of(plan: Plan, outcome: Outcome, name: str) -> Result:
    """The result, with the best prompt under its new name and its evidence in it."""
    found = outcome.found
    ours, theirs = np.array(outcome.best_scores), np.array(outcome.default_scores)
    differences = (ours - theirs)[:, None]
    # Scores are shares, or lie between WORST and 0.
    reach = -WORST if plan.by_likelihood else 1.0
    interval = None
    if least_p(differences[:, 0]) <= SURE:  # fewer questions that differ say nothing of chance
        interval = estimate(differences, np.ones_like(differences)).interval(Scale(-reach, reach))
    result = Result(
        prompt=outcome.best,
        default=outcome.default,
        objective="likelihood" if plan.by_likelihood else "probes",
        n=len(ours),
        default_mean=float(theirs.mean()),
        mean=float(ours.mean()),
        interval=interval,
        p=None if outcome.same else sign_flip_p(differences[:, 0]),
        tuning_mean=found.mean,
        tuning_questions=found.questions,
        candidates=found.candidates,
        rounds=found.rounds,
    )
    best = replace(
        outcome.best,
        name=name,
        description=f"Chosen by fit for {whole(plan.file.title)}",
        evidence=evidence(plan, result),
    )
    return replace(result, prompt=best)


def evidence(plan: Plan, result: Result) -> dict[str, str | float | int]:
    """What speaks for the prompt, for its own file."""
    found: dict[str, str | float | int] = {
        "model": whole(plan.file.title),
        "fingerprint": plan.file.fingerprint,
        "objective": "nats a token of given answers" if plan.by_likelihood else "probes right",
        "held_out_questions": result.n,
        "score": round(result.mean, 4),
        "default": result.default.name,
        "default_score": round(result.default_mean, 4),
        "candidates": result.candidates,
        "seed": plan.options.seed,
    }
    if result.p is not None:
        found["p"] = float(f"{result.p:.3g}")
    return found


def whole(text: str) -> str:
    """A name without halves of characters, which a file's name may hold and no text can."""
    return text.encode("utf-8", "replace").decode("utf-8")
