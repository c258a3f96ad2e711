"""What is added to the logits of single tokens, by OpenAI's definition:

    x[v] + bias[v] - frequency · c[v] - presence · [c[v] > 0]        float32, v = 0 … V-1

with c[v] how often the answer holds token v so far; the prompt does not count (OpenAI's API
reference, "create chat completion"). It comes before all that `draw_rows` does, and
log-probabilities are told without it, as without any other change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError

Logits = npt.NDArray[np.float32]
MOST_BIAS, MOST_PENALTY = 100.0, 2.0  # OpenAI's bounds


@dataclass(frozen=True, slots=True)
class Tilt:
    """`bias`: pairs of an id and what is added to its logit, each id once."""

    bias: tuple[tuple[int, float], ...] = ()
    presence: float = 0.0
    frequency: float = 0.0

    def __post_init__(self) -> None:
        """Raises UsageError for numbers out of bounds."""
        for name, value in (("presence", self.presence), ("frequency", self.frequency)):
            if not abs(value) <= MOST_PENALTY:
                raise UsageError(f"`{name}` {value} must be from -{MOST_PENALTY} to {MOST_PENALTY}")
        for token, value in self.bias:
            if token < 0 or not math.isfinite(value) or abs(value) > MOST_BIAS:
                raise UsageError(f"The bias {value} of token {token} is out of bounds.")

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return bool(self.bias or self.presence or self.frequency)

    def over(self, logits: Logits, answer: Sequence[int]) -> Logits:
        """The changed row, a copy. `answer`: its tokens so far."""
        view = logits.copy()
        if self.bias:
            ids, values = zip(*self.bias, strict=True)
            view[list(ids)] += np.array(values, np.float32)
        if len(answer) and (self.presence or self.frequency):
            seen, counts = np.unique(np.asarray(answer, np.int32), return_counts=True)
            view[seen] -= (self.frequency * counts + self.presence).astype(np.float32)
        return view
