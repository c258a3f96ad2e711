"""Models that are stages of one training: where each stands, told from its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# step1000, step-1000, iter_2000, checkpoint 30: the last of them counts; else a name of digits
# alone, or one that ends in them after a dash.
_STEP = re.compile(r"(?:step|iter|iteration|checkpoint|ckpt)s?[-_ ]?([0-9]{1,12})(?![0-9])", re.I)
_DIGITS = re.compile(r"(?:^|[-_])([0-9]{1,12})$")


@dataclass(frozen=True, slots=True)
class Axis:
    """Where models stand: at steps of a training, or by number in the order given."""

    places: tuple[int, ...]
    steps: bool

    @property
    def label(self) -> str:
        return "training step" if self.steps else "model, in the order given"


def step_of(name: str) -> int | None:
    """The step that a model's name tells; None where it tells none."""
    found = _STEP.findall(name) or _DIGITS.findall(name)
    return int(found[-1]) if found else None


def axis_of(names: Sequence[str]) -> Axis:
    """Steps where every name tells another one, else 1, 2, …"""
    steps = [step for name in names if (step := step_of(name)) is not None]
    if len(set(steps)) == len(names):
        return Axis(tuple(steps), True)
    return Axis(tuple(range(1, len(names) + 1)), False)
