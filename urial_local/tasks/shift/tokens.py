"""Which tokens are shifted, and which ones a context repairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from urial_local.tasks.intervals import intervals
from urial_local.tasks.shift.curves import rounded
from urial_local.tasks.shift.measures import (
    MIN_COUNT,
    MendedToken,
    Repairs,
    ShiftedToken,
    ShiftedTokens,
)
from urial_local.tasks.shift.positions import SHIFTED, Mask, Positions
from urial_local.tasks.shift.style import is_stylistic

LISTED = 60  # tokens in a list
Text = Callable[[int], str]  # what a token id stands for


def shifted_tokens(p: Positions, text: Text) -> ShiftedTokens:
    """Tokens by how often they are shifted, and by the share of their occurrences that are."""
    ranked = p.ranked
    ids, inverse = np.unique(p.id[ranked], return_inverse=True)
    count = np.bincount(inverse, minlength=len(ids))
    shifted = np.bincount(inverse, p.shifted[ranked], minlength=len(ids)).astype(int)

    def listed(order: npt.NDArray[np.intp]) -> list[ShiftedToken]:
        return [
            ShiftedToken(
                id=int(ids[i]),
                text=text(int(ids[i])),
                count=int(count[i]),
                shifted=int(shifted[i]),
                stylistic=is_stylistic(text(int(ids[i]))),
            )
            for i in order[:LISTED]
            if shifted[i]
        ]

    ratio = shifted / np.maximum(count, 1)
    often = np.flatnonzero(count >= MIN_COUNT)
    return ShiftedTokens(
        by_count=listed(np.lexsort((ids, -ratio, -shifted))),
        by_ratio=listed(often[np.lexsort((ids[often], -shifted[often], -ratio[often]))]),
    )


def repairs(before: Positions, after: Positions, text: Text) -> Repairs:
    """Positions shifted in the reference context `before` that are not in `after`, and the reverse,
    of the same answers.

    The end token is left out, since every frame ends its answers in its own way.
    """
    both = before.ranked & after.ranked & ~before.end
    was, is_now = before.kind == SHIFTED, after.kind == SHIFTED
    repaired, damaged, shifted = both & was & ~is_now, both & ~was & is_now, both & was
    total, mended = before.per_answer(shifted)[:, None], before.per_answer(repaired)[:, None]
    (interval,) = intervals(mended, total)

    def most(mask: Mask) -> list[MendedToken]:
        ids, count = np.unique(before.id[mask], return_counts=True)
        order = np.lexsort((ids, -count))[:LISTED]
        return [
            MendedToken(
                id=int(ids[i]),
                text=text(int(ids[i])),
                count=int(count[i]),
                of=int(np.sum(shifted & (before.id == ids[i]))),
            )
            for i in order
        ]

    n_shifted, n_repaired = int(shifted.sum()), int(repaired.sum())
    return Repairs(
        shifted_there=n_shifted,
        count=n_repaired,
        share=n_repaired / n_shifted if n_shifted else None,
        interval=rounded(interval),
        damaged=int(damaged.sum()),
        tokens=most(repaired),
        tokens_damaged=most(damaged),
    )
