"""Labels that are probably wrong, found by a model that never saw the images it scores (confident learning).

An image is listed where another class is as probable as it usually is for its own images: each class has its own
threshold, so that an image that is hard for every class is not listed. Source: Northcutt, Jiang and Chuang 2021,
"Confident Learning: Estimating Uncertainty in Dataset Labels", arXiv:1911.00068, sections 3.1 (count) and 3.2 (rank;
the candidates are the off-diagonal of the confident joint).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.errors import EmptyScores, UsageError

ROUNDING = 1e-12  # the mean of equal numbers may exceed them by the last bit


@dataclass(frozen=True)
class ConfidentJoint:
    """Given labels against the classes that the model is confident of.

    thresholds: (C,) mean probability of class j over the images labelled j; infinite where there is none.
    counts: (C, C) images labelled i (row) that are confidently of class j (column).
    confident: (N,) the class an image is confidently of; -1 where it reaches no class's threshold.
    """

    thresholds: NDArray[np.float64]
    counts: NDArray[np.int64]
    confident: NDArray[np.int64]


@dataclass(frozen=True)
class LabelErrors:
    """Images that are confidently of another class than their label says, the clearest first.

    rows: (S,) which images. classes: (S,) what each is confidently of. margins: (S,) `normalised_margin` of each.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    margins: NDArray[np.float64]


def confident_joint(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> ConfidentJoint:
    """Count each image under its label and the class that the model is confident of.

    An image is confidently of the class with the highest probability among those whose threshold it reaches. Where its
    own label is as high as another class, it stays with its label.

    Args:
        probabilities: (N, C) rows that sum to one, each from a model that never saw that image (out of fold).
        labels: (N,) class numbers 0 … C - 1, as given.
    Raises:
        EmptyScores: no images.
        UsageError: shapes that do not fit, a number that is no class, or rows that are no probabilities.
    Source: Northcutt et al. 2021, section 3.1: the confident joint and the thresholds in it.

    >>> found = confident_joint(np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.8, 0.2]]), np.array([0, 0, 1, 1]))
    >>> found.thresholds.round(2).tolist(), found.counts.tolist()
    ([0.8, 0.55], [[1, 0], [1, 1]])
    """
    _check(probabilities, labels)
    images, classes = probabilities.shape
    own = probabilities[np.arange(images), labels]
    members = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=own, minlength=classes)
    thresholds = np.full(classes, np.inf)
    np.divide(sums, members, out=thresholds, where=members > 0)
    reached = np.where(probabilities >= thresholds - ROUNDING, probabilities, -1.0)
    best = reached.argmax(axis=1)
    stays = (reached[np.arange(images), labels] >= 0) & (own >= reached.max(axis=1))
    confident = np.where(stays, labels, np.where(reached.max(axis=1) >= 0, best, -1)).astype(np.int64)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels[confident >= 0], confident[confident >= 0]), 1)
    return ConfidentJoint(thresholds, counts, confident)


def label_errors(joint: ConfidentJoint, probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> LabelErrors:
    """Find the off-diagonal of the confident joint, ranked by the normalised margin.

    Args:
        joint: `confident_joint` of the same probabilities and labels.
        probabilities, labels: as there.

    >>> given = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.8, 0.2]]), np.array([0, 0, 1, 1])
    >>> found = label_errors(confident_joint(*given), *given)
    >>> found.rows.tolist(), found.classes.tolist(), found.margins.round(2).tolist()
    ([3], [0], [-0.6])
    """
    rows = np.flatnonzero((joint.confident >= 0) & (joint.confident != labels))
    margins = normalised_margin(probabilities, labels)
    rows = rows[np.argsort(margins[rows], kind="stable")]
    return LabelErrors(rows, joint.confident[rows], margins[rows])


def normalised_margin(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of the label minus that of the most probable other class: (N,) in [-1, 1]; low values come first.

    Args:
        probabilities: (N, C), C of two or more.
        labels: (N,) class numbers.
    Source: Northcutt et al. 2021, section 3.2 (the margin that "prune by noise rate" ranks by).

    >>> normalised_margin(np.array([[0.5, 0.25, 0.25]]), np.array([1])).tolist()
    [-0.25]
    """
    _check(probabilities, labels)
    rows = np.arange(len(labels))
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    margin: NDArray[np.float64] = probabilities[rows, labels] - others.max(axis=1)
    return margin


def estimated_errors(joint: ConfidentJoint, labels: NDArray[np.int64]) -> float:
    """Return how many of the labels are wrong, by the calibrated joint: 0 … N, not a whole number.

    Each row of the counts is scaled to the number of images with that label, since images that reach no threshold
    are not counted; what is off the diagonal then is the estimate. A label of which no image was counted adds
    nothing.

    Source: Northcutt et al. 2021, section 3.1: the estimate of the joint from the confident joint.

    >>> labels = np.array([0, 0, 1, 1])
    >>> estimated_errors(ConfidentJoint(np.zeros(2), np.array([[1, 0], [1, 1]]), np.array([0, -1, 1, 0])), labels)
    1.0
    """
    counted = joint.counts.sum(axis=1)
    members = np.bincount(labels, minlength=len(counted))
    wrong = (counted - np.diagonal(joint.counts)) / np.maximum(counted, 1)
    return float((wrong * members).sum())


def _check(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    if probabilities.ndim != 2 or probabilities.shape[1] < 2 or labels.shape != probabilities.shape[:1]:
        raise UsageError(
            f"expected probabilities (N, C) of two or more classes and a label for each row, got shapes "
            f"{probabilities.shape} and {labels.shape}"
        )
    if not len(labels):
        raise EmptyScores("label issues of no images: expected at least one row of probabilities")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise UsageError(f"expected labels from 0 to {probabilities.shape[1] - 1}, got {labels.min()} … {labels.max()}")
    fair = (probabilities >= 0).all() and np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-3)
    if not fair:  # not a number fails here, too
        raise UsageError("expected rows of probabilities, each number at least 0 and every row summing to one")
