"""Judgements as a judge might have made them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from urial_local.records.judged import Judgement
from urial_local.tasks.evaluate.modes import GENERAL


def judgement(i: int, mode: str = "general", judge: str = "j", **scores: object) -> Judgement:
    record = {a: {"reason": f"because {a}", "score": str(v)} for a, v in scores.items()}
    return Judgement(str(i), 0, mode, 0, "", judge, "m", "q", f"answer {i}", record)


def whole_table(seed: int, n: int = 60, judge: str = "j", generator: str = "m") -> list[Judgement]:
    """Rows of all six aspects with random scores."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        general = {a: int(random.integers(1, 6)) for a in GENERAL}
        rows.append(judgement(i, "general", judge, **general))
        rows.append(judgement(1000 + i, "safety", judge, safety=int(random.integers(1, 6))))
    return [replace(j, generator=generator) for j in rows]
