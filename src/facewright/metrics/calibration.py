"""Does a probability of 0.8 mean right eight times in ten? Reliability diagram and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, EmptyScores
from facewright.metrics.intervals import Rate, same_length, wilson

BINS = 15


@dataclass(frozen=True)
class Bin:
    """Images of neighbouring confidence."""

    low: float  # the least confidence in the bin
    high: float  # the greatest
    confidence: float  # the mean
    accuracy: Rate  # how many of them were right, with Wilson's interval


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> tuple[Bin, ...]:
    """Sort images by confidence into bins of equal mass.

    Equal confidences never part, so the result does not depend on the order of the images: a boundary that would fall
    into a run of them moves down to its start. So there may be fewer bins than asked for, and never an empty one.

    Args:
        confidence: (N,) in [0, 1], the highest probability of each image. correct: (N,) bool. bins: at most this many.
    Raises:
        EmptyScores: no image. DataError: a confidence that is not in [0, 1].
    """
    scores, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    same_length(scores, right)
    if scores.size == 0:
        raise EmptyScores("calibration needs images, got none")
    if not ((scores >= 0) & (scores <= 1)).all():  # false for NaN, too
        raise DataError(f"expected confidences in [0, 1], got {scores[~((scores >= 0) & (scores <= 1))][0]}")
    order = np.argsort(scores, kind="stable")
    scores, right = scores[order], right[order]
    return tuple(_bin(scores[a:b], right[a:b]) for a, b in _spans(scores, bins))


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> float:
    """The mean over images of |accuracy - mean confidence| of the bin each lies in; lower is better.

    Args, Raises: as `reliability`.
    Source: M. P. Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015; bins of
    equal mass instead of equal width, so that none rests on a handful of images (Nixon et al., CVPR Workshops 2019).
    >>> expected_calibration_error([0.75, 0.75, 0.75, 0.75], [True, True, False, False])
    0.25
    """
    table = reliability(confidence, correct, bins)
    total = sum(row.accuracy.n for row in table)
    return float(sum(row.accuracy.n * abs(row.accuracy.value - row.confidence) for row in table) / total)


def _spans(scores: NDArray[np.float64], bins: int) -> list[tuple[int, int]]:
    wanted = [round(i * scores.size / bins) for i in range(1, bins)]
    starts = {int(np.searchsorted(scores, scores[i], side="left")) for i in wanted if i < scores.size}
    cuts = sorted(starts | {0, scores.size})
    return list(pairwise(cuts))


def _bin(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Bin:
    accuracy = wilson(int(right.sum()), right.size)
    return Bin(float(scores[0]), float(scores[-1]), float(scores.mean()), accuracy)
