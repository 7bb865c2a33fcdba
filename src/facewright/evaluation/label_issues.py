"""Label issues of a dataset: frozen records, kept in a run's suspicious.json. No image is ever removed.

Three lists, for three kinds of fault: images that a model confidently assigns to another class; images that are unlike
the rest of their class; mixed-identity classes, as if the photos of two people had been put into one folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from facewright.errors import Undefined
from facewright.metrics.intervals import Rate, wilson
from facewright.metrics.label_issues import (
    CHANCE,
    SEPARATION,
    Parts,
    class_similarity,
    confident_joint,
    estimated_errors,
    find_outliers,
    label_errors,
    parts_of,
)
from facewright.records import Record


class LabelIssue(Record):
    """An image that looks mislabelled to a model that never saw it."""

    path: str
    label: str
    suggested: str  # the class the model is confident of
    probability: float  # of the label
    suggested_probability: float
    margin: float  # probability of the label less that of the most probable other class


class Outlier(Record):
    """An image that is no more similar to its class than images of other people are."""

    path: str
    label: str
    likeness: float  # median cosine to the rest of its class
    nearest: str  # the class of the highest similarity; its own where no other is nearer
    nearest_likeness: float  # to that class; above the threshold the image belongs there


class PartedClass(Record):
    """A mixed-identity class, split into two parts. Paths: those nearest to the center of their part first."""

    label: str
    smaller: tuple[str, ...]
    larger: tuple[str, ...]
    within: float  # median cosine of pairs inside a part
    across: float
    separation: float  # how often a pair inside is more similar than one across, in [0.5, 1]


class EmbeddingEvidence(Record):
    """Label issues by embeddings of a network that never saw the labels. `refused`: why no outliers are listed."""

    strangers: tuple[Outlier, ...]  # this key and `likeness` as runs on disk have them
    threshold: float | None  # similarity that images of other people reach with a probability of `chance`
    chance: float
    parted: tuple[PartedClass, ...]
    refused: str | None


class LabelIssues(Record):
    """The label issues of a run's dataset."""

    frame_rows: ClassVar[str | None] = "suspects"
    task: Literal["suspicious labels"] = "suspicious labels"
    dataset: str
    fingerprint: str
    source: str  # the model that gave the probabilities, in words
    n: int  # images evaluated
    folds: int
    classes: tuple[str, ...]  # evaluated
    accuracy: Rate  # share of labels that the out-of-fold model gives the highest probability
    estimated_errors: float  # number of wrong labels, by the calibrated joint
    suspects: tuple[LabelIssue, ...]
    likeness: EmbeddingEvidence | None  # None: no embeddings of a network that never saw the labels
    notes: tuple[str, ...]


def estimate_label_issues(
    paths: Sequence[str], labels: NDArray[np.int64], classes: tuple[str, ...], probabilities: NDArray[np.float64]
) -> tuple[Rate, float, tuple[LabelIssue, ...]]:
    """Estimate the out-of-fold accuracy, the number of wrong labels, and the label issues, the clearest first.

    Args, Raises: as `confident_joint`, of N paths and the names of C classes.
    """
    joint = confident_joint(probabilities, labels)
    found = label_errors(joint, probabilities, labels)
    rows = tuple(
        LabelIssue(
            path=paths[row],
            label=classes[labels[row]],
            suggested=classes[other],
            probability=float(probabilities[row, labels[row]]),
            suggested_probability=float(probabilities[row, other]),
            margin=float(margin),
        )
        for row, other, margin in zip(found.rows.tolist(), found.classes.tolist(), found.margins, strict=True)
    )
    right = wilson(int((probabilities.argmax(axis=1) == labels).sum()), len(labels))
    return right, estimated_errors(joint, labels), rows


def compare_with_classes(
    paths: Sequence[str],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    embeddings: NDArray[np.float32],
    groups: Sequence[str],
) -> EmbeddingEvidence:
    """Find images that are unlike the rest of their class, and mixed-identity classes.

    Args: as `metrics.label_issues.class_similarity`, of N paths and the names of C classes.
    """
    outliers: tuple[Outlier, ...] = ()
    threshold, refused = None, None
    try:
        found = find_outliers(class_similarity(embeddings, labels, groups, len(classes)), labels)
    except Undefined as error:
        refused = str(error)
    else:
        threshold = found.threshold
        outliers = tuple(
            Outlier(
                path=paths[row],
                label=classes[labels[row]],
                likeness=float(own),
                nearest=classes[nearest],
                nearest_likeness=float(other),
            )
            for row, own, nearest, other in zip(
                found.rows.tolist(), found.similarity, found.nearest.tolist(), found.nearest_similarity, strict=True
            )
        )
    parted: tuple[PartedClass, ...] = ()
    if threshold is not None:  # images of other classes in a class do not make it a mixed-identity class
        elsewhere = {row.path for row in outliers if row.nearest_likeness > threshold}
        rows = np.array([row for row, path in enumerate(paths) if path not in elsewhere], np.int64)
        of_class = {name: rows[labels[rows] == number] for number, name in enumerate(classes)}
        parted = _parted(paths, {name: parts_of(embeddings, mine, groups) for name, mine in of_class.items()})
    return EmbeddingEvidence(strangers=outliers, threshold=threshold, chance=CHANCE, parted=parted, refused=refused)


def _parted(paths: Sequence[str], cut: Mapping[str, Parts | None]) -> tuple[PartedClass, ...]:
    """The mixed-identity classes among the ones cut in two, the clearest first."""
    found = [
        PartedClass(
            label=name,
            smaller=tuple(paths[row] for row in parts.smaller.tolist()),
            larger=tuple(paths[row] for row in parts.larger.tolist()),
            within=parts.within,
            across=parts.across,
            separation=parts.separation,
        )
        for name, parts in cut.items()
        if parts is not None and parts.separation >= SEPARATION
    ]
    return tuple(sorted(found, key=lambda parted: -parted.separation))
