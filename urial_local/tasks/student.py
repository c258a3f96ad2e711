"""Quantiles of Student's t for any degrees of freedom, exact to rounding, without scipy."""

from __future__ import annotations

import math
from functools import lru_cache

_TERMS = 300  # of the continued fraction, which needs some 20
_HALVINGS = 200


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: float) -> float:
    """The t with P(T ≤ t) = p, for ½ ≤ p < 1 and df > 0, by halving; monotone, so always found."""
    low, high = 0.0, 1.0
    while t_below(high, df) < p:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_below(middle, df) < p else (low, middle)
    return high


def t_below(t: float, df: float) -> float:
    """P(T ≤ t) = 1 − ½ I_x(df/2, ½) with x = df/(df + t²), for t ≥ 0 (A & S 26.7.1)."""
    return 1 - incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2


def incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), the regularised incomplete beta function, for 0 ≤ x ≤ 1 and a, b > 0: its
    continued fraction (DLMF 8.17.22) where that converges fast, else 1 − I_{1−x}(b, a)."""
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / a / _fraction(x, a, b)


def _fraction(x: float, a: float, b: float) -> float:
    """1 + d₁/(1 + d₂/(1 + …)), from the front by Lentz's method."""
    value, c, d = 1.0, 1.0, 0.0
    for i in range(1, _TERMS):
        m = i // 2
        if i % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        c, d = 1 + term / c, 1 / (1 + term * d)
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value
