"""From what a model said to what it is worth: arrays in, one result object a task out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.evaluation.results import MATRIX, ROWS, TOP, ClassificationResult, ClassRow, Mistake, Predictions
from facewright.metrics import calibration, intervals
from facewright.metrics import classification as metrics
from facewright.metrics.intervals import Rate, Tally, wilson

TOP5_FROM = 21  # classes; below, the true class among five says little
ROW_SUM_TOLERANCE = 1e-4  # float32 softmax over thousands of classes, or six written digits, stay well inside


def classify(predictions: Predictions, classes: tuple[str, ...], split: str) -> ClassificationResult:
    """Measure a closed-set classifier on one part of a dataset.

    The intervals of shares are Wilson's; those of macro means are bootstraps over images of each class, or over
    classes where these have too few (`intervals.resamples_classes`). The predicted class is the first of the highest
    probabilities. A class without an image has no row values and no part in macro means; a class that is never
    predicted has no precision, which counts as 0 in the macro mean.

    Args:
        predictions: N images with probabilities (N, C).
        classes: the C names, in the order of the columns.
        split: the part's name: "train", "validation" or "test".
    Raises:
        EmptyScores: no image. DataError: a probability that is not finite or lies outside [0, 1], or a row that does
        not sum to one. UsageError: shapes or labels that do not fit.
    Source: docs/protocols.md, "Classification".
    """
    check(predictions, classes)
    labels, ranked, guessed, count = predictions.labels, predictions.ranked, predictions.predicted, len(classes)
    scores = None if predictions.probabilities is None else predictions.probabilities.astype(np.float64, copy=False)
    counts = intervals.tally(labels, guessed, count)
    rows = tuple(_class_row(classes, number, labels, scores, counts) for number in _listed(counts))
    means = (metrics.macro_precision, metrics.macro_recall, metrics.macro_f1)
    macro = intervals.bootstraps(means, labels, guessed, count)
    return ClassificationResult(
        split=split,
        n=labels.size,
        classes=tuple(classes),
        accuracy=metrics.accuracy(labels, guessed),
        top5=wilson(int((ranked.rank <= TOP).sum()), labels.size) if count >= TOP5_FROM else None,
        log_loss=float(metrics.losses(ranked.of_truth).mean()),
        macro_precision=macro[0],
        macro_recall=macro[1],
        macro_f1=macro[2],
        weighted_precision=metrics.weighted(metrics.precision(counts), counts),
        weighted_recall=metrics.weighted(metrics.recall(counts), counts),
        weighted_f1=metrics.weighted(metrics.f1(counts), counts),
        macro_auc=metrics.defined_mean([row.auc for row in rows]),
        micro_auc=None if scores is None else _auc((labels[:, None] == np.arange(count)).ravel(), scores.ravel()),
        macro_average_precision=metrics.defined_mean([row.average_precision for row in rows]),
        calibration_error=calibration.expected_calibration_error(ranked.probabilities[:, 0], guessed == labels),
        confusion=_confusion(labels, guessed, count) if count <= MATRIX else None,
        mistakes=_mistakes(classes, labels, guessed) if count > MATRIX else None,
        scores_kept=scores is not None,
        classes_with_images=int((counts.labelled > 0).sum()) if len(rows) < count else None,
        per_class=rows,
    )


def check(predictions: Predictions, classes: tuple[str, ...]) -> None:
    """Refuse predictions that are no probabilities over these classes; raises as `classify`."""
    labels, probabilities = predictions.labels, predictions.probabilities
    n = len(predictions.paths)
    if n == 0:
        raise EmptyScores("there is no image to evaluate on: the part is empty")
    if probabilities is None:  # a softmax of ours, or what was read back of it
        values = predictions.ranked.probabilities
        if not ((values >= 0) & (values <= 1)).all():  # false for NaN, too
            raise DataError("expected probabilities in [0, 1]")
        intervals.class_numbers(labels, len(classes), "labels")
        intervals.class_numbers(predictions.ranked.top.ravel(), len(classes), "predicted")
        return
    if labels.shape != (n,) or probabilities.shape != (n, len(classes)):
        raise UsageError(
            f"expected labels ({n},) and probabilities ({n}, {len(classes)}) for {n} images of {len(classes)} classes, "
            f"got {labels.shape} and {probabilities.shape}"
        )
    intervals.class_numbers(labels, len(classes), "labels")
    rules = {
        "finite probabilities": np.isfinite(probabilities).all(axis=1),
        "probabilities in [0, 1]": ((probabilities >= 0) & (probabilities <= 1)).all(axis=1),
        "probabilities that sum to one": np.abs(probabilities.sum(axis=1) - 1) <= ROW_SUM_TOLERANCE,
    }
    for expected, met in rules.items():
        if not met.all():
            i = int(np.argmin(met))
            row = probabilities[i]
            raise DataError(
                f"expected {expected}; {int((~met).sum())} of {met.size} images have none, the first is "
                f"{predictions.paths[i]} (from {row.min():.4g} to {row.max():.4g}, sum {row.sum():.4g})"
            )


def _listed(counts: Tally) -> NDArray[np.int64]:
    """The classes of the table, in order: all, or of very many those with the most mistakes."""
    if counts.hits.size <= ROWS:
        return np.arange(counts.hits.size)
    mistakes = counts.labelled + counts.predicted - 2 * counts.hits
    return np.sort(np.argsort(-mistakes, kind="stable")[:ROWS])


def _class_row(
    classes: tuple[str, ...], number: int, labels: NDArray[np.int64], scores: NDArray[np.float64] | None, counts: Tally
) -> ClassRow:
    hits, labelled, predicted = (int(part[number]) for part in (counts.hits, counts.labelled, counts.predicted))
    own = labels == number if scores is not None else None
    return ClassRow(
        name=classes[number],
        n=labelled,
        precision=_share(hits, predicted),
        recall=_share(hits, labelled),
        f1=2 * hits / (labelled + predicted) if labelled + predicted else None,
        auc=None if own is None or scores is None else _auc(own, scores[:, number]),
        average_precision=None if own is None or scores is None else _average_precision(own, scores[:, number]),
    )


def _confusion(labels: NDArray[np.int64], guessed: NDArray[np.int64], count: int) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, metrics.confusion_matrix(labels, guessed, count).tolist()))


def _mistakes(classes: tuple[str, ...], labels: NDArray[np.int64], guessed: NDArray[np.int64]) -> tuple[Mistake, ...]:
    """Every pair of a class and another it was taken for, most frequent first, then in class order."""
    wrong = np.stack([labels, guessed], axis=1)[labels != guessed]
    pairs, counts = np.unique(wrong, axis=0, return_counts=True)
    return tuple(
        Mistake(true=classes[true], predicted=classes[guess], count=count)
        for (true, guess), count in (
            (pairs[row].tolist(), int(counts[row])) for row in np.argsort(-counts, kind="stable")
        )
    )


@lru_cache(maxsize=100_000)
def _share(k: int, n: int) -> Rate | None:
    return wilson(k, n) if n > 0 else None


def _auc(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    try:
        return metrics.roc_auc(positive, scores)
    except Undefined:
        return None


def _average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float | None:
    try:
        return metrics.average_precision(positive, scores)
    except Undefined:
        return None
