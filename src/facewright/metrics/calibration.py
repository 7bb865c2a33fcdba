"""From scores to what they stand for: values of a task, reliability of confidences, probability of a similarity.

Two maps from a similarity to a probability are tried, a logistic and an isotonic one; the one with the lower log loss
on pairs it was not fitted to is fitted again on all pairs and kept. The probability is for pairs mixed like these:
among equally many genuine and impostor pairs 0.5 means one thing, among one genuine pair in a thousand another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import model_validator

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics.classification import SMALLEST_PROBABILITY
from facewright.metrics.intervals import Rate, same_length, wilson
from facewright.metrics.people import people_halves, people_of
from facewright.metrics.verification import two_sides
from facewright.records import Record

if TYPE_CHECKING:
    from facewright.specs import NumberSpec, Target, TaskSpec

BINS = 15
Method = Literal["logistic", "isotonic"]
METHODS: tuple[Method, ...] = ("logistic", "isotonic")
FOLDS = 5  # where it is not known who is in the pairs
Fold = tuple[NDArray[np.bool_], NDArray[np.bool_]]  # fitted on, scored on: masks (P,)


@dataclass(frozen=True)
class Bin:
    """Images of neighbouring confidence."""

    low: float  # the least confidence in the bin
    high: float  # the greatest
    confidence: float  # the mean
    accuracy: Rate  # how many of them were right, with Wilson's interval


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> tuple[Bin, ...]:
    """Sort images by confidence into bins of equal mass.

    Equal confidences never part: a boundary that would fall into a run of them moves down to its start. So there may be
    fewer bins than asked for, and never an empty one.

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
    wanted = [round(i * scores.size / bins) for i in range(1, bins)]
    starts = {int(np.searchsorted(scores, scores[i], side="left")) for i in wanted if i < scores.size}
    return tuple(
        Bin(float(scores[a]), float(scores[b - 1]), float(scores[a:b].mean()), wilson(int(right[a:b].sum()), b - a))
        for a, b in pairwise(sorted(starts | {0, scores.size}))
    )


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


class ScoreCalibration(Record):
    """A rising map from a score to a probability in (0, 1).

    logistic: 1 / (1 + exp(-(slope * score + intercept))). isotonic: straight lines between (scores, probabilities),
    level beyond the first and the last.
    """

    method: Method
    slope: float | None
    intercept: float | None
    scores: tuple[float, ...]  # rising; empty for the logistic map
    probabilities: tuple[float, ...]  # rising, in (0, 1)
    log_loss: Mapping[str, float]  # held out, nats a pair, of both methods
    genuine: int  # pairs it was fitted on
    impostors: int
    data: str  # what they were

    @model_validator(mode="after")
    def _rising(self) -> ScoreCalibration:
        if (self.slope is not None and self.intercept is not None) != (self.method == "logistic"):
            raise ValueError(f"{self.method!r} with slope {self.slope}, intercept {self.intercept}")
        if self.slope is not None and self.slope <= 0:
            raise ValueError(f"expected a slope above 0, got {self.slope}")
        if self.method == "isotonic":
            scores, values = self.scores, self.probabilities
            rising = all(a < b for a, b in pairwise(scores)) and all(a <= b for a, b in pairwise(values))
            if not (rising and all(0 < p < 1 for p in values) and len(scores) == len(values) > 0):
                raise ValueError("expected rising scores with as many rising probabilities in (0, 1)")
        return self

    def probability(self, score: float) -> float:
        """The probability that a pair with this score is of one person."""
        return float(self.probabilities_of([score])[0])

    def probabilities_of(self, scores: ArrayLike) -> NDArray[np.float64]:
        """`probability` of each of (P,) scores.

        Raises:
            DataError: a score is not finite.
        """
        values = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(values).all():
            raise DataError("expected finite scores, got NaN or infinity: the model's output is broken")
        if self.slope is not None and self.intercept is not None:
            return np.asarray(_sigmoid(self.slope * values + self.intercept), dtype=np.float64)
        return np.interp(values, self.scores, self.probabilities)


