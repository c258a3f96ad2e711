"""What changes numbers besides the models: another quantisation, and the shape of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urial_local.tasks.intervals import Distribution, distribution
from urial_local.tasks.shift.classes import classes
from urial_local.tasks.shift.record import NOT_FINITE, Answer
from urial_local.tasks.shift.scoring import INFINITE, NOT_IN_BASE


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What another quantisation alone does: the base against its other file, on the same
    positions. kl: KL(base‖other)."""

    positions: int
    kl: Distribution
    js: Distribution
    top1_agreement: float | None
    class_changed: float | None  # share of positions

    def as_json(self) -> dict[str, object]:
        return {
            "positions": self.positions,
            "kl_base_other": self.kl.as_json(),
            "js": self.js.as_json(),
            "top1_agreement": self.top1_agreement,
            "class_changed": self.class_changed,
        }


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What the shape of a batch alone does: absolute differences of the base's log-probability and
    of KL(base‖aligned), in nats (see tasks.shift.noise)."""

    answers: int
    positions: int
    base_logprob: Distribution
    kl: Distribution
    class_changed: float | None  # share of positions

    def as_json(self) -> dict[str, object]:
        return {
            "answers": self.answers,
            "positions": self.positions,
            "base_logprob": self.base_logprob.as_json(),
            "kl_base_aligned": self.kl.as_json(),
            "class_changed": self.class_changed,
        }


def quantisation(answers: Sequence[Answer]) -> Quantisation:
    """What quantisation alone does: the base against its other file, on the same positions."""
    kl, js, same, moved, n = [], [], 0, 0, 0
    for answer in answers:  # over the base's whole vocabulary, whatever the aligned has
        noise = answer.noise or {}
        sound = (noise["status"] & (NOT_FINITE | INFINITE)) == 0
        kl.append(noise["kl_base_other"][sound])
        js.append(noise["js"][sound & np.isfinite(noise["js"])])
        same += int(np.sum((noise["base_top"] == noise["other_top"])[sound]))
        known = next(iter(answer.contexts.values()))["status"] & NOT_IN_BASE
        ours, theirs = (classes(known, noise[name]) for name in ("base_rank", "other_rank"))
        moved += int(np.sum((ours != theirs)[sound]))
        n += int(sound.sum())
    return Quantisation(
        positions=n,
        kl=distribution(np.concatenate(kl)),
        js=distribution(np.concatenate(js)),
        top1_agreement=same / n if n else None,
        class_changed=moved / n if n else None,
    )


def batch_shape(answers: Sequence[Answer]) -> BatchShape:
    """What the shape of a batch alone does: positions decoded one at a time against those decoded
    together, the same answers, prompts and cells, in the first context.

    base_logprob: |ln b'[t] - ln b[t]| over positions, nats, mean and largest; kl_base_aligned: the
    same of the KL; class_changed: the share of positions that change class. In exact arithmetic
    all are 0: llama.cpp multiplies matrices of other shapes by other routines, which round
    otherwise, and quantised activations amplify it.
    """
    logprob, kl, moved, n = [], [], 0, 0
    for answer in answers:
        again = answer.batch_shape or {}
        size = len(again["status"])
        first = {name: c[:size] for name, c in next(iter(answer.contexts.values())).items()}
        ours, theirs = (classes(c["status"], c["base_rank"]) for c in (first, again))
        sound = ((first["status"] | again["status"]) & (NOT_FINITE | NOT_IN_BASE)) == 0
        finite = sound & np.isfinite(first["base_logprob"]) & np.isfinite(again["base_logprob"])
        logprob.append(np.abs(first["base_logprob"] - again["base_logprob"])[finite])
        both = finite & ((first["status"] | again["status"]) & INFINITE == 0)
        kl.append(np.abs(first["kl_base_aligned"] - again["kl_base_aligned"])[both])
        moved += int(np.sum((ours != theirs)[sound]))
        n += int(sound.sum())
    return BatchShape(
        answers=len(answers),
        positions=n,
        base_logprob=distribution(np.concatenate(logprob)),
        kl=distribution(np.concatenate(kl)),
        class_changed=moved / n if n else None,
    )
