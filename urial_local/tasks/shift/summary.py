"""What a whole run says: shares, divergences, curves, tokens, tags, and what contexts repair.

Shares are over all positions of all answers, the end-of-answer token included, as in the paper;
they are also given without it, since in most contexts the base cannot know how the aligned model
ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from urial_local.runtime.shift_rows import ALIGNED_NOT_FINITE, BASE_NOT_FINITE
from urial_local.tasks.intervals import POSITIVE, SHARE, Scale, distribution, intervals
from urial_local.tasks.shift.classes import CLASSES
from urial_local.tasks.shift.curves import (
    RELATIVE_BINS,
    curve,
    plain,
    position_edges,
    quartiles,
    rounded,
)
from urial_local.tasks.shift.finer import finer
from urial_local.tasks.shift.measures import (
    AlignedSummary,
    ContextSummary,
    Curve,
    Curves,
    Divergence,
    Share,
    Shares,
    TagShift,
    Unsound,
)
from urial_local.tasks.shift.noise import batch_shape, quantisation
from urial_local.tasks.shift.positions import Collector, Mask, Positions, Singles
from urial_local.tasks.shift.record import Answer
from urial_local.tasks.shift.samples import sampled
from urial_local.tasks.shift.scoring import INFINITE
from urial_local.tasks.shift.style import is_stylistic
from urial_local.tasks.shift.tokens import Text, repairs, shifted_tokens
from urial_local.tasks.shift.unsure import unsure

REFERENCE = "zero-shot"  # the context that repairs are counted against, if it is there
UP_TO_LN_2 = Scale(0.0, math.log(2))


@dataclass
class _Collected:
    """One aligned model's answers, as they come."""

    contexts: dict[str, Collector] = field(default_factory=dict)
    noise: list[Answer] = field(default_factory=list)
    shaped: list[Answer] = field(default_factory=list)
    samples: list[Answer] = field(default_factory=list)
    answers: int = 0
    positions: int = 0
    ended: int = 0

    def add(self, answer: Answer) -> None:
        for name in answer.contexts:
            self.contexts.setdefault(name, Collector()).add(answer, name)
        if answer.noise is not None:
            self.noise.append(answer)
        if answer.batch_shape is not None:
            self.shaped.append(answer)
        if answer.sample is not None:
            self.samples.append(answer)
        self.answers += 1
        self.positions += len(answer.ids)
        self.ended += answer.ended


def summarise(
    answers: Iterable[Answer], texts: Mapping[str, Sequence[str]], reference: str = REFERENCE
) -> dict[str, AlignedSummary]:
    """The summary of each aligned model's answers, by its name.

    `texts`: for each aligned model what its token ids stand for. `reference`: the context that
    repairs are counted against; the first one where no answer has it.
    """
    collected: dict[str, _Collected] = {}
    for answer in answers:
        collected.setdefault(answer.aligned, _Collected()).add(answer)
    return {
        aligned: _aligned(found, texts[aligned].__getitem__, reference)
        for aligned, found in collected.items()
    }


def _aligned(found: _Collected, text: Text, reference: str) -> AlignedSummary:
    joined = {name: collector.joined() for name, collector in found.contexts.items()}
    base = reference if reference in joined else next(iter(joined))
    return AlignedSummary(
        answers=found.answers,
        positions=found.positions,
        ended=found.ended,
        reference=base,
        contexts={
            name: _context(p, text, None if name == base else joined[base])
            for name, p in joined.items()
        },
        noise_floor=quantisation(found.noise) if found.noise else None,
        batch_shape=batch_shape(found.shaped) if found.shaped else None,
        sampled=sampled(found.samples),
    )


def _context(p: Positions, text: Text, reference: Positions | None) -> ContextSummary:
    # Without two distributions a position enters nothing; with an infinite KL, no mean of a KL.
    ranked, sound, known = p.ranked, p.sound, p.known
    ids, place = np.unique(p.id, return_inverse=True)
    style = np.array([is_stylistic(text(int(i))) for i in ids], bool)[place]
    return ContextSummary(
        positions=len(p.id),
        classes=_shares(p, ranked),
        classes_without_end=_shares(p, ranked & ~p.end),
        classes_of_end=_shares(p, ranked & p.end),
        unsound=Unsound(
            base_not_finite=int(np.sum(p.status & BASE_NOT_FINITE > 0)),
            aligned_not_finite=int(np.sum(p.status & ALIGNED_NOT_FINITE > 0)),
            infinite_divergence=int(np.sum(p.status & INFINITE > 0)),
        ),
        kl=_divergence(p, p.kl, sound, POSITIVE),
        kl_back=_divergence(p, p.kl_back, sound, POSITIVE),
        js=_divergence(p, p.js, ranked, UP_TO_LN_2),
        base_rank=distribution(p.rank[known]),
        base_prob=distribution(p.prob[known]),
        base_entropy=distribution(p.base_entropy[ranked]),
        aligned_entropy=distribution(p.aligned_entropy[ranked]),
        top1_agreement=_mean(p.same_top[ranked]),
        jaccard=_mean(p.jaccard[ranked]),
        curves=_curves(p, sound, known, ranked),
        stylistic=_shares(p, ranked & ~p.end & style),
        content=_shares(p, ranked & ~p.end & ~style),
        tokens=shifted_tokens(p, text),
        tags=_tags(p),
        unsure=unsure(p),
        finer=finer(p, text, _along(p)),
        repaired=None if reference is None else repairs(reference, p, text),
    )


