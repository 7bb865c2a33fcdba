"""Images that are unlike the rest of their class: the label fault that no classifier can see.

If every photo of a second person lies in one class, a classifier learns that the class has both looks, out of fold
too, and its predictions agree with the labels. Embeddings of a network that knows faces but not this dataset still show
the fault: the second person's photos are no more similar to the class than photos of any other person.

The similarity of an image and a class is the median cosine to the class's images, without the image itself and its
copies. A median stays stable while less than half of the class is wrong. Non-mated scores come from the dataset itself:
the scores of an image against every class but its own, if its own class is the most similar one (if not, the image may
be in the wrong class, and one of those scores would be mated). An image is an outlier of its class if at least 1 % of
the non-mated scores are as high as its own.

This is the p-value of an outlier test that is calibrated on known non-members. It only assumes that the embedding puts
images of one class nearer to each other than to other classes. Where it does not (the features are no face embeddings,
or a class is no person), many images are unlike their class, and `find_outliers` raises instead of naming them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.errors import Undefined, UsageError

CHANCE = 0.01  # of a non-mated score this high
LEAST_AT_HOME = 0.5  # share of images most similar to their own class; with fewer, the features are at fault
MOST = 1 / 3  # share of images unlike their class; likewise with more


@dataclass(frozen=True)
class Outliers:
    """Images that are no more similar to their class than images of other people are, the least similar first.

    rows: (U,) which images. similarity: (U,) to their own class. nearest: (U,) class of the highest similarity; their
    own where no other is nearer. nearest_similarity: (U,) to that one; above the threshold the image belongs there.
    threshold: similarity that non-mated scores reach with a probability of `CHANCE`.
    """

    rows: NDArray[np.int64]
    similarity: NDArray[np.float64]
    nearest: NDArray[np.int64]
    nearest_similarity: NDArray[np.float64]
    threshold: float


def class_similarity(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], groups: Sequence[str], classes: int
) -> NDArray[np.float64]:
    """Compute the median cosine of every image to every class, without itself and its copies.

    Args:
        embeddings: (N, D) of any length, from a network that never saw these labels.
        labels: (N,) class numbers 0 … classes - 1.
        groups: (N,) images of one name are copies of each other (`data.splits.groups_of`).
        classes: C.
    Returns:
        (N, C) in [-1, 1]; NaN where a class has no image to compare with.
    Raises:
        UsageError: lengths that differ, or a number that is no class.

    >>> found = class_similarity(np.eye(3, dtype=np.float32)[[0, 0, 1]], np.array([0, 0, 1]), "abc", classes=2)
    >>> found.tolist()
    [[1.0, 0.0], [1.0, 0.0], [0.0, nan]]
    """
    if not len(embeddings) == len(labels) == len(groups):
        raise UsageError(f"{len(embeddings)} embeddings, {len(labels)} labels and {len(groups)} groups do not fit")
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise UsageError(f"expected labels from 0 to {classes - 1}, got {labels.min()} … {labels.max()}")
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.maximum(lengths, np.float32(1e-12))
    unit_of = np.unique(np.array(list(groups), dtype=str), return_inverse=True)[1]
    found = np.full((len(labels), classes), np.nan)
    for number in range(classes):
        members = np.flatnonzero(labels == number)
        if not len(members):
            continue
        cosines = (unit @ unit[members].T).astype(np.float64)  # (N, members)
        copies = unit_of[:, None] == unit_of[members][None]  # an image is its own copy
        found[:, number] = _medians(cosines, copies)
    return found


def find_outliers(similarity: NDArray[np.float64], labels: NDArray[np.int64]) -> Outliers:
    """Find images whose similarity to their class is reached by a share of `CHANCE` or more of the non-mated scores.

    Args:
        similarity: (N, C) of `class_similarity`; an image without a value for its own class is not evaluated.
        labels: (N,) class numbers.
    Raises:
        Undefined: too few non-mated scores for a share of `CHANCE`, or these embeddings do not separate the classes.
    """
    rows = np.arange(len(labels))
    own = similarity[rows, labels]
    nonmated = similarity.copy()
    nonmated[rows, labels] = np.nan
    at_home = own > np.nan_to_num(nonmated, nan=-np.inf).max(axis=1)
    if at_home.sum() < LEAST_AT_HOME * len(labels):
        raise Undefined(
            f"{int(at_home.sum()):,} of {len(labels):,} images are most similar to their own class: these features "
            "do not separate the classes image by image"
        )
    nonmated[~at_home] = np.nan
    known = np.sort(nonmated[np.isfinite(nonmated)])
    if len(known) * CHANCE < 1:
        raise Undefined(
            f"{len(known)} non-mated scores are too few for a share of {CHANCE:g}: expected {round(1 / CHANCE)} or more"
        )
    threshold = float(known[-int(len(known) * CHANCE)])  # this many of the non-mated scores are as high
    found = rows[own <= threshold]
    if len(found) > MOST * len(labels):
        raise Undefined(
            f"{len(found):,} of {len(labels):,} images are no more similar to their class than to others: these "
            "features do not separate the classes image by image"
        )
    found = found[np.argsort(own[found], kind="stable")]
    known_classes = np.where(np.isfinite(similarity[found]), similarity[found], -np.inf)
    nearest = known_classes.argmax(axis=1).astype(np.int64)
    return Outliers(found, own[found], nearest, known_classes.max(axis=1), threshold)


def _medians(cosines: NDArray[np.float64], left_out: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of each row over what is not left out; NaN where nothing is."""
    medians = np.median(cosines, axis=1)
    touched = np.flatnonzero(left_out.any(axis=1))
    for row in touched.tolist():
        kept = cosines[row][~left_out[row]]
        medians[row] = np.median(kept) if len(kept) else np.nan
    return medians
