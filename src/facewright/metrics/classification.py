"""Quality of a closed-set classifier: rates per class and over classes, ranking quality, log loss, curves.

Scores are probabilities (N, C); the predicted class is the first of the highest. What does not exist for the given
labels is undefined: pure functions raise `Undefined`, tables over classes hold None. Macro averages are means over the
classes that have an image; the undefined precision of a class that is never predicted counts as 0, as in scikit-learn
with `labels=unique(y_true), zero_division=0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import DataError, EmptyScores, Undefined
from facewright.metrics.intervals import Rate, Tally, class_numbers, normal_quantile, not_a_point, same_length, wilson

SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)  # log loss clips to this: one impossible answer costs 36 nats
_Z = -normal_quantile(0.025)


def accuracy(labels: ArrayLike, predicted: ArrayLike) -> Rate:
    """The share of images whose predicted class is the true one, of (N,) class numbers each, with Wilson's interval.

    Raises:
        Undefined: no image. UsageError: not the same images.
    >>> accuracy([0, 1, 2, 2], [0, 1, 2, 0]).value
    0.75
    """
    truth, guess = np.asarray(labels), np.asarray(predicted)
    same_length(truth, guess)
    return wilson(int((truth == guess).sum()), truth.size)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts [true class][predicted class], (C, C).

    Args:
        labels, predicted: (N,) class numbers in [0, classes).
    Raises:
        UsageError: not the same images, or a number that is no class.
    >>> confusion_matrix([0, 0, 1], [0, 1, 1], classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    truth, guess = class_numbers(labels, classes, "labels"), class_numbers(predicted, classes, "predicted")
    same_length(truth, guess)
    return np.bincount(truth * classes + guess, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def precision(counts: Tally) -> NDArray[np.float64]:
    """Hits / predicted of each class, (..., C); NaN where the class is never predicted."""
    return _ratio(counts.hits, counts.predicted)


def recall(counts: Tally) -> NDArray[np.float64]:
    """Hits / labelled of each class, (..., C); NaN where the class has no image."""
    return _ratio(counts.hits, np.broadcast_to(counts.labelled, counts.hits.shape))


def f1(counts: Tally) -> NDArray[np.float64]:
    """2 hits / (labelled + predicted) of each class, (..., C); NaN where the class neither occurs nor is predicted.

    The harmonic mean of precision and recall where both exist; 0 where the class occurs and is never predicted.
    """
    return _ratio(2 * counts.hits, counts.labelled + counts.predicted)


def macro_precision(counts: Tally) -> NDArray[np.float64]:
    """The mean precision over the classes that have an image; see the head of this file. (..., C) -> (...)."""
    return _macro(precision(counts), counts)


def macro_recall(counts: Tally) -> NDArray[np.float64]:
    """The mean recall over the classes that have an image, also called balanced accuracy. (..., C) -> (...)."""
    return _macro(recall(counts), counts)


def macro_f1(counts: Tally) -> NDArray[np.float64]:
    """The mean F1 over the classes that have an image. (..., C) -> (...)."""
    return _macro(f1(counts), counts)


def weighted(values: NDArray[np.float64], counts: Tally) -> float:
    """The mean over classes of (C,) values weighted by their numbers of images; undefined values count as 0."""
    if counts.labelled.sum() == 0:
        raise Undefined("a mean over no images is undefined")
    return float((np.nan_to_num(values, nan=0.0) * counts.labelled).sum() / counts.labelled.sum())


def losses(of_truth: ArrayLike) -> NDArray[np.float64]:
    """The log loss of each image, -ln of the probability of its class, in nats: (N,) -> (N,); lower is better.

    Probabilities are clipped from below to `SMALLEST_PROBABILITY` (2.2e-16).
    >>> losses([0.5, 0.25]).round(4).tolist()
    [0.6931, 1.3863]
    """
    return np.asarray(-np.log(np.clip(np.asarray(of_truth, np.float64), SMALLEST_PROBABILITY, 1.0)), np.float64)


def ranks(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of each image's class among its scores, (N,) and (N, C) -> (N,): 1 for the only highest.

    A tie counts against the model: a class with the same score as the true one stands before it. So a model that gives
    every class the same score has a top-k of 0, not of whatever the order of the classes makes of it.
    """
    of_truth = scores[np.arange(labels.size), labels][:, None]
    return np.asarray((scores >= of_truth).sum(axis=1), np.int64)