def calibrate_scores(
    scores: ArrayLike, same: ArrayLike, data: str, people: ArrayLike | None = None, seed: int = 0
) -> ScoreCalibration:
    """Fit the map from score to probability, logistic or isotonic, whichever does better on held-out pairs.

    Held out are, where the people are known, the pairs within either half of the people, else five stratified folds.

    Args:
        scores: (P,) finite similarities. same: (P,) bool. data: what the pairs are, for the record.
        people: (P, 2) names. seed: of the split.
    Raises:
        EmptyScores: either kind of pair is absent. Undefined: genuine pairs do not score above impostors, or there are
        too few to hold any out. DataError: a score is not finite. UsageError: not the same pairs.
    Source: J. C. Platt, "Probabilistic outputs for support vector machines" (1999), with its smoothed targets;
    B. Zadrozny and C. Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if values.shape != truth.shape:
        raise UsageError(f"expected scores and same (P,), got {values.shape} and {truth.shape}")
    two_sides(values[truth], values[~truth])  # refuses what is empty or not finite
    parts = _parts(truth, people, seed)
    losses: dict[str, float] = {method: _held_out_loss(method, values, truth, parts) for method in METHODS}
    best = min(METHODS, key=lambda method: losses[method])  # the logistic map where they are equal
    return _fit(best, values, truth, losses, data)


def _fit(
    method: Method, scores: NDArray[np.float64], same: NDArray[np.bool_], losses: Mapping[str, float], data: str
) -> ScoreCalibration:
    slope, intercept = _logistic(scores, same) if method == "logistic" else (None, None)
    knots, values = _isotonic(scores, same) if method == "isotonic" else ((), ())
    genuine = int(same.sum())
    return ScoreCalibration(
        method=method,
        slope=slope,
        intercept=intercept,
        scores=knots,
        probabilities=values,
        log_loss=losses,
        genuine=genuine,
        impostors=same.size - genuine,
        data=data,
    )


def _logistic(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of the least log loss against Platt's targets: finite where a threshold makes no error."""
    genuine = int(same.sum())
    targets = np.where(same, (genuine + 1) / (genuine + 2), 1 / (same.size - genuine + 2))
    centre, scale = float(scores.mean()), float(scores.std())
    if scale == 0:
        raise Undefined(f"all scores are {centre:g}: they tell nothing apart")
    standard = (scores - centre) / scale

    a, b = _newton(standard, targets)
    if a <= 0:
        raise Undefined("genuine pairs do not score above impostor pairs: there is nothing to calibrate")
    return float(a / scale), float(b - a * centre / scale)


