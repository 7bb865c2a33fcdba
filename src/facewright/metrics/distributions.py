"""Distributions: quantiles of the normal and the beta distribution; histograms of genuine and impostor scores."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from pydantic import model_validator

from facewright.errors import DataError, EmptyScores, UsageError
from facewright.records import Record

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


BINS = 50
STEP = 100  # ranges begin and end at hundredths


class Histograms(Record):
    """Scores in K equal bins from `low` to `high`; a bin has its lower end, the last one both."""

    low: float
    high: float
    genuine: tuple[int, ...]  # K
    impostor: tuple[int, ...]  # K

    @model_validator(mode="after")
    def _equal_bins(self) -> Histograms:
        if not self.low < self.high or not self.genuine or len(self.genuine) != len(self.impostor):
            raise ValueError(f"expected equal bins from low to high, got {self.low:g} to {self.high:g}")
        if min(*self.genuine, *self.impostor) < 0:
            raise ValueError("expected counts of at least 0")
        return self


def histograms(genuine: ArrayLike, impostor: ArrayLike, bins: int = BINS) -> Histograms:
    """Count scores in equal bins over their common range, widened to hundredths.

    Args:
        genuine, impostor: (P,) and (Q,) finite scores. bins: how many, at least 1.
    Raises:
        EmptyScores: a side has none. UsageError: no bins. DataError: a score is not finite.
    >>> histograms([0.75, 1.0], [0.0, 0.3, 0.5], bins=4)
    Histograms(low=0.0, high=1.0, genuine=(0, 0, 0, 2), impostor=(1, 1, 1, 0))
    """
    sides = np.asarray(genuine, np.float64).ravel(), np.asarray(impostor, np.float64).ravel()
    if bins < 1:
        raise UsageError(f"expected at least one bin, got {bins}")
    if not all(side.size for side in sides):
        raise EmptyScores("histograms need scores of genuine and of impostor pairs")
    every = np.concatenate(sides)
    if not np.isfinite(every).all():
        raise DataError("expected finite scores, got NaN or infinity: the model's output is broken")
    low, high = math.floor(round(every.min() * STEP, 9)), math.ceil(round(every.max() * STEP, 9))
    ends = low / STEP, max(high, low + 1) / STEP
    counts = [np.histogram(side, bins, ends)[0].tolist() for side in sides]
    return Histograms(low=ends[0], high=ends[1], genuine=tuple(counts[0]), impostor=tuple(counts[1]))
