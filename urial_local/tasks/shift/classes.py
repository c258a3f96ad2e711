"""Classes of positions (arXiv 2312.01552, §2), by the base model's rank of the token that the
aligned model wrote: unshifted 1, marginal 2–3, shifted above 3; and "not in base" for a token that
the base lacks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from urial_local.tasks.shift.record import NOT_FINITE
from urial_local.tasks.shift.scoring import NOT_IN_BASE

CLASSES = ("unshifted", "marginal", "shifted", "not_in_base")
MARGINAL_RANK = 3  # the last rank that is not shifted


def classes(status: npt.NDArray[np.int32], rank: npt.NDArray[np.int32]) -> npt.NDArray[np.int8]:
    """int8 [n]: index into CLASSES, -1 where a model has no distribution at the position."""
    found = np.where(rank == 1, 0, np.where(rank <= MARGINAL_RANK, 1, 2))
    found = np.where(status & NOT_IN_BASE, 3, found)
    return np.where(status & NOT_FINITE, -1, found).astype(np.int8)