def highest(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """The k classes of the highest scores of each image, best first, of equals the first: (N, C) -> (N, min(k, C)).

    >>> highest(np.array([[0.2, 0.4, 0.4], [0.5, 0.1, 0.4]]), 2).tolist()
    [[1, 2], [0, 2]]
    """
    left, rows = scores.copy(), np.arange(len(scores))
    found = np.empty((len(scores), min(k, scores.shape[1])), np.int64)
    for place in range(found.shape[1]):
        found[:, place] = left.argmax(axis=1)
        left[rows, found[:, place]] = -np.inf
    return found


@dataclass(frozen=True)
class Curve:
    """Points of a ROC or precision-recall curve, (T,) each; one point a distinct score, from strict to lax."""

    thresholds: NDArray[np.float64]  # accept iff score >= threshold; the first is inf: nothing is accepted
    x: NDArray[np.float64]  # ROC: false-positive rate; PR: recall
    y: NDArray[np.float64]  # ROC: true-positive rate; PR: precision


def roc_curve(positive: ArrayLike, scores: ArrayLike) -> Curve:
    """False- and true-positive rates at every threshold; equal scores are accepted together.

    Args:
        positive: (N,) bool. scores: (N,), finite, higher is more likely positive.
    Returns:
        From (0, 0) to (1, 1); every distinct score kept.
    Raises:
        Undefined: positives only or negatives only (EmptyScores: neither). DataError: a score that is not finite.
    >>> curve = roc_curve([True, False, True], [0.9, 0.5, 0.5])
    >>> curve.x.tolist(), curve.y.tolist()
    ([0.0, 0.0, 1.0], [0.0, 0.5, 1.0])
    """
    thresholds, hits, alarms = _steps(positive, scores)
    if hits[-1] == 0 or alarms[-1] == 0:
        only = "negatives" if hits[-1] == 0 else "positives"
        raise Undefined(f"a ROC curve needs positives and negatives, got {only} only")
    return Curve(thresholds, alarms / alarms[-1], hits / hits[-1])


def pr_curve(positive: ArrayLike, scores: ArrayLike) -> Curve:
    """Recall (x) and precision (y) at every threshold; equal scores are accepted together.

    Args: as `roc_curve`.
    Returns:
        From recall 0, where the precision is set to 1 by convention (nothing is accepted), to recall 1.
    Raises:
        Undefined: no positive. DataError: a score that is not finite.
    """
    thresholds, hits, alarms = _steps(positive, scores)
    if hits[-1] == 0:
        raise Undefined("a precision-recall curve needs a positive, got negatives only")
    accepted = hits + alarms
    return Curve(thresholds, hits / hits[-1], np.where(accepted == 0, 1.0, hits / np.maximum(accepted, 1)))


def roc_auc(positive: ArrayLike, scores: ArrayLike) -> float:
    """The chance that a positive scores above a negative, ties counting half: the area under `roc_curve`.

    Args, Raises: as `roc_curve`.
    >>> roc_auc([True, True, False, False], [0.9, 0.5, 0.5, 0.1])
    0.875
    """
    curve = roc_curve(positive, scores)
    return float((np.diff(curve.x) * (curve.y[1:] + curve.y[:-1]) / 2).sum())


def average_precision(positive: ArrayLike, scores: ArrayLike) -> float:
    """The mean precision over the steps of recall, without interpolation: sum of (R_t - R_{t-1}) P_t.

    Args, Raises: as `pr_curve`.
    >>> average_precision([True, False, True, False], [0.9, 0.8, 0.7, 0.1]).__round__(4)
    0.8333
    """
    curve = pr_curve(positive, scores)
    return float((np.diff(curve.x) * curve.y[1:]).sum())


def defined_mean(values: list[float | None]) -> float | None:
    """The mean of the values that exist; None where none does."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _steps(positive: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Thresholds from inf down through every distinct score; positives and negatives accepted at each, (T,)."""
    truth, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    same_length(truth, values)
    if values.size == 0:
        raise EmptyScores("a curve needs scores, got none")
    _refuse_nonfinite(values)
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)  # the last of each run of equal scores
    hits = np.cumsum(truth[order])[last]
    thresholds = np.concatenate([[np.inf], ranked[last]])
    return thresholds, np.concatenate([[0], hits]), np.concatenate([[0], last + 1 - hits])


