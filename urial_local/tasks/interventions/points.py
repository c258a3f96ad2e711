"""Figures of the answers of one kind, as both experiments tell them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from urial_local.tasks.generate.flags import FAULTS
from urial_local.tasks.intervals import POSITIVE, SHARE, Interval, Scale, ends, intervals


@dataclass(frozen=True, slots=True)
class Mean:
    """A ratio of sums over answers, with its 95 % interval over them."""

    value: float | None = None
    interval: Interval | None = None

    def as_json(self) -> dict[str, float | None]:
        return {"value": self.value, **ends(self.interval)}


NONE = Mean()


@dataclass(frozen=True, slots=True)
class Told:
    """One answer, as far as figures look at it."""

    id: str
    ended: bool
    flags: tuple[str, ...]
    tokens: int  # of the whole answer
    written: int  # by the model that goes on, or of the whole answer
    same: int | None = None  # see tasks.interventions.agreement
    identical: bool | None = None
    f1: float | None = None
    kl_base_aligned: float | None = None
    kl_aligned_base: float | None = None
    scored: int = 0  # tokens that the divergences are means of


@dataclass(frozen=True, slots=True)
class Point:
    """Of n answers: shares of them, and means over those for which there is a figure."""

    answers: int
    ended: Mean = NONE
    refused: Mean = NONE
    faulty: Mean = NONE  # with a fault (see tasks.generate.flags)
    flags: dict[str, int] = field(default_factory=dict)
    tokens: Mean = NONE
    written: Mean = NONE
    same: Mean = NONE
    identical: Mean = NONE
    f1: Mean = NONE
    kl_base_aligned: Mean = NONE  # over tokens
    kl_aligned_base: Mean = NONE

    def as_json(self) -> dict[str, Any]:
        plain = {k: v for k, v in asdict(self).items() if k in ("answers", "flags")}
        return plain | {
            name: getattr(self, name).as_json()
            for name in self.__dataclass_fields__
            if name not in plain
        }


def point(told: Iterable[Told]) -> Point:
    rows = list(told)
    if not rows:
        return Point(0)
    flags: dict[str, int] = {}
    for row in rows:
        for flag in row.flags:
            flags[flag] = flags.get(flag, 0) + 1
    return Point(
        answers=len(rows),
        ended=mean([float(r.ended) for r in rows], scale=SHARE),
        refused=mean([float("refusal" in r.flags) for r in rows], scale=SHARE),
        faulty=mean([float(bool(set(r.flags) & set(FAULTS))) for r in rows], scale=SHARE),
        flags=dict(sorted(flags.items())),
        tokens=mean([float(r.tokens) for r in rows]),
        written=mean([float(r.written) for r in rows]),
        same=mean([r.same for r in rows]),
        identical=mean([r.identical for r in rows], scale=SHARE),
        f1=mean([r.f1 for r in rows], scale=SHARE),
        kl_base_aligned=mean([r.kl_base_aligned for r in rows], [r.scored for r in rows]),
        kl_aligned_base=mean([r.kl_aligned_base for r in rows], [r.scored for r in rows]),
    )


def mean(
    values: Sequence[float | None],
    weights: Sequence[float] | None = None,
    scale: Scale = POSITIVE,
) -> Mean:
    """Σ w x / Σ w over the values that are there; w = 1 without weights."""
    pairs = zip(values, weights or [1.0] * len(values), strict=True)
    kept = [(float(x), float(w)) for x, w in pairs if x is not None and w > 0]
    if not kept:
        return NONE
    found = np.array(kept, np.float64)
    above, below = (found[:, 0] * found[:, 1])[:, None], found[:, 1:]
    (interval,) = intervals(above, below, scale)
    return Mean(float(f"{above.sum() / below.sum():.7g}"), interval)
