"""Error rates of a binary task: the threshold from the validation part, the errors from test.

Of a model of two classes the second in order is the one to accept; the score is its probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import EmptyScores, Undefined, UsageError
from facewright.evaluation.results import BinaryResult, Predictions
from facewright.metrics.binary import (
    DEFAULT_THRESHOLD,
    binary_errors,
    choose_class_threshold,
    expected_performance_curve,
    half_total_error_rate,
)
from facewright.metrics.thresholds import Threshold
from facewright.metrics.verification import auc, eer, roc

Sides = tuple[NDArray[np.float64], NDArray[np.float64]]


def evaluate_binary(
    validation: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    rule: str = "min-hter",
    classes: tuple[str, str] = ("negative", "positive"),
) -> BinaryResult:
    """Measure a binary task by HTER, EER and EPC.

    Args:
        validation, test: scores (N,), the higher the likelier positive, and whether each is positive, (N,) bool.
        rule: "min-hter", "eer" or "far=X", on the validation part.
        classes: the negatives' and the positives' name.
    Raises:
        EmptyScores: a part lacks a class. DataError: a score is not finite. UsageError: not the same images.
        UnknownName: no such rule. Undefined: the negatives of the validation part are too few for X.
    Source: docs/protocols.md, "Binary tasks and HTER".
    """
    chosen_on, scored_on = _sides(validation, "validation"), _sides(test, "test")
    threshold = choose_class_threshold(*chosen_on, rule, classes, "validation")
    return _rates(threshold, scored_on).replace(
        validation_hter=half_total_error_rate(*chosen_on, threshold.value),
        epc=expected_performance_curve(chosen_on, scored_on),
    )


def evaluate_stored_threshold(threshold: Threshold, test: Predictions) -> BinaryResult | None:
    """Measure a model of two classes at the threshold that its file holds; None where the data lack one of the classes.

    Without the validation part there is neither its HTER nor the expected performance curve.
    """
    sides = two_sides_of(test)
    return _rates(threshold, sides) if all(len(side) for side in sides) else None


def _rates(threshold: Threshold, test: Sides) -> BinaryResult:
    errors, usual = binary_errors(*test, threshold.value), binary_errors(*test, DEFAULT_THRESHOLD)
    curve = roc(*test)
    equal = eer(curve)
    return BinaryResult(
        accepted=str(threshold.accepted),
        rejected=str(threshold.rejected),
        positives=curve.genuine,
        negatives=curve.impostors,
        rule=threshold.rule,
        threshold=threshold.value,
        validation_hter=None,
        far=errors.far,
        frr=errors.frr,
        hter=errors.hter,
        hter_at_half=usual.hter,
        far_at_half=usual.far,
        frr_at_half=usual.frr,
        eer=equal.value,
        eer_low=equal.low,
        eer_high=equal.high,
        auc=auc(curve),
        epc=None,
    )


def two_sides_of(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The probabilities of the second class, of its own images (P,) and of those of the first (Q,)."""
    scores, positive = labelled_scores(predictions)
    return scores[positive], scores[~positive]


def labelled_scores(predictions: Predictions) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probability of the second class of each image, (N,), and whether that is its class, (N,)."""
    assert predictions.probabilities is not None  # kept of any number of images
    return predictions.probabilities[:, 1].astype(np.float64), predictions.labels == 1


def class_threshold_of(validation: Predictions, classes: tuple[str, ...], rule: str, data: str) -> Threshold | None:
    """The threshold that a rule chooses on the validation part; None where that part lacks one of the two classes.

    Args:
        validation: what the model said of the validation part.
        classes: of the model; None also where they are not two.
        data: what these images are, for the record.
    Raises:
        UnknownName: no such rule. DataError: a score is not finite.
        Undefined: no threshold meets the rule's false-accept rate (too few images of the first class, or equal scores).
    """
    genuine, impostor = two_sides_of(validation) if len(classes) == 2 else (np.zeros(0), np.zeros(0))
    if not genuine.size or not impostor.size:
        return None
    return choose_class_threshold(genuine, impostor, rule, (classes[0], classes[1]), data)


def evaluate_two_classes(
    validation: Predictions, test: Predictions, classes: tuple[str, ...], rule: str
) -> BinaryResult | None:
    """HTER, EER and EPC of a model of two classes; None where it is undefined.

    That is where a part lacks one of the classes, where no threshold meets the rule, or where there are other classes.

    Args: as `threshold_of`; test: what the model said of the images to measure on.
    Raises: UnknownName: no such rule. DataError: a score is not finite.
    """
    if len(classes) != 2:
        return None
    try:
        return evaluate_binary(labelled_scores(validation), labelled_scores(test), rule, (classes[0], classes[1]))
    except (EmptyScores, Undefined):
        return None


def _sides(part: tuple[ArrayLike, ArrayLike], name: str) -> Sides:
    scores, positive = np.asarray(part[0], dtype=np.float64), np.asarray(part[1])
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise UsageError(f"{name}: expected scores and labels (N,), got {scores.shape} and {positive.shape}")
    if not np.isin(positive, (0, 1)).all():
        raise UsageError(f"{name}: expected labels that say yes or no (true or false, 1 or 0)")
    truth = positive.astype(bool)
    return scores[truth], scores[~truth]