def _newton(scores: NDArray[np.float64], targets: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the logistic map with the least log loss, by Newton's method with halved steps.

    Source: Lin, Lin and Weng 2007, "A note on Platt's probabilistic outputs for support vector machines".
    """

    def loss(at: NDArray[np.float64]) -> float:
        logits = at[0] * scores + at[1]
        return float((np.logaddexp(0, logits) - targets * logits).mean())

    features = np.stack([scores, np.ones_like(scores)], axis=1)
    at = np.zeros(2)
    for _ in range(100):
        chance = _sigmoid(features @ at)
        slope = features.T @ (chance - targets) / len(scores)
        if np.abs(slope).max() < 1e-12:
            break
        curvature = (features.T * (chance * (1 - chance))) @ features / len(scores) + 1e-12 * np.eye(2)
        step, before = np.linalg.solve(curvature, slope), loss(at)
        while loss(at - step) > before and np.abs(step).max() > 1e-12:
            step = step / 2
        at = at - step
    return float(at[0]), float(at[1])


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), np.float64)


def _rising(scores: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """The least squares rising map: its knots and values there, by pooling adjacent violators."""
    knots, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    pools: list[list[float]] = []  # sum, weight, knots
    for total, weight in zip(np.bincount(places, values).tolist(), counts.tolist(), strict=True):
        pools.append([total, weight, 1])
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] >= pools[-1][0] * pools[-2][1]:
            last = pools.pop()
            pools[-1] = [one + other for one, other in zip(pools[-1], last, strict=True)]
    levels = np.repeat([total / weight for total, weight, _ in pools], [int(pool[2]) for pool in pools])
    turns = np.flatnonzero(np.diff(levels))
    kept = np.unique(np.concatenate([[0], turns, turns + 1, [len(levels) - 1]]))
    return knots[kept], levels[kept]


def _isotonic(scores: NDArray[np.float64], same: NDArray[np.bool_]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots of the least squares rising map, kept 1 / (P + 2) away from 0 and 1: no count shows certainty."""
    least = 1 / (scores.size + 2)
    knots, values = _rising(scores, same.astype(np.float64))
    values = np.clip(values, least, 1 - least)
    if values[0] == values[-1]:
        raise Undefined("genuine pairs do not score above impostor pairs: there is nothing to calibrate")
    return tuple(knots.tolist()), tuple(values.tolist())


def _parts(same: NDArray[np.bool_], people: ArrayLike | None, seed: int) -> list[Fold]:
    if people is None:
        folds = np.empty(same.size, dtype=np.int64)
        generator = np.random.default_rng(seed)
        for side in (True, False):
            places = np.flatnonzero(same == side)
            folds[generator.permutation(places)] = np.arange(places.size) % FOLDS
        parts = [(folds != k, folds == k) for k in range(FOLDS)]
    else:
        half = people_halves(people_of(people, same), seed)
        parts = [(half == 1 - k, half == k) for k in range(2)]
    for part in (side for pair in parts for side in pair):
        if not (part & same).any() or not (part & ~same).any():
            raise Undefined(
                f"{int(same.sum())} genuine and {int((~same).sum())} impostor pairs are too few to hold any out"
            )
    return parts


def _held_out_loss(method: Method, scores: NDArray[np.float64], same: NDArray[np.bool_], parts: list[Fold]) -> float:
    losses = []
    for fitted, held in parts:
        chance = _fit(method, scores[fitted], same[fitted], {}, "").probabilities_of(scores[held])
        of_truth = np.where(same[held], chance, 1 - chance)
        losses.append(-np.log(np.maximum(of_truth, SMALLEST_PROBABILITY)))
    return float(np.concatenate(losses).mean())


def sigmoid(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the probability that a logit means, of any size.

    >>> sigmoid([0.0, -1000.0]).tolist()
    [0.5, 0.0]
    """
    return np.asarray(0.5 * (1.0 + np.tanh(np.asarray(scores, np.float64) / 2)), np.float64)


def number_values(scores: NDArray[np.float64], spec: NumberSpec) -> NDArray[np.float64]:
    """Return the numbers (N,) that scores (N, K) mean, in the number's units.

    >>> from facewright.specs import NumberSpec
    >>> spec = NumberSpec(head="dex", bins=3, low=0.0, high=100.0)
    >>> number_values(np.array([[0.0, 0.0, 0.0], [0.0, 50.0, 0.0]]), spec).round(6).tolist()
    [50.0, 50.0]
    """
    low, high = spec.ends
    if spec.head == "dex":
        return np.asarray(softmax(scores) @ np.linspace(low, high, spec.bins), np.float64)
    if spec.head == "coral":
        return np.asarray(low + (scores > 0).sum(axis=1) * ((high - low) / (spec.bins - 1)), np.float64)
    return np.asarray((low + high) / 2 + scores[:, 0] * ((high - low) / 2), np.float64)


def target_values(scores: NDArray[np.float64], task: TaskSpec) -> NDArray[np.float64]:
    """Return the values (N, V) that scores (N, S) mean: probabilities, of yes or of each class, and numbers."""
    return np.concatenate([_values(scores[:, part.scores], part.target) for part in task.parts], axis=1)


def _values(scores: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    if target.kind == "attribute":
        return sigmoid(scores)
    return softmax(scores) if target.number is None else number_values(scores, target.number)[:, None]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities from scores, (B, C) -> (B, C)."""
    powers = np.asarray(logits - logits.max(axis=1, keepdims=True, initial=-np.inf), np.float64)
    np.exp(powers, out=powers)  # in place: of a million classes each array is large
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
