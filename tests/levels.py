"""The instruction levels of the native code that this processor has."""

from __future__ import annotations

import numpy as np

from urial_local.runtime.row_scores import score_rows


def runnable(level: str) -> bool:
    one = np.zeros((1, 1), np.float32)
    zero = np.zeros(1, np.int32)
    try:
        score_rows(one, zero, zero, level)
    except ValueError:
        return False
    return True


LEVELS = [level for level in ("portable", "avx2", "avx512") if runnable(level)]