def _refuse_nonfinite(values: NDArray[np.float64]) -> None:
    if not np.isfinite(values).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise DataError(f"expected finite scores, got {values[first]} at {first}: the model's output is broken there")


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    shares = np.full(part.shape, np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares


def _macro(values: NDArray[np.float64], counts: Tally) -> NDArray[np.float64]:
    present = np.broadcast_to(counts.labelled > 0, values.shape)
    if not present.any():
        raise Undefined("a mean over no classes is undefined")
    known = np.where(present, np.nan_to_num(values, nan=0.0), 0.0)
    return np.asarray(known.sum(axis=-1) / present.sum(axis=-1), dtype=np.float64)


def roc_auc_rate(positive: ArrayLike, scores: ArrayLike) -> Rate:
    """Compute the area under the ROC curve with DeLong's interval; n counts both sides.

    Args, Raises: as `roc_curve`.
    Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988), the variance from structural components. Of one
    positive (or negative) alone it is A (1 - A), the largest there can be.
    >>> rate = roc_auc_rate([True, True, False, False], [0.9, 0.5, 0.5, 0.1])
    >>> rate.value, rate.n
    (0.875, 4)
    """
    area = roc_auc(positive, scores)
    truth, values = np.asarray(positive, bool), np.asarray(scores, np.float64)
    sides = values[truth], values[~truth]
    variance = sum(_component(own, other, area) / len(own) for own, other in (sides, sides[::-1]))
    return _on_logit(area, float(variance) ** 0.5, len(values), min(map(len, sides)))


def average_precision_rate(positive: ArrayLike, scores: ArrayLike) -> Rate:
    """Compute the average precision with its logit interval; n counts the positives.

    Args, Raises: as `pr_curve`.
    Source: Boyd, Eng and Page, "Area under the precision-recall curve", ECML 2013: the logit interval, which takes it
    as a share of the positives.
    >>> average_precision_rate([True, False, True, False], [0.9, 0.8, 0.7, 0.1]).n
    2
    """
    value, n = average_precision(positive, scores), int(np.asarray(positive, bool).sum())
    return _on_logit(value, (value * (1 - value) / n) ** 0.5, n, n)


def _component(own: NDArray[np.float64], other: NDArray[np.float64], area: float) -> float:
    """The variance over one side of the share of the other side that each score is ordered rightly with."""
    if len(own) == 1:
        return area * (1 - area)
    ranked = np.sort(other)
    below, reached = np.searchsorted(ranked, own, "left"), np.searchsorted(ranked, own, "right")
    return float(((below + reached) / 2 / len(other)).var(ddof=1))


def _on_logit(value: float, error: float, n: int, cases: int) -> Rate:
    """`cases` are those that an interval of Clopper and Pearson is over where no error was seen."""
    value = float(np.clip(np.round(value, 12), 0, 1))  # a sum of 1 may be a rounding below it
    if value in (0.0, 1.0) or error == 0:
        return not_a_point(Rate(value=value, low=value, high=value, n=cases)).replace(n=n)
    logit, half = np.log(value / (1 - value)), min(500.0, _Z * error / (value * (1 - value)))
    low, high = 1 / (1 + np.exp(-logit + half)), 1 / (1 + np.exp(-logit - half))
    return Rate(value=value, low=float(low), high=float(high), n=n)
