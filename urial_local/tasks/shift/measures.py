"""What a shift run says, as records: shares, divergences, curves, tokens, tags, repairs.

`as_json` is the record as it stands in summary.json (docs/shift.md). Shares are from 0 to 1,
divergences and entropies in nats; a mean or a share of nothing is None, and so is an interval that
cannot be given (see tasks.intervals).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from urial_local.records.runs import FailedRow
from urial_local.tasks.intervals import Distribution, Interval, ends
from urial_local.tasks.shift.noise import BatchShape, Quantisation

if TYPE_CHECKING:
    from urial_local.tasks.shift.finer import Finer
    from urial_local.tasks.shift.samples import Sampled

MIN_COUNT = 5  # occurrences that a token needs for a shift ratio
Floats = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Share:
    """How many positions, which share of all that count, and its 95 % interval over answers."""

    count: int
    share: float | None
    interval: Interval | None

    def as_json(self) -> dict[str, object]:
        return {"count": self.count, "share": self.share, **ends(self.interval)}


@dataclass(frozen=True, slots=True)
class Shares:
    """How positions fall into the classes (see tasks.shift.classes)."""

    positions: int
    unshifted: Share
    marginal: Share
    shifted: Share
    not_in_base: Share

    def as_json(self) -> dict[str, object]:
        return {
            "positions": self.positions,
            "unshifted": self.unshifted.as_json(),
            "marginal": self.marginal.as_json(),
            "shifted": self.shifted.as_json(),
            "not_in_base": self.not_in_base.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Unsound:
    """Positions that averages leave out."""

    base_not_finite: int
    aligned_not_finite: int
    infinite_divergence: int  # of one KL or the other; shares count them

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Divergence:
    """A divergence over positions, in nats, and the 95 % interval of its mean over answers."""

    values: Distribution
    interval: Interval | None

    @property
    def mean(self) -> float | None:
        return self.values.mean

    def as_json(self) -> dict[str, object]:
        mean = {f"mean_{end}": value for end, value in ends(self.interval).items()}
        return {**self.values.as_json(), **mean}


@dataclass(frozen=True, slots=True)
class Curve:
    """By bin of positions: how many answers reach it, the mean over them, and its 95 % band. None
    where there are too few answers (see tasks.shift.curves)."""

    answers: Sequence[int]
    mean: Floats
    low: Floats
    high: Floats

    def as_json(self) -> dict[str, object]:
        return {"answers": self.answers, "mean": self.mean, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Quartiles:
    """By bin of positions: the quartiles and the median over all positions of the bin."""

    low: Floats
    median: Floats
    high: Floats

    def as_json(self) -> dict[str, object]:
        return {"low": self.low, "median": self.median, "high": self.high}


@dataclass(frozen=True, slots=True)
class Curves:
    """Along the answers: the bins' first and last positions, from 0, and a curve of each statistic.
    `relative_shifted` runs over twentieths of each answer."""

    first: Sequence[int]
    last: Sequence[int]
    kl: Curve
    base_rank: Curve
    base_rank_median: Quartiles
    base_prob: Curve
    shifted: Curve
    relative_shifted: Curve

    def as_json(self) -> dict[str, object]:
        return {
            "from": self.first,
            "to": self.last,
            "kl_base_aligned": self.kl.as_json(),
            "base_rank": self.base_rank.as_json(),
            "base_rank_median": self.base_rank_median.as_json(),
            "base_prob": self.base_prob.as_json(),
            "shifted": self.shifted.as_json(),
            "relative_shifted": self.relative_shifted.as_json(),
        }


@dataclass(frozen=True, slots=True)
class ShiftedToken:
    """A token of the answers: how often it occurs, and how often it is shifted."""

    id: int
    text: str
    count: int
    shifted: int
    stylistic: bool  # see tasks.shift.style

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ShiftedTokens:
    """The tokens that are shifted most often, and those that are shifted in most of their
    occurrences, of which there are MIN_COUNT or more; the highest first."""

    by_count: Sequence[ShiftedToken]
    by_ratio: Sequence[ShiftedToken]

    def as_json(self) -> dict[str, object]:
        return {
            "min_count": MIN_COUNT,
            "by_count": [token.as_json() for token in self.by_count],
            "by_ratio": [token.as_json() for token in self.by_ratio],
        }


@dataclass(frozen=True, slots=True)
class TagShift:
    """The answers that carry a tag; kl is the mean KL(base‖aligned) over their positions."""

    answers: int
    positions: int
    shifted: Share
    kl: float | None

    def as_json(self) -> dict[str, object]:
        return {
            "answers": self.answers,
            "positions": self.positions,
            "shifted": {"share": self.shifted.share, **ends(self.shifted.interval)},
            "kl_base_aligned": self.kl,
        }


@dataclass(frozen=True, slots=True)
class MendedToken:
    """A token at `count` of the positions in question, and at `of` positions shifted before."""

    id: int
    text: str
    count: int
    of: int

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Repairs:
    """What a context changes against the reference context, the end of answers left out.

    `share`: of the positions shifted there (`shifted_there`), how many are not shifted here
    (`count`). `damaged`: positions that are shifted here only. Tokens: the most frequent of each.
    """

    shifted_there: int
    count: int
    share: float | None
    interval: Interval | None
    damaged: int
    tokens: Sequence[MendedToken]
    tokens_damaged: Sequence[MendedToken]

    def as_json(self) -> dict[str, object]:
        return {
            "shifted_there": self.shifted_there,
            "repaired": self.count,
            "share": self.share,
            **ends(self.interval),
            "damaged": self.damaged,
            "tokens": [token.as_json() for token in self.tokens],
            "tokens_damaged": [token.as_json() for token in self.tokens_damaged],
        }


@dataclass(frozen=True, slots=True)
class Unsure:
    """How often a guide would be asked at γ, and what that would find; see tasks.shift.unsure."""

    gamma: float
    rate: float | None
    precision: float | None
    recall: float | None

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ContextSummary:
    """All answers of one aligned model, scored by the base model in one context.

    kl: KL(base‖aligned); kl_back: KL(aligned‖base); js: Jensen–Shannon. base_rank and base_prob:
    of the tokens that the aligned model wrote. top1_agreement: share of positions where both would
    write the same token; jaccard: mean overlap of the two lists of most probable tokens. repaired:
    against the reference context, and None in that one.
    """

    positions: int
    classes: Shares
    classes_without_end: Shares
    classes_of_end: Shares
    unsound: Unsound
    kl: Divergence
    kl_back: Divergence
    js: Divergence
    base_rank: Distribution
    base_prob: Distribution
    base_entropy: Distribution
    aligned_entropy: Distribution
    top1_agreement: float | None
    jaccard: float | None
    curves: Curves
    stylistic: Shares
    content: Shares
    tokens: ShiftedTokens
    tags: Mapping[str, Mapping[str, TagShift]]  # by kind and value
    repaired: Repairs | None
    unsure: tuple[Unsure, ...]  # by γ: how often a guide would be asked
    finer: Finer

    @property
    def unshifted(self) -> Share:
        return self.classes.unshifted

    @property
    def marginal(self) -> Share:
        return self.classes.marginal

    @property
    def shifted(self) -> Share:
        return self.classes.shifted

    def as_json(self) -> dict[str, object]:
        return {
            "positions": self.positions,
            "classes": self.classes.as_json(),
            "classes_without_end": self.classes_without_end.as_json(),
            "classes_of_end": self.classes_of_end.as_json(),
            "unsound": self.unsound.as_json(),
            "kl_base_aligned": self.kl.as_json(),
            "kl_aligned_base": self.kl_back.as_json(),
            "js": self.js.as_json(),
            "base_rank": self.base_rank.as_json(),
            "base_prob": self.base_prob.as_json(),
            "base_entropy": self.base_entropy.as_json(),
            "aligned_entropy": self.aligned_entropy.as_json(),
            "top1_agreement": self.top1_agreement,
            "jaccard": self.jaccard,
            "curves": {**self.curves.as_json(), **self.finer.curves.as_json()},
            "style": {"stylistic": self.stylistic.as_json(), "content": self.content.as_json()},
            "tokens": self.tokens.as_json(),
            "tags": {
                kind: {value: tag.as_json() for value, tag in tags.items()}
                for kind, tags in self.tags.items()
            },
            "repairs": self.repaired and self.repaired.as_json(),
            "unsure": [found.as_json() for found in self.unsure],
            **self.finer.as_json(),
        }


@dataclass(frozen=True, slots=True)
class AlignedSummary:
    """One aligned model's answers in every context; `summary["urial"]` is a context's part."""

    answers: int
    positions: int
    ended: int  # answers that the model ended itself
    reference: str  # the context that repairs are counted against
    contexts: Mapping[str, ContextSummary]
    noise_floor: Quantisation | None
    batch_shape: BatchShape | None
    sampled: Sampled | None  # where several answers to a question were drawn

    def __getitem__(self, context: str) -> ContextSummary:
        return self.contexts[context]

    def as_json(self) -> dict[str, object]:
        return {
            "answers": self.answers,
            "positions": self.positions,
            "ended": self.ended,
            "reference": self.reference,
            "contexts": {name: context.as_json() for name, context in self.contexts.items()},
            "noise_floor": self.noise_floor and self.noise_floor.as_json(),
            "batch_shape": self.batch_shape and self.batch_shape.as_json(),
            "sampled": self.sampled and self.sampled.as_json(),
        }


@dataclass(frozen=True, slots=True)
class ShiftSummary:
    """A whole run: each aligned model by its name, the rows that failed, and what was asked."""

    base: str  # the base model's name
    aligned: Mapping[str, AlignedSummary]
    errors: Sequence[FailedRow] = ()
    config: Mapping[str, object] = field(default_factory=dict)  # as in run.json

    def as_json(self) -> dict[str, object]:
        return {
            "format": 1,
            "task": "shift",
            "config": self.config,
            "errors": [{"id": e.id, "aligned": e.aligned, "error": e.error} for e in self.errors],
            "aligned": {name: found.as_json() for name, found in self.aligned.items()},
        }
