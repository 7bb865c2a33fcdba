"""Histograms of genuine and impostor scores: counts in equal bins, stored with a threshold."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from pydantic import model_validator

from facewright.errors import DataError, EmptyScores, UsageError
from facewright.records import Record

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
