"""Pictures that are unlike the rest of their class: the label fault that no classifier can see.

Where every photo of a second person lies in one class, a classifier learns that the class looks either way, out of fold
too, and is right each time. Embeddings that know faces but not this dataset still tell: the second person's photos are
no more like the class than any stranger's are.

The likeness of an image and a class is the median cosine to the class's pictures, itself and its copies left out: a
median, since up to half of a class may be wrong without moving it far. Strangers are at hand: an image that is most
like its own class is a stranger to every other (one that is not may be in the wrong class, and no stranger where it
belongs). So an image is unlike its class where its likeness is one that strangers reach, too: with a chance of a
hundredth or more (the share of likenesses between images and classes they are strangers to that are as high).

This is the p-value of an outlier test that is calibrated on known non-members; it assumes nothing of the embedding but
that it puts one class's images nearer to each other than to others'. Where it does not (the features are no face
embeddings, or a class is no person), many images are unlike their class, and `unlike_own_class` refuses to name any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.errors import Undefined, UsageError

CHANCE = 0.01  # of a stranger being this much like the class
LEAST_AT_HOME = 0.5  # share of images most like their own class; with fewer, it is the features that fail
MOST = 1 / 3  # share of images unlike their class; likewise with more


@dataclass(frozen=True)
class Unlike:
    """Pictures that are no more like their class than strangers are, the least alike first.

    rows: (U,) which images. likeness: (U,) to their own class. nearest: (U,) class they are most like; their own
    where no other is nearer. nearest_likeness: (U,) to that one; above the threshold the image belongs there.
    threshold: likeness that strangers reach with a chance of `CHANCE`.
    """

    rows: NDArray[np.int64]
    likeness: NDArray[np.float64]
    nearest: NDArray[np.int64]
    nearest_likeness: NDArray[np.float64]
    threshold: float


def class_likeness(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], groups: Sequence[str], classes: int
) -> NDArray[np.float64]:
    """Median cosine of every image to every class, itself and its copies left out.

    Args:
        embeddings: (N, D) of any length, from a network that never saw these labels.
        labels: (N,) class numbers 0 … classes - 1.
        groups: (N,) images of one name are copies of each other (`data.units.groups_of`).
        classes: C.
    Returns:
        (N, C) in [-1, 1]; NaN where a class has nothing to be compared with.
    Raises:
        UsageError: lengths that differ, or a number that is no class.

    >>> found = class_likeness(np.eye(3, dtype=np.float32)[[0, 0, 1]], np.array([0, 0, 1]), "abc", classes=2)
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


def unlike_own_class(likeness: NDArray[np.float64], labels: NDArray[np.int64]) -> Unlike:
    """Pictures whose likeness to their class is one that strangers reach with a chance of `CHANCE` or more.

    Args:
        likeness: (N, C) of `class_likeness`; where an image has none to its own class, it is not judged.
        labels: (N,) class numbers.
    Raises:
        Undefined: too few strangers to tell a chance of `CHANCE`, or these embeddings do not tell the classes apart.
    """
    rows = np.arange(len(labels))
    own = likeness[rows, labels]
    strangers = likeness.copy()
    strangers[rows, labels] = np.nan
    at_home = own > np.nan_to_num(strangers, nan=-np.inf).max(axis=1)
    if at_home.sum() < LEAST_AT_HOME * len(labels):
        raise Undefined(
            f"{int(at_home.sum()):,} of {len(labels):,} pictures are most like their own class: these features do not "
            "tell the classes apart picture by picture"
        )
    strangers[~at_home] = np.nan
    known = np.sort(strangers[np.isfinite(strangers)])
    if len(known) * CHANCE < 1:
        raise Undefined(
            f"{len(known)} likenesses of strangers are too few for a chance of {CHANCE:g}; it takes {round(1 / CHANCE)}"
        )
    threshold = float(known[-int(len(known) * CHANCE)])  # this many of the strangers are at least as alike
    found = rows[own <= threshold]
    if len(found) > MOST * len(labels):
        raise Undefined(
            f"{len(found):,} of {len(labels):,} pictures are no more like their class than strangers are: these "
            "features do not tell the classes apart picture by picture"
        )
    found = found[np.argsort(own[found], kind="stable")]
    known_classes = np.where(np.isfinite(likeness[found]), likeness[found], -np.inf)
    nearest = known_classes.argmax(axis=1).astype(np.int64)
    return Unlike(found, own[found], nearest, known_classes.max(axis=1), threshold)


def _medians(cosines: NDArray[np.float64], left_out: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of each row over what is not left out; NaN where nothing is."""
    medians = np.median(cosines, axis=1)
    touched = np.flatnonzero(left_out.any(axis=1))
    for row in touched.tolist():
        kept = cosines[row][~left_out[row]]
        medians[row] = np.median(kept) if len(kept) else np.nan
    return medians
