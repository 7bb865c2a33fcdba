"""What is suspicious about a dataset's labels: frozen facts, kept in a run's suspicious.json. Nothing is ever dropped.

Three lists, for three kinds of fault: images a model takes for another class with confidence; images that are
unlike the rest of their class; classes that fall in two, as if two people had been sorted into one folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from facewright.errors import Undefined
from facewright.metrics import class_parts
from facewright.metrics.class_likeness import CHANCE, class_likeness, unlike_own_class
from facewright.metrics.intervals import Rate, wilson
from facewright.metrics.label_noise import confident_joint, estimated_errors, suspects
from facewright.records import Record


class Suspect(Record):
    """An image that looks mislabelled to a model that never saw it."""

    path: str
    label: str
    suggested: str  # the class the model is confident of
    probability: float  # of the label
    suggested_probability: float
    margin: float  # probability of the label less that of the most probable other class


class Stranger(Record):
    """An image that is no more like its class than strangers are."""

    path: str
    label: str
    likeness: float  # median cosine to the rest of its class
    nearest: str  # the class it is most like; its own where no other is nearer
    nearest_likeness: float  # to that class; above the threshold the image belongs there


class PartedClass(Record):
    """A class that falls in two. Paths: those nearest to the middle of their part first."""

    label: str
    smaller: tuple[str, ...]
    larger: tuple[str, ...]
    within: float  # median cosine of pairs inside a part
    across: float
    separation: float  # how often a pair inside is more alike than one across, in [0.5, 1]


class Likeness(Record):
    """The evidence of embeddings that know nothing of the labels. `refused`: why no strangers are listed."""

    strangers: tuple[Stranger, ...]
    threshold: float | None  # likeness that strangers reach with a chance of `chance`
    chance: float
    parted: tuple[PartedClass, ...]
    refused: str | None


class Suspicion(Record):
    """The label issues of a run's dataset."""

    frame_rows: ClassVar[str | None] = "suspects"
    task: Literal["suspicious labels"] = "suspicious labels"
    dataset: str
    fingerprint: str
    source: str  # what made the probabilities, in words
    n: int  # images judged
    folds: int
    classes: tuple[str, ...]  # judged
    accuracy: Rate  # share of labels that the out-of-fold model gives the highest probability
    estimated_errors: float  # number of wrong labels, by the calibrated joint
    suspects: tuple[Suspect, ...]
    likeness: Likeness | None  # None: no embeddings that know nothing of the labels
    notes: tuple[str, ...]


def suspicion_of(
    paths: Sequence[str], labels: NDArray[np.int64], classes: tuple[str, ...], probabilities: NDArray[np.float64]
) -> tuple[Rate, float, tuple[Suspect, ...]]:
    """Out-of-fold accuracy, the estimated number of wrong labels, and the suspects, the clearest first.

    Args:
        paths: (N,). labels: (N,) numbers of classes.
        probabilities: (N, C) out of fold.
    Raises:
        EmptyScores, UsageError: as `confident_joint`.
    """
    joint = confident_joint(probabilities, labels)
    found = suspects(joint, probabilities, labels)
    rows = tuple(
        Suspect(
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


def likeness_of(
    paths: Sequence[str],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    embeddings: NDArray[np.float32],
    groups: Sequence[str],
) -> Likeness:
    """Pictures that are unlike the rest of their class, and classes that fall in two.

    Args:
        paths, groups: (N,). labels: (N,) numbers of classes.
        embeddings: (N, D) of a network that never saw these labels.
    """
    strangers: tuple[Stranger, ...] = ()
    threshold, refused = None, None
    try:
        found = unlike_own_class(class_likeness(embeddings, labels, groups, len(classes)), labels)
    except Undefined as error:
        refused = str(error)
    else:
        threshold = found.threshold
        strangers = tuple(
            Stranger(
                path=paths[row],
                label=classes[labels[row]],
                likeness=float(own),
                nearest=classes[nearest],
                nearest_likeness=float(alike),
            )
            for row, own, nearest, alike in zip(
                found.rows.tolist(), found.likeness, found.nearest.tolist(), found.nearest_likeness, strict=True
            )
        )
    parted: tuple[PartedClass, ...] = ()
    if threshold is not None:  # a class that many images of other classes were put into is not two people
        elsewhere = {row.path for row in strangers if row.nearest_likeness > threshold}
        rows = np.array([row for row, path in enumerate(paths) if path not in elsewhere], np.int64)
        parted = _parted(paths, labels, classes, embeddings, groups, rows)
    return Likeness(strangers=strangers, threshold=threshold, chance=CHANCE, parted=parted, refused=refused)


def _parted(
    paths: Sequence[str],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    embeddings: NDArray[np.float32],
    groups: Sequence[str],
    rows: NDArray[np.int64],
) -> tuple[PartedClass, ...]:
    """The classes that fall in two, the clearest first; only `rows` are looked at."""
    found = []
    for number, name in enumerate(classes):
        parts = class_parts.parts_of(embeddings, rows[labels[rows] == number], groups)
        if parts is not None and parts.separation >= class_parts.SEPARATION:
            smaller, larger = (tuple(paths[row] for row in side.tolist()) for side in (parts.smaller, parts.larger))
            found.append(
                PartedClass(
                    label=name,
                    smaller=smaller,
                    larger=larger,
                    within=parts.within,
                    across=parts.across,
                    separation=parts.separation,
                )
            )
    return tuple(sorted(found, key=lambda parted: -parted.separation))
