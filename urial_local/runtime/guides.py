"""Rules that make one next-token distribution of the logits of one to three models.

Notation at one position: p the base model's distribution over the vocabulary (or the model's under
its own prompt), q the guide's, r a small base model's, each the softmax of its logits; γ, β and α
are the rule's parameters. Every function takes rows of logits, float64 [n_vocab], and returns one
whose softmax is the distribution. It stands at the height of the first row (has its log-sum-exp),
since a repetition penalty looks at the sign of logits; where the rule takes one row or the other,
that row is returned as it is.

Sources by their arXiv numbers; docs/guides.md says when to use which.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from urial_local.base.errors import UsageError

FloatRow = npt.NDArray[np.float64]
RuleName = Literal[
    "nudge", "blend", "defer", "defer-whole", "bet", "proxy", "amplify", "contrast"
]  # fmt: skip
PLAUSIBLE = 0.1  # of the most probable token's probability; less counts as junk
# What each rule is set by.
PARAMETERS: dict[RuleName, str] = {
    "nudge": "gamma",
    "blend": "gamma",
    "defer": "gamma",
    "defer-whole": "gamma",
    "bet": "gamma",
    "proxy": "beta",
    "amplify": "alpha",
    "contrast": "alpha",
}
ROUTERS = ("nudge", "defer-whole")  # these take one row or the other as it is


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with its parameters; those of other rules are not looked at."""

    name: RuleName = "nudge"
    gamma: float = 0.4  # below it, the base is unsure
    beta: float = 1.0  # weight of what tuning changed in the small pair
    alpha: float = 0.5  # how far beyond the first row

    def __post_init__(self) -> None:
        if self.name not in PARAMETERS:
            names = ", ".join(PARAMETERS)
            raise UsageError(f"There is no `guide_rule` {self.name!r}.", f"Known: {names}.")
        bounds = {"gamma": (0, 2), "beta": (-10, 10), "alpha": (-1, 10)}
        least, most = bounds[PARAMETERS[self.name]]
        value = getattr(self, PARAMETERS[self.name])
        if not least <= value <= most:
            raise UsageError(
                f"`{PARAMETERS[self.name]}` {value} must be between {least} and {most}."
            )

    def about(self) -> dict[str, Any]:
        """For JSON: the rule and what decides it."""
        name = PARAMETERS[self.name]
        return {"rule": self.name, name: getattr(self, name)}


def combine(rule: Rule, rows: Sequence[FloatRow], ends: Container[int] = ()) -> FloatRow:
    """The row of a rule, from its rows in the order p, q, r. `ends`: ids that end an answer.

    nudge, blend, defer, bet, amplify: base and guide; proxy: base, guide and small base; contrast:
    the model under its prompt and under the other.
    """
    if rule.name == "nudge":
        return nudge(rows[0], rows[1], rule.gamma, ends)
    if rule.name == "blend":
        return blend(rows[0], rows[1], rule.gamma)
    if rule.name == "defer":
        return defer(rows[0], rows[1], rule.gamma)
    if rule.name == "defer-whole":
        return defer_whole(rows[0], rows[1], rule.gamma)
    if rule.name == "bet":
        return bet(rows[0], rows[1], rule.gamma)
    if rule.name == "proxy":
        return proxy(rows[0], rows[1], rows[2], rule.beta)
    if rule.name == "amplify":
        return amplify(rows[1], rows[0], rule.alpha)
    return contrast(rows[0], rows[1], rule.alpha)


def is_guides(rule: Rule, rows: Sequence[FloatRow], found: FloatRow, token: int) -> bool:
    """Whether a token drawn from what `combine` found counts as the guide's (see Guidance)."""
    if rule.name in ROUTERS:
        return found is rows[1]
    if rule.name == "blend":
        return top_probability(rows[0]) < rule.gamma
    if rule.name in ("defer", "bet"):
        border = rule.gamma if rule.name == "defer" else top_probability(rows[1]) - rule.gamma
        return bool(np.exp(float(rows[0][token]) - log_sum_exp(rows[0])) < border)
    return token != int(rows[0].argmax())


def needs_guide(rule: Rule, top: float, ends: bool) -> bool:
    """Whether a rule may come to look at the guide's row: from the base's top-1 probability, and
    whether its first token ends the answer."""
    if rule.name == "nudge":
        return rule.gamma > 0 and (ends or top < rule.gamma)
    if rule.name in ("defer-whole", "blend"):
        return top < rule.gamma
    if rule.name == "defer":
        return rule.gamma > 0
    if rule.name == "bet":
        return rule.gamma < 1
    if rule.name == "proxy":
        return rule.beta != 0
    return rule.alpha != (-1 if rule.name == "amplify" else 0)


def certain(p: FloatRow, gamma: float) -> bool:
    """Whether `defer` has p's first token in front whatever the guide says: no other can get more
    than its own kept probability and all that is dealt out."""
    mine = softmax(p)
    kept = mine >= gamma
    if not kept.any():
        return False
    first, second = np.sort(np.where(kept, mine, 0.0))[[-1, -2]]
    return bool(first - second > mine[~kept].sum())


# --- one row or the other -------------------------------------------------------------------------


def nudge(p: FloatRow, q: FloatRow, gamma: float, ends: Container[int] = ()) -> FloatRow:
    """q where max p < γ, else p (Fei et al., 2410.09300, by tokens). Where p's first token is an
    end that it is sure of, and q's is none: q, so that a base cannot end what the guide would go
    on with. At γ = 0 always p."""
    sure = top_probability(p) >= gamma
    if gamma > 0 and sure and int(p.argmax()) in ends:
        sure = int(q.argmax()) in ends
    return p if sure else q


