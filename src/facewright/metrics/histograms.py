"""How the scores of genuine and impostor pairs are spread: counts in equal bins, to be kept with a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from facewright.errors import DataError, EmptyScores, UsageError

BINS = 50
STEP = 100  # ranges begin and end at hundredths


@dataclass(frozen=True)
class Histograms:
    """Scores in K equal bins from `low` to `high`; a bin has its lower end, the last one both."""

    low: float
    high: float
    genuine: tuple[int, ...]  # K
    impostor: tuple[int, ...]  # K

    def to_dict(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self) | {"genuine": list(self.genuine), "impostor": list(self.impostor)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Histograms:
        """The inverse of `to_dict`.

        Raises:
            DataError: the facts are no such counts.
        """
        try:
            low, high = float(facts["low"]), float(facts["high"])
            genuine, impostor = (tuple(int(count) for count in facts[side]) for side in ("genuine", "impostor"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"no histograms: {type(error).__name__} {error}") from None
        if not (math.isfinite(low) and low < high < math.inf) or not genuine or len(genuine) != len(impostor):
            raise DataError(f"no histograms: expected equal bins from low to high, got {low:g} to {high:g}")
        if min(*genuine, *impostor) < 0:
            raise DataError("no histograms: expected counts of at least 0")
        return cls(low, high, genuine, impostor)


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
    return Histograms(*ends, tuple(counts[0]), tuple(counts[1]))
