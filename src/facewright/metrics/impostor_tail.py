"""A threshold for a false-positive identification rate (FPIR) that few enrolled photos cannot count.

The highest scores of enrolled photos with other people, joined with the impostor scores that the model carries (its
prior), are fitted by a generalized Pareto distribution. It gives the false-match rate FMR(t) of one comparison, and
with N people FPIR(t) = 1 - (1 - FMR(t))^N. The fit is repeated on resampled people and prior scores; the threshold
meets the target on average, or, with a confidence, in that share of the repetitions.

The shape is limited to [-0.25, 0]: cosines have an end, but few scores would often put it below the next impostor. The
weight of a prior's exceedances grows with the photos of a person, to the power of 0.75.

Sources: J. R. M. Hosking and J. R. Wallis, Parameter and Quantile Estimation for the Generalized Pareto Distribution,
Technometrics 29 (1987), probability-weighted moments; ISO/IEC 19795-1 for FPIR from FMR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import model_validator

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.records import Record

TAIL = 0.1  # share of the scores that the distribution is fitted to, at most
MOST = 4_000  # scores that it is fitted to
REPETITIONS = 200
MOST_PRIOR = 2_000  # comparisons that a prior counts for
SHAPE = (-0.25, -1e-6)  # bounds of the shape parameter
STEPS = 50  # of the bisection, to a precision of 2^-50
BINS = 50
HUNDREDTHS = 100  # ranges begin and end at hundredths

Scores = NDArray[np.float64]


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
    low, high = math.floor(round(every.min() * HUNDREDTHS, 9)), math.ceil(round(every.max() * HUNDREDTHS, 9))
    ends = low / HUNDREDTHS, max(high, low + 1) / HUNDREDTHS
    counts = [np.histogram(side, bins, ends)[0].tolist() for side in sides]
    return Histograms(low=ends[0], high=ends[1], genuine=tuple(counts[0]), impostor=tuple(counts[1]))


@dataclass(frozen=True, eq=False)
class Comparisons:
    """The photos of N people, each compared with every other person."""

    scores: Scores  # (C,) of the nearest photo of the other person
    people: NDArray[np.int64]  # (C, 2) the photo's person and the other one, in [0, N)
    photos: NDArray[np.int64]  # (N,) of each person


@dataclass(frozen=True, eq=False)
class Tails:
    """R repetitions of the fit; FMR(t) = share (1 + shape (t - start) / scale)^(-1 / shape)."""

    start: float
    share: Scores  # (R,) of the comparisons above `start`
    scale: Scores  # (R,)
    shape: Scores  # (R,), negative

    def fpir(self, threshold: float, people: int) -> Scores:
        """The rate among so many people by each repetition, (R,)."""
        rest = np.maximum(1 + self.shape * max(threshold - self.start, 0) / self.scale, 0)
        return np.asarray(1 - (1 - self.share * rest ** (-1 / self.shape)) ** people)


def compare_people(vectors: NDArray[np.float32], people: NDArray[np.int64]) -> Comparisons:
    """Compare each photo, (P, D) unit vectors, with every other person; people: (P,) 0 to N - 1, ascending."""
    starts = np.flatnonzero(np.r_[True, people[1:] != people[:-1]])
    best = np.maximum.reduceat(vectors @ vectors.T, starts, axis=1).astype(np.float64)  # (P, N)
    other = people[:, None] != np.arange(starts.size)
    photo, person = np.nonzero(other)
    pairs = np.stack([people[photo], person], axis=1)
    return Comparisons(best[other], pairs, np.diff(np.r_[starts, people.size]))


def scores_of(histograms: Histograms | None) -> Scores:
    """The impostor scores that a histogram stands for, spread evenly within each bin."""
    if histograms is None:
        return np.zeros(0)
    ends = np.linspace(histograms.low, histograms.high, len(histograms.impostor) + 1)
    bins = zip(ends[:-1], ends[1:], histograms.impostor, strict=True)
    return np.concatenate([low + (np.arange(count) + 0.5) * (high - low) / max(count, 1) for low, high, count in bins])


def fit(comparisons: Comparisons, prior: Scores, seed: int = 0) -> Tails:
    """Fit the tail of the non-mated scores, on resampled people and prior scores (Q,) of other people, or none."""
    drawn, count = np.random.default_rng(seed), comparisons.photos.size
    both = np.concatenate([comparisons.scores, prior])
    start = float(np.quantile(both, 1 - min(TAIL, MOST / both.size)))
    order = np.argsort(both, kind="stable")
    order = order[both[order] > start]
    own = order < comparisons.scores.size
    resampled = drawn.multinomial(count, np.full(count, 1 / count), REPETITIONS).astype(np.float64)  # (R, N)
    weights = np.empty((REPETITIONS, order.size))
    pairs = comparisons.people[order[own]]
    weights[:, own] = resampled[:, pairs[:, 0]] * resampled[:, pairs[:, 1]]
    total = (resampled * comparisons.photos).sum(1) * count - (resampled**2 * comparisons.photos).sum(1)
    if prior.size:
        each = min(MOST_PRIOR, prior.size) / prior.size
        again = drawn.multinomial(prior.size, np.full(prior.size, 1 / prior.size), REPETITIONS)
        factor = each * float(comparisons.photos.mean()) ** 0.75
        weights[:, ~own] = again[:, order[~own] - comparisons.scores.size] * factor
        total = total + each * prior.size
    share, scale, shape = _moments(weights, both[order] - start, total)
    return Tails(start, share, scale, shape)


def score_at(impostors: Scores, fmr: float) -> float:
    """The score that a share `fmr` of impostors reach: counted within the scores, by the fitted tail beyond them.

    Args:
        impostors: (Q,) scores of different people, at least 20. fmr: the false-match rate, in (0, 1].

    >>> round(score_at(np.linspace(0, 1, 1001), 0.25), 3)
    0.75
    """
    start = float(np.quantile(impostors, 1 - TAIL))
    if fmr >= TAIL:
        return float(np.quantile(impostors, 1 - fmr))
    excesses = np.sort(impostors[impostors > start] - start)
    if not excesses.size:
        return start
    share, scale, shape = _moments(np.ones((1, excesses.size)), excesses, np.array([float(impostors.size)]))
    rest: float = (float(share[0]) / fmr) ** float(shape[0])
    return min(1.0, start + float(scale[0]) * (rest - 1) / float(shape[0]))


def _moments(weights: Scores, excesses: Scores, total: Scores) -> tuple[Scores, Scores, Scores]:
    """Share, scale and shape by weighted probability-weighted moments, of each repetition that has excesses."""
    sums = weights.sum(1)
    some = (sums > 0) & (total > 0)
    weights, sums, total = weights[some], sums[some], total[some]
    places = (np.cumsum(weights, axis=1) - 0.35 * weights) / sums[:, None]
    first = (weights * excesses).sum(1) / sums
    second = (weights * (1 - places) * excesses).sum(1) / sums
    shape = np.clip(2 - first / np.maximum(first - 2 * second, 1e-12), *SHAPE)
    return np.minimum(sums / total, 1), np.maximum(first * (1 - shape), 1e-12), shape


def threshold_for(tails: Tails, people: int, fpir: float, confidence: float | None) -> float:
    """The lowest threshold that meets a target among so many people, on average or with a confidence.

    Raises:
        UsageError: the target or the confidence is not in (0, 1). Undefined: all scores are equal.
    """
    if not tails.share.size:
        raise Undefined("all people of the gallery are equally similar; the model does not tell them apart")
    if not 0 < fpir < 1 or not (confidence is None or 0 < confidence < 1):
        raise UsageError(f"expected a rate and a confidence in (0, 1), got {fpir} and {confidence}")
    low, high = tails.start, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        rates = tails.fpir(middle, people)
        rate = rates.mean() if confidence is None else np.quantile(rates, confidence)
        low, high = (low, middle) if rate <= fpir else (middle, high)
    return high
