"""Pair accuracy over folds: each fold is measured at the threshold that was best on the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, EmptyScores, UsageError
from facewright.metrics.verification import best_threshold, roc

VIEW2_FOLDS = 10


@dataclass(frozen=True)
class Fold:
    """One fold, measured at a threshold chosen on all the others."""

    number: int  # as in the list of pairs
    threshold: float
    correct: int
    n: int  # pairs that count
    failures: int  # pairs without a score; among n where they count as errors

    @property
    def accuracy(self) -> float:
        return self.correct / self.n


@dataclass(frozen=True, eq=False)
class FoldAccuracy:
    """Accuracy over folds."""

    folds: tuple[Fold, ...]
    correct: NDArray[np.bool_]  # (P,) each pair; False for a failure
    counted: NDArray[np.bool_]  # (P,) False for failures that are left out

    @property
    def mean(self) -> float:
        return float(np.mean([fold.accuracy for fold in self.folds]))

    @property
    def std(self) -> float:
        """The sample standard deviation over folds (divided by folds - 1)."""
        return float(np.std([fold.accuracy for fold in self.folds], ddof=1))

    @property
    def standard_error(self) -> float:
        """std / sqrt(folds): how far the mean may be off. Others print std under this name."""
        return self.std / math.sqrt(len(self.folds))


def accuracy_over_folds(
    scores: ArrayLike,
    same: ArrayLike,
    folds: ArrayLike,
    failures: ArrayLike = (),
    number: int = VIEW2_FOLDS,
    leave_failures_out: bool = False,
) -> FoldAccuracy:
    """The protocol of LFW View 2: for each fold, the best threshold of the others, applied to it.

    The threshold has the best accuracy on the other folds among all midpoints between their distinct scores, rising,
    the first best. A failure to acquire (no image, no face found) has no score and no part in choosing; it stays in its
    fold and counts as an error, or is left out on request.

    Args:
        scores: (P,) finite similarities; at failures anything, NaN too. same: (P,) bool. folds: (P,) fold numbers.
        failures: indices of pairs without a score. number: how many folds there must be.
    Raises:
        UsageError: not the same pairs. DataError: a fold is missing, empty, or a score not finite.
        EmptyScores: the other folds lack genuine or impostor pairs. Undefined: all their scores are equal.
    Source: G. B. Huang et al., "Labeled Faces in the Wild", UMass Amherst 07-49 (2007), View 2; docs/protocols.md.
    """
    values, truth, part = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool), np.asarray(folds)
    failed = failure_mask(failures, values.size)
    if not values.shape == truth.shape == part.shape == (values.size,):
        raise UsageError(f"expected scores, same, folds (P,), got {values.shape}, {truth.shape}, {part.shape}")
    _check_folds(part, number)
    correct, counted = np.zeros(values.size, dtype=bool), ~failed if leave_failures_out else np.ones_like(failed)
    rows = []
    for k in np.unique(part):
        others, here = (part != k) & ~failed, (part == k) & counted
        if not here.any():
            raise EmptyScores(f"fold {k}: none of its {int((part == k).sum())} pairs has a score")
        threshold = best_threshold(roc(values[others & truth], values[others & ~truth]))
        scored = here & ~failed
        if not np.isfinite(values[scored]).all():
            raise DataError(f"fold {k}: expected finite scores; list pairs without one as failures")
        correct[scored] = (values[scored] >= threshold) == truth[scored]
        lost = int(((part == k) & failed).sum())
        rows.append(Fold(int(k), threshold, int(correct[here].sum()), int(here.sum()), lost))
    return FoldAccuracy(tuple(rows), correct, counted)


def failure_mask(failures: ArrayLike, n: int) -> NDArray[np.bool_]:
    """(n,) bool, true at the given indices; raises UsageError where one is out of range."""
    places = np.asarray(failures, dtype=np.int64).reshape(-1)
    if places.size and (places.min() < 0 or places.max() >= n):
        raise UsageError(f"failures: expected indices in [0, {n}), got {places.min()} to {places.max()}")
    mask = np.zeros(n, dtype=bool)
    mask[places] = True
    return mask


def _check_folds(folds: NDArray[np.generic], number: int) -> None:
    if number < 2:
        raise UsageError(f"expected at least two folds, got {number}: a fold's threshold comes from other folds")
    found = {int(k) for k in np.unique(folds)}
    first = min(found, default=0)
    expected = set(range(first, first + number))
    if first not in (0, 1) or found != expected:
        lost = sorted(expected - found)
        raise DataError(f"expected {number} folds, numbered from 0 or 1, got {sorted(found)}: missing {lost or 'none'}")
