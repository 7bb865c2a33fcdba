"""Parts of a list of pairs: folds, halves that share no person, and intervals by resampling people.

A Clopper-Pearson interval takes pairs as independent. They are not: one person who is hard to tell apart affects every
pair with that person. Drawing people instead of pairs shows how much a number would move with *other people*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics.intervals import Rate, not_a_point
from facewright.metrics.verification import Roc, best_threshold, eer, roc

RESAMPLES = 1_000
Statistics = Callable[[NDArray[np.int64]], list[float]]  # weights of pairs (P,) -> values; NaN where undefined
VIEW2_FOLDS = 10


@dataclass(frozen=True, eq=False)
class People:
    """The people of each pair."""

    pairs: NDArray[np.int64]  # (P, 2) numbers in [0, count)
    count: int


def people_of(names: ArrayLike, same: ArrayLike) -> People:
    """Number the people of pairs, in the order of their names.

    Args:
        names: (P, 2) names or numbers. same: (P,) bool.
    Raises:
        UsageError: not the same pairs. DataError: a genuine pair of two names, or an impostor pair of one.
    >>> people_of([["bo", "al"], ["bo", "bo"]], [False, True]).pairs.tolist()
    [[1, 0], [1, 1]]
    """
    given, truth = np.asarray(names), np.asarray(same, dtype=bool)
    if given.shape != (truth.size, 2):
        raise UsageError(f"expected two names a pair, ({truth.size}, 2), got {given.shape}")
    _, numbers = np.unique(given, return_inverse=True)
    pairs = numbers.reshape(-1, 2).astype(np.int64)
    contrary = np.flatnonzero((pairs[:, 0] == pairs[:, 1]) != truth)
    if contrary.size:
        i = int(contrary[0])
        said = "the same person" if truth[i] else "two people"
        raise DataError(f"pair {i} is said to be of {said}, its names are {given[i, 0]} and {given[i, 1]}")
    return People(pairs, int(pairs.max(initial=-1)) + 1)


def identity_bootstrap(
    statistics: Statistics, people: People, seed: int = 0, resamples: int = RESAMPLES
) -> list[Rate | None]:
    """Percentile intervals of statistics of pairs, over resampled people.

    As many people are drawn with replacement as there are; an impostor pair then counts as often as the product of how
    often its two people were drawn, a genuine pair as often as its one person. Of fewer than ten it is too narrow.

    Args:
        statistics: from the weights (P,), whole numbers, to values. seed: of the draws.
    Returns:
        For each statistic its value at weight one, the 2.5 and 97.5 percentiles, and the number of people as n; None
        where it is undefined as it stands or in more than half of the resamples.
    Raises:
        Undefined: no pair.
    Source: R. M. Bolle et al., "Error analysis of pattern recognition systems: the subsets bootstrap", Computer Vision
    and Image Understanding 93 (2004); weights by products of multiplicities as in A. B. Owen, "The pigeonhole
    bootstrap", Annals of Applied Statistics 1 (2007).
    """
    if people.count == 0:
        raise Undefined("a statistic of no pairs is undefined")
    generator = np.random.default_rng(seed)
    first, second = people.pairs.T
    observed = statistics(np.ones(first.size, dtype=np.int64))
    drawn = np.empty((resamples, len(observed)))
    for row in drawn:
        times = np.bincount(generator.integers(people.count, size=people.count), minlength=people.count)
        row[:] = statistics(np.where(first == second, times[first], times[first] * times[second]))
    return [_interval(value, column, people.count) for value, column in zip(observed, drawn.T, strict=True)]


def weighted_rates(scores: ArrayLike, same: ArrayLike, fars: tuple[float, ...]) -> Statistics:
    """The equal error rate and the TAR at each target in (0, 1] as functions of the weights of P pairs."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    order = np.argsort(-values, kind="stable")
    ranked, genuine = values[order], truth[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)  # the last of each run of equal scores
    thresholds = np.concatenate([[np.inf], ranked[last]])
    targets = [Fraction(repr(float(far))) for far in fars]

    def statistics(weights: NDArray[np.int64]) -> list[float]:
        heavy = weights[order]
        accepts = [np.concatenate([[0], np.cumsum(heavy * side)[last]]) for side in (~genuine, genuine)]
        curve = Roc(thresholds, accepts[0], accepts[1], int(accepts[0][-1]), int(accepts[1][-1]))
        if curve.impostors == 0 or curve.genuine == 0:
            return [math.nan] * (1 + len(targets))
        return [eer(curve).value, *(_tar(curve, target) for target in targets)]

    return statistics


def weighted_share(hits: ArrayLike, counted: ArrayLike) -> Statistics:
    """The share of counted pairs that are hits as a function of the weights of pairs."""
    right, among = np.asarray(hits, dtype=bool), np.asarray(counted, dtype=bool)

    def statistics(weights: NDArray[np.int64]) -> list[float]:
        total = int(weights[among].sum())
        return [int(weights[among & right].sum()) / total if total else math.nan]

    return statistics


def people_halves(people: People, seed: int = 0) -> NDArray[np.int64]:
    """Split pairs into two halves that share no person: choose on one, score on the other.

    Returns:
        (P,) 0 or 1; -1 for a pair whose two people fall into different halves, which neither half may use.
    >>> people_halves(people_of([["al", "al"], ["bo", "bo"], ["al", "bo"]], [True, True, False])).tolist()
    [0, 1, -1]
    """
    shuffled = np.random.default_rng(seed).permutation(people.count)
    half = np.empty(people.count, dtype=np.int64)
    half[shuffled] = np.arange(people.count) % 2
    first, second = half[people.pairs[:, 0]], half[people.pairs[:, 1]]
    return np.where(first == second, first, -1).astype(np.int64)


def _tar(curve: Roc, far: Fraction) -> float:
    allowed = math.floor(far * curve.impostors)  # may be 0: a resample is not refused for what it drew
    i = int(np.searchsorted(curve.false_accepts, allowed, side="right")) - 1
    return float(curve.true_accepts[i] / curve.genuine)


def _interval(value: float, drawn: NDArray[np.float64], n: int) -> Rate | None:
    defined = drawn[~np.isnan(drawn)]
    if math.isnan(value) or 2 * defined.size < drawn.size:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return not_a_point(Rate(value=value, low=float(low), high=float(high), n=n))


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

    A failure to acquire (no image, no face found) has no score and no part in choosing a threshold (`best_threshold`);
    it stays in its fold and counts as an error, or is left out on request.

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