def _mean(values: npt.NDArray[np.generic]) -> float | None:
    chosen = values.astype(np.float64)
    return float(np.nanmean(chosen)) if np.isfinite(chosen).any() else None


def _shares(p: Positions, mask: Mask) -> Shares:
    """Counts and shares of the classes over the positions of a mask, with 95 % intervals."""
    kinds = range(len(CLASSES))
    per_answer = np.stack([p.per_answer(mask & (p.kind == kind)) for kind in kinds], axis=1)
    total = per_answer.sum(1, keepdims=True)
    found = intervals(per_answer, np.repeat(total, len(CLASSES), 1))
    n, counts = int(total.sum()), per_answer.sum(0)
    named = {
        name: Share(int(counts[kind]), _ratio(counts[kind], n), rounded(found[kind]))
        for kind, name in enumerate(CLASSES)
    }
    return Shares(positions=n, **named)


def _ratio(above: float, below: float) -> float | None:
    """To six digits; None over nothing."""
    return plain([above / below])[0] if below else None


def _divergence(p: Positions, values: Singles, mask: Mask, scale: Scale) -> Divergence:
    """Over the positions of a mask; answers are the units of its interval."""
    total, count = p.per_answer(mask, values)[:, None], p.per_answer(mask)[:, None]
    (interval,) = intervals(total, count, scale)
    return Divergence(distribution(values[mask]), rounded(interval))


def _bins(p: Positions) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Borders of the bins of positions, and each position's bin."""
    edges = position_edges(int(p.position.max(initial=-1)) + 1)
    return edges, np.searchsorted(edges, p.position, side="right") - 1


def _along(p: Positions) -> Callable[[npt.NDArray[np.generic], Mask, Scale | None], Curve]:
    """What makes a curve by position of values, over the positions of a mask."""
    edges, bins = _bins(p)
    n_bins, answers = max(len(edges) - 1, 0), p.answer.astype(np.int64)

    def along(values: npt.NDArray[np.generic], mask: Mask, scale: Scale | None) -> Curve:
        return curve(values[mask].astype(np.float64), bins[mask], answers[mask], n_bins, scale)

    return along


def _curves(p: Positions, sound: Mask, known: Mask, ranked: Mask) -> Curves:
    edges, bins = _bins(p)
    n_bins, along = max(len(edges) - 1, 0), _along(p)
    answers, relative = p.answer.astype(np.int64), p.relative.astype(np.int64)
    shifted = p.shifted.astype(np.float64)
    return Curves(
        first=edges[:-1].tolist(),
        last=(edges[1:] - 1).tolist(),
        kl=along(p.kl, sound, POSITIVE),
        # Ranks have tails too heavy for the band of a mean: no method held its level.
        base_rank=along(p.rank, known, None),
        base_rank_median=quartiles(p.rank[known].astype(np.float64), bins[known], n_bins),
        base_prob=along(p.prob, known, SHARE),
        shifted=along(shifted, ranked, SHARE),
        relative_shifted=curve(
            shifted[ranked], relative[ranked], answers[ranked], RELATIVE_BINS, SHARE
        ),
    )


def _tags(p: Positions) -> dict[str, dict[str, TagShift]]:
    """Of the answers that carry a tag; an answer counts in each of its tags."""
    pairs = sorted({(kind, v) for tags in p.tags for kind, values in tags.items() for v in values})
    if not pairs:
        return {}
    ranked, sound = p.ranked, p.sound
    shifted, positions = p.per_answer(ranked & p.shifted), p.per_answer(ranked)
    kl, n_kl = p.per_answer(sound, p.kl), p.per_answer(sound)
    member = np.array([[v in tags.get(kind, ()) for kind, v in pairs] for tags in p.tags], float)
    reach = intervals(member * shifted[:, None], member * positions[:, None])
    found: dict[str, dict[str, TagShift]] = {}
    for j, (kind, value) in enumerate(pairs):
        own = member[:, j]
        n, n_shifted = int(own @ positions), int(own @ shifted)
        found.setdefault(kind, {})[value] = TagShift(
            answers=int(own.sum()),
            positions=n,
            shifted=Share(n_shifted, _ratio(n_shifted, n), rounded(reach[j])),
            kl=_ratio(float(own @ kl), float(own @ n_kl)),
        )
    return found