def defer_whole(p: FloatRow, q: FloatRow, gamma: float) -> FloatRow:
    """q where max p < γ, else p (Hammal et al., 2510.27017, their whole-distribution rule)."""
    return p if top_probability(p) >= gamma else q


# --- mixtures of probabilities --------------------------------------------------------------------


def blend(p: FloatRow, q: FloatRow, gamma: float) -> FloatRow:
    """a·q + (1 - a)·p where max p < γ, else p, with
    a = max q / (max p + max q) + 0.1 · p[argmax q], at most 1 (BlendIn, 2606.11201)."""
    most = top_probability(p)
    if most >= gamma:
        return p
    mine, theirs = softmax(p), softmax(q)
    best = float(theirs.max())
    a = min(1.0, best / (most + best) + 0.1 * float(mine[int(theirs.argmax())]))
    return _at_height(a * theirs + (1 - a) * mine, p)


def defer(p: FloatRow, q: FloatRow, gamma: float) -> FloatRow:
    """(1 - d)∘p + (Σ d·p)·q with d[v] = 1 where p[v] < γ, else 0: the mass of the tokens that the
    base gives little is dealt out by the guide (Hammal et al., 2510.27017, token by token)."""
    mine = softmax(p)
    return _deferred(p, mine, softmax(q), mine < gamma)


def bet(p: FloatRow, q: FloatRow, gamma: float) -> FloatRow:
    """As `defer`, with d[v] = 1 where p[v] < max q - γ: what the base gives less than the guide is
    sure of (2604.16146). At γ ≥ 1 always p."""
    mine, theirs = softmax(p), softmax(q)
    return _deferred(p, mine, theirs, mine < theirs.max() - gamma)


def _deferred(p: FloatRow, mine: FloatRow, theirs: FloatRow, d: npt.NDArray[np.bool_]) -> FloatRow:
    if not d.any():
        return p
    return _at_height(np.where(d, 0.0, mine) + mine[d].sum() * theirs, p)


# --- sums of log-probabilities --------------------------------------------------------------------


def proxy(
    p: FloatRow, q: FloatRow, r: FloatRow, beta: float, plausible: float = PLAUSIBLE
) -> FloatRow:
    """softmax(log p + β·(log q - log r)) (proxy tuning, 2401.08565; EFT, 2310.12962). Of tokens
    that neither p nor q gives `plausible` of its best, none: there q / r is noise over noise. The
    papers have no such limit (`plausible` 0)."""
    if beta == 0:
        return p
    x, y, z = log_softmax(p), log_softmax(q), log_softmax(r)
    keep = _plausible(x, plausible) | _plausible(y, plausible)
    return _summed(x, y, z, beta, keep, p)


def amplify(a: FloatRow, b: FloatRow, alpha: float, plausible: float = PLAUSIBLE) -> FloatRow:
    """softmax(log a + α·(log a - log b)): the aligned model a beyond its base b; α = 0 is a, and
    below that the way back to b, which is α = -1 (decoding-time extrapolation; 2605.25902,
    2603.22117). For α > 0 among tokens of at least `plausible` of a's best."""
    return contrast(a, b, alpha, plausible) if alpha > 0 else _between(a, b, alpha)


def contrast(pos: FloatRow, neg: FloatRow, alpha: float, plausible: float = PLAUSIBLE) -> FloatRow:
    """softmax(log pos + α·(log pos - log neg)): one model under two prompts (classifier-free
    guidance of scale 1 + α, 2306.17806), among tokens of at least `plausible` of pos's best (the
    limit of contrastive decoding, 2210.15097)."""
    if alpha <= 0:
        return _between(pos, neg, alpha)
    x, y = log_softmax(pos), log_softmax(neg)
    return _summed(x, x, y, alpha, _plausible(x, plausible), pos)


def _between(a: FloatRow, b: FloatRow, alpha: float) -> FloatRow:
    """-1 ≤ α ≤ 0: nothing is divided by, so nothing is junk."""
    if alpha in (0, -1):
        return a if alpha == 0 else b
    x, y = log_softmax(a), log_softmax(b)
    return _summed(x, x, y, alpha, np.isfinite(x) & np.isfinite(y), a)


def _summed(
    x: FloatRow,
    plus: FloatRow,
    minus: FloatRow,
    weight: float,
    keep: npt.NDArray[np.bool_],
    height: FloatRow,
) -> FloatRow:
    """x + weight · (plus - minus) where `keep` and all are finite, normalised."""
    keep = keep & np.isfinite(x) & np.isfinite(plus) & np.isfinite(minus)
    if not keep.any():
        return height
    found = np.full(len(x), -np.inf)
    found[keep] = x[keep] + weight * (plus[keep] - minus[keep])
    return log_softmax(found) + log_sum_exp(height)


def _plausible(x: FloatRow, share: float) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = x >= x.max() + (np.log(share) if share else -np.inf)
    return found


# --- the ground -----------------------------------------------------------------------------------


def log_sum_exp(x: FloatRow) -> float:
    top = float(x.max())
    return top + float(np.log(np.exp(x - top).sum()))


def log_softmax(x: FloatRow) -> FloatRow:
    found: FloatRow = x - log_sum_exp(x)
    return found


def softmax(x: FloatRow) -> FloatRow:
    found: FloatRow = np.exp(log_softmax(x))
    return found


def top_probability(x: FloatRow) -> float:
    return float(np.exp(float(x.max()) - log_sum_exp(x)))


def _at_height(mass: FloatRow, p: FloatRow) -> FloatRow:
    """Log-probabilities, raised to p's log-sum-exp."""
    with np.errstate(divide="ignore"):
        found: FloatRow = np.log(mass) + log_sum_exp(p)
    return found
