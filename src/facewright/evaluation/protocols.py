"""From what a model said to what it is worth: arrays in, one result object a task out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.evaluation.results import ClassificationResult, ClassRow, Predictions
from facewright.metrics import calibration, intervals
from facewright.metrics import classification as metrics
from facewright.metrics.intervals import Rate, Tally, wilson

TOP5_FROM = 21  # classes; below, the true class among five says little
ROW_SUM_TOLERANCE = 1e-4  # float32 softmax over thousands of classes, or six written digits, stay well inside


def classify(predictions: Predictions, classes: tuple[str, ...], split: str) -> ClassificationResult:
    """Measure a closed-set classifier on one part of a dataset.

    The intervals of shares are Wilson's; those of macro means are stratified bootstraps over images. The predicted
    class is the first of the highest probabilities. A class without an image has no row values and no part in macro
    means; a class that is never predicted has no precision, which counts as 0 in the macro mean.

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
    labels, probabilities = predictions.labels, predictions.probabilities.astype(np.float64)
    guessed = probabilities.argmax(axis=1)
    counts = intervals.tally(labels, guessed, len(classes))
    rows = _class_rows(classes, labels, probabilities, counts)
    one_hot = labels[:, None] == np.arange(len(classes))
    macro = {
        f.__name__: intervals.bootstrap(f, labels, guessed, len(classes))
        for f in (metrics.macro_precision, metrics.macro_recall, metrics.macro_f1)
    }
    return ClassificationResult(
        split=split,
        n=labels.size,
        classes=tuple(classes),
        accuracy=metrics.accuracy(labels, guessed),
        top5=metrics.top_k(labels, probabilities, 5) if len(classes) >= TOP5_FROM else None,
        log_loss=metrics.log_loss(labels, probabilities),
        macro_precision=macro["macro_precision"],
        macro_recall=macro["macro_recall"],
        macro_f1=macro["macro_f1"],
        weighted_precision=metrics.weighted(metrics.precision(counts), counts),
        weighted_recall=metrics.weighted(metrics.recall(counts), counts),
        weighted_f1=metrics.weighted(metrics.f1(counts), counts),
        macro_auc=metrics.defined_mean([row.auc for row in rows]),
        micro_auc=_auc(one_hot.ravel(), probabilities.ravel()),
        macro_average_precision=metrics.defined_mean([row.average_precision for row in rows]),
        calibration_error=calibration.expected_calibration_error(confidence(predictions), guessed == labels),
        confusion=tuple(tuple(row) for row in metrics.confusion_matrix(labels, guessed, len(classes)).tolist()),
        per_class=rows,
    )


def check(predictions: Predictions, classes: tuple[str, ...]) -> None:
    """Refuse predictions that are no probabilities over these classes; raises as `classify`."""
    labels, probabilities = predictions.labels, predictions.probabilities
    n = len(predictions.paths)
    if n == 0:
        raise EmptyScores("there is no image to evaluate on: the part is empty")
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
        _refuse_unless(met, expected, predictions)


def confidence(predictions: Predictions) -> NDArray[np.float64]:
    """The highest probability of each image, (N,)."""
    highest: NDArray[np.float64] = predictions.probabilities.astype(np.float64).max(axis=1)
    return highest


def _refuse_unless(met: NDArray[np.bool_], expected: str, predictions: Predictions) -> None:
    if not met.all():
        i = int(np.argmin(met))
        row = predictions.probabilities[i]
        raise DataError(
            f"expected {expected}; {int((~met).sum())} of {met.size} images have none, the first is "
            f"{predictions.paths[i]} (from {row.min():.4g} to {row.max():.4g}, sum {row.sum():.4g})"
        )


def _class_rows(
    classes: tuple[str, ...], labels: NDArray[np.int64], probabilities: NDArray[np.float64], counts: Tally
) -> tuple[ClassRow, ...]:
    f1 = metrics.f1(counts)
    return tuple(
        ClassRow(
            name=name,
            n=int(counts.labelled[c]),
            precision=_share(counts.hits[c], counts.predicted[c]),
            recall=_share(counts.hits[c], counts.labelled[c]),
            f1=None if np.isnan(f1[c]) else float(f1[c]),
            auc=_auc(labels == c, probabilities[:, c]),
            average_precision=_average_precision(labels == c, probabilities[:, c]),
        )
        for c, name in enumerate(classes)
    )


def _share(k: np.int64, n: np.int64) -> Rate | None:
    return wilson(int(k), int(n)) if n > 0 else None


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
