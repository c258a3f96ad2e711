"""What a run over texts says: perplexities, divergences, and the tokens that one model prefers.

Over the n scored tokens t of all rows, x_t the token, natural logarithms:

    nll          -ln p(x_t); PPL = exp(mean nll)
    ln_ratio     mean nll of the aligned - mean nll of the base = ln(PPL(aligned) / PPL(base))
    kl           KL(b‖a) with b the base, as llama-perplexity's KLD where the base model's logits
                 were saved; kl_back is KL(a‖b)
    delta_p      a(x_t) - b(x_t); rms = √ mean of its squares
    same_top     share of positions at which both models' most probable token is the same
    overlap      mean Σ_v min(a, b)

The error of a mean is √((mean x² - mean² x) / (n - 1)), as llama-perplexity prints it (none up to
ten values); of PPL it is PPL times that of the mean nll, of ln_ratio with the covariance of both:
it takes tokens for independent, which they are not. Beside it stand intervals over whole rows.
Quantiles of n sorted values: linear between the values at ⌊p (n - 1)⌋ and the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from urial_local.records.runs import FailedRow
from urial_local.runtime.shift_rows import ALIGNED_NOT_FINITE, BASE_NOT_FINITE, FloatArray
from urial_local.tasks.intervals import POSITIVE, Interval, Scale, ends, intervals
from urial_local.tasks.shift.scoring import INFINITE
from urial_local.tasks.shift_texts.record import ScoredText

FEW = 10  # values, up to which there is no error
QUANTILES = (1.0, 0.999, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.0)
LISTED = 60  # tokens in a list
_LINE = Scale(-1e3, 1e3)  # of a figure that may be below 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A value, and its standard error over tokens."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Preferred:
    """A token by how the two models see it at every position; see tasks.shift_texts.mining."""

    id: int
    text: str
    top: int  # positions
    positive: float | None  # share of positions
    gain: float  # per thousand positions


@dataclass(frozen=True, slots=True)
class TextsSummary:
    """Of all rows of a run. Nothing is there where nothing was scored."""

    rows: int
    texts: int
    tokens: int  # scored
    left_out: int  # of these, where a model's logits are not finite, or a KL is infinite
    figures: dict[str, Figure] = field(default_factory=dict)
    quantiles: dict[str, dict[str, float]] = field(default_factory=dict)  # by figure, by share
    cor: float | None = None  # of the two models' nll
    kl_interval: Interval | None = None  # over rows
    ln_ratio_interval: Interval | None = None
    positions: int = 0  # that tokens are counted over
    by_top: tuple[Preferred, ...] = ()
    by_gain: tuple[Preferred, ...] = ()
    by_loss: tuple[Preferred, ...] = ()
    errors: tuple[FailedRow, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "kl_interval": ends(self.kl_interval),
            "ln_ratio_interval": ends(self.ln_ratio_interval),
        }


def summarise(
    rows: Iterable[ScoredText], texts: tuple[str, ...], errors: Iterable[FailedRow] = ()
) -> TextsSummary:
    """`texts`: what the ids stand for. Raises Malformed for counts of another vocabulary."""
    n_vocab = len(texts)
    top, positive = np.zeros(n_vocab, np.int64), np.zeros(n_vocab, np.int64)
    gain = np.zeros(n_vocab, np.float64)
    found = _Columns()
    positions = 0
    for row in rows:
        one, other = row.counts(n_vocab)
        top, positive = top + one, positive + other
        np.add.at(gain, row.gain_ids, row.gains)
        positions += row.positions
        found.add(row)
    return found.summary(
        positions=positions,
        errors=tuple(errors),
        **_lists(top, positive, gain, positions, texts),
    )


def _lists(
    top: npt.NDArray[np.int64],
    positive: npt.NDArray[np.int64],
    gain: FloatArray,
    positions: int,
    texts: tuple[str, ...],
) -> dict[str, Any]:
    def listed(order: npt.NDArray[np.intp], there: npt.NDArray[np.bool_]) -> tuple[Preferred, ...]:
        return tuple(
            Preferred(
                id=int(i),
                text=texts[i],
                top=int(top[i]),
                positive=positive[i] / positions if positions else None,
                gain=float(f"{1000 * gain[i] / max(1, positions):.6g}"),
            )
            for i in order[:LISTED]
            if there[i]
        )

    ids = np.arange(len(top))
    return {
        "by_top": listed(np.lexsort((ids, -positive, -top)), top > 0),
        "by_gain": listed(np.lexsort((ids, -gain)), gain > 0),
        "by_loss": listed(np.lexsort((ids, gain)), gain < 0),
    }


class _Columns:
    """The scored tokens of all rows, as they come."""

    def __init__(self) -> None:
        self._parts: dict[str, list[FloatArray]] = {}
        self._sums: list[tuple[float, float, float]] = []  # of a row: tokens, KL, ln ratio
        self._ids: set[str] = set()
        self._tokens = self._left_out = 0

    def add(self, row: ScoredText) -> None:
        bad = BASE_NOT_FINITE | ALIGNED_NOT_FINITE | INFINITE
        sound = row.status & bad == 0
        self._ids.add(row.id)
        self._tokens += len(row.ids)
        self._left_out += int((~sound).sum())
        columns = {**row.columns, "same_top": row.same_top.astype(np.float64)}
        for name, values in columns.items():
            self._parts.setdefault(name, []).append(values[sound])
        nll = row.columns["base_logprob"][sound] - row.columns["aligned_logprob"][sound]
        kl = row.columns["kl_base_aligned"][sound]
        self._sums.append((float(sound.sum()), float(kl.sum()), float(nll.sum())))

    def summary(self, **more: Any) -> TextsSummary:
        c = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        head: dict[str, Any] = {
            "rows": len(self._sums),
            "texts": len(self._ids),
            "tokens": self._tokens,
            "left_out": self._left_out,
        }
        if not c or not len(c["same_top"]):
            return TextsSummary(**head, **more)
        figures, cor = _figures(c)
        delta = np.exp(c["aligned_logprob"]) - np.exp(c["base_logprob"])
        sums = np.array(self._sums, np.float64)
        weights = sums[:, :1]
        return TextsSummary(
            **head,
            **more,
            figures=figures,
            cor=cor,
            quantiles={
                "kl": _quantiles(c["kl_base_aligned"]),
                "kl_back": _quantiles(c["kl_aligned_base"]),
                "delta_p": _quantiles(delta),
            },
            kl_interval=intervals(sums[:, 1:2], weights, POSITIVE)[0],
            ln_ratio_interval=intervals(sums[:, 2:3], weights, _LINE)[0],
        )


def _figures(c: dict[str, FloatArray]) -> tuple[dict[str, Figure], float | None]:
    ours, theirs = -c["base_logprob"], -c["aligned_logprob"]
    base, aligned = mean(ours), mean(theirs)
    cov = covariance(ours, theirs)
    ln_ratio = aligned.value - base.value
    spread = math.sqrt(max(0.0, aligned.error**2 + base.error**2 - 2 * cov))
    ppl_base, ppl_aligned = math.exp(base.value), math.exp(aligned.value)
    errors = (ppl_aligned * aligned.error, ppl_base * base.error)
    apart = errors[0] ** 2 + errors[1] ** 2 - 2 * ppl_aligned * ppl_base * cov
    delta = np.exp(-theirs) - np.exp(-ours)
    squares = mean(delta**2)
    rms = math.sqrt(squares.value)
    same = float(c["same_top"].mean())
    n = len(ours)
    both = aligned.error * base.error
    return {
        "ppl_base": Figure(ppl_base, errors[1]),
        "ppl_aligned": Figure(ppl_aligned, errors[0]),
        "ln_ratio": Figure(ln_ratio, spread),
        "ratio": Figure(math.exp(ln_ratio), math.exp(ln_ratio) * spread),
        "difference": Figure(ppl_aligned - ppl_base, math.sqrt(max(0.0, apart))),
        "kl": mean(c["kl_base_aligned"]),
        "kl_back": mean(c["kl_aligned_base"]),
        "js": mean(c["js"]),
        "overlap": mean(c["overlap"]),
        "base_entropy": mean(c["base_entropy"]),
        "aligned_entropy": mean(c["aligned_entropy"]),
        "delta_p": mean(delta),
        "delta_p_rms": Figure(rms, 0.5 / rms * squares.error if rms else 0.0),
        "same_top": Figure(same, math.sqrt(same * (1 - same) / (n - 1)) if n > 1 else 0.0),
    }, cov / both if both else None


def mean(values: FloatArray) -> Figure:
    """Mean and its error, from sums; no error up to FEW values."""
    n = len(values)
    value = float(values.mean())
    spread = float((values**2).mean()) - value**2
    return Figure(value, math.sqrt(spread / (n - 1)) if spread > 0 and n > FEW else 0.0)


def covariance(x: FloatArray, y: FloatArray) -> float:
    """Of two means over the same positions; 0 below FEW values."""
    n = len(x)
    if n < FEW:
        return 0.0
    return float((x * y).mean() - x.mean() * y.mean()) / (n - 1)


def _quantiles(values: FloatArray) -> dict[str, float]:
    found = np.quantile(values, QUANTILES)
    return {f"{q:g}": float(v) for q, v in zip(QUANTILES, found, strict=True)}
