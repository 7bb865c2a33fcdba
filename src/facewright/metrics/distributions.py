"""Quantiles of the normal and the beta distribution, in NumPy and the standard library alone."""

from __future__ import annotations

import math
from statistics import NormalDist

TINY = 1e-300
TERMS = 100_000  # of the continued fraction; it takes about the square root of a + b
STEPS = 200  # of halving: to the last bit of a double


def normal_quantile(share: float) -> float:
    """Return where the standard normal distribution reaches a share, in [0, 1]; infinite at both ends.

    >>> round(normal_quantile(0.975), 6)
    1.959964
    """
    if share in (0, 1):
        return math.inf if share else -math.inf
    return NormalDist().inv_cdf(share)


def beta_cdf(x: float, a: float, b: float) -> float:
    """Return the share of the beta distribution below x, the regularized incomplete beta function.

    Args:
        x: in [0, 1]. a, b: above 0.
    Source: the continued fraction of DLMF 8.17.22, by Lentz's method.
    >>> beta_cdf(0.5, 2, 2)
    0.5
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for factor in (even, odd):
            d, c = 1 / _not_zero(1 + factor * d), _not_zero(1 + factor / c)
            value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return math.exp(front) * value / a


def beta_quantile(a: float, b: float, share: float) -> float:
    """Return where the beta distribution reaches a share in [0, 1]: the inverse of `beta_cdf`, by halving."""
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if beta_cdf(middle, a, b) < share:
            low = middle
        else:
            high = middle
    return high


def _not_zero(value: float) -> float:
    return value if abs(value) > TINY else TINY
