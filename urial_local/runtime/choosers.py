"""Who says what a row goes on with: from the logits of the rows that are ready to tokens.

`Sample` draws one token for each row. Others may choose several, or ask other models (see `voice`):
the engine takes what they return, and stops a row in the middle of it where its answer ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from urial_local.runtime.choices import Choice, Top
from urial_local.runtime.draw_rows import draw_rows
from urial_local.runtime.rows import Row
from urial_local.runtime.sequences import Logits
from urial_local.runtime.shift_rows import shift_rows

NOT_FINITE = "The model's logits are not finite (NaN or infinite)."


class Chooser(Protocol):
    """Chooses for all rows of a step at once."""

    threads: int  # that drawing may use; set anew before each step

    def choose(self, rows: Sequence[Row], logits: Logits) -> Sequence[Choice]:
        """A choice for each row, from its logits, float32 [n_rows, n_vocab]: at least one token, or
        an error. `row.tokens` is all that the row has so far."""
        ...

    def forget(self, row: Row) -> None:
        """The row has ended, or was cancelled."""
        ...


class Sample:
    """One token a row, drawn as the row's request says."""

    def __init__(self, threads: int = 1) -> None:
        """`threads` that drawing may use; they may be set anew before each step."""
        self.threads = threads

    def choose(self, rows: Sequence[Row], logits: Logits | Sequence[Logits]) -> list[Choice]:
        drawn = draw_rows([row.draw(logits[i]) for i, row in enumerate(rows)], self.threads)
        choices = []
        for i, row in enumerate(rows):
            if drawn.status[i]:
                choices.append(Choice((), (), error=NOT_FINITE))
                continue
            token, logprob = int(drawn.tokens[i]), float(drawn.logprobs[i])
            top: tuple[Top, ...] = ()
            if (most := row.request.top_logprobs) or row.request.measured:
                ids, logprobs = drawn.top_ids[i, :most], drawn.top_logprobs[i, :most]
                there = ids >= 0
                told = tuple(ids[there].tolist()), tuple(logprobs[there].tolist())
                top = (Top(token, logprob, *told, *self._measured(row, logits[i], token)),)
            choices.append(Choice((token,), (logprob,), top))
        return choices

    def _measured(
        self, row: Row, logits: npt.NDArray[np.float32], token: int
    ) -> tuple[int, float | None]:
        """Rank of the token and entropy of the distribution, where the row wants them."""
        if not row.request.measured:
            return 0, None
        one, target = logits[None], np.array([token], np.int32)
        found = shift_rows(one, one, target, k=1, threads=1)
        return int(found.base_rank[0]), float(found.base_entropy[0])

    def forget(self, row: Row) -> None:
        """Nothing is kept of a row."""
