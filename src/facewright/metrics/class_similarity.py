"""Faults that no classifier can see: images unlike the rest of their class, and classes that hold two people.

The similarity of an image and a class is the median cosine to the class's images, without the image itself and its
copies. Non-mated scores are those of an image against every class but its own, if its own class is the most similar
one. An image is an outlier if at least 1 % of the non-mated scores are as high as its own: a p-value calibrated on
known non-members. Where the embedding puts images of one class not nearer to each other, `find_outliers` raises.

A class of two people splits into two clusters: two-means, started at the sign of the first principal direction, cuts
it, and the cut is accepted if pairs inside a part are almost always more similar than pairs across. On random subsets
of 40 images of one person the separation stays below 0.91 (twelve people, embeddings of a MobileFaceNet); with two
people it is above 0.97, with a mother and her daughter about 0.94. With fewer than `LEAST` images it says nothing.
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
LEAST = 30  # different images in a class
SMALLEST = 5  # different images in a part; fewer are no second person but odd ones out
SEPARATION = 0.9
ROUNDS = 100  # of two-means; it settles in about ten
IMAGES = 2_000  # of a class, for the pairs: at most two million of them


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
    medians = np.median(cosines, axis=1)
    touched = np.flatnonzero(left_out.any(axis=1))
    for row in touched.tolist():
        kept = cosines[row][~left_out[row]]
        medians[row] = np.median(kept) if len(kept) else np.nan
    return medians


@dataclass(frozen=True)
class Parts:
    """A class cut in two.

    smaller, larger: rows of either part, the ones nearest to its centre first. within: median cosine of pairs inside a
    part. across: median cosine of pairs across. separation: share of (inside, across) choices of two pairs of which the
    inside one is more similar, ties half; 0.5 is no cut at all, 1 a perfect one.
    """

    smaller: NDArray[np.int64]
    larger: NDArray[np.int64]
    within: float
    across: float
    separation: float


def parts_of(embeddings: NDArray[np.float32], rows: NDArray[np.int64], groups: Sequence[str]) -> Parts | None:
    """Cut the images of one class in two.

    Args:
        embeddings: (N, D) of any length.
        rows: (M,) the images of the class.
        groups: (N,) images of one name are copies of each other and count once.
    Returns:
        The parts, however badly they are separated; None where there are fewer than `LEAST` images, or fewer than
        `SMALLEST` in a part.
    Raises:
        UsageError: lengths that differ.

    >>> faces = np.repeat(np.eye(2, dtype=np.float32), [25, 8], axis=0)
    >>> found = parts_of(faces, np.arange(33), [str(row) for row in range(33)])
    >>> len(found.smaller), len(found.larger), found.within, found.across, found.separation
    (8, 25, 1.0, 0.0, 1.0)
    """
    if len(embeddings) != len(groups):
        raise UsageError(f"{len(embeddings)} embeddings and {len(groups)} groups do not fit")
    first = {groups[row]: row for row in reversed(rows.tolist())}
    once = np.array(sorted(first.values()), np.int64)
    if len(once) < LEAST:
        return None
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), np.float32(1e-12))
    centres = _two_means(unit[once].astype(np.float64))
    sides = [once[_nearest(unit[once], centres) == side] for side in (0, 1)]
    if min(map(len, sides)) < SMALLEST:
        return None
    within, across = _pairs(unit, sides)
    nearest = _nearest(unit[rows], centres)
    ordered = [_by_distance(unit, rows[nearest == side], centres[side]) for side in (0, 1)]
    smaller, larger = sorted(ordered, key=len)
    return Parts(smaller, larger, float(np.median(within)), float(np.median(across)), _separation(within, across))


def _two_means(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two centres (2, D) that Lloyd's rounds settle on, from the sign of the first principal direction."""
    centred = points - points.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    side = (centred @ direction > 0).astype(np.int64)
    for _ in range(ROUNDS):
        if side.min() == side.max():  # all points are one
            return np.stack([points.mean(axis=0)] * 2)
        centres = np.stack([points[side == number].mean(axis=0) for number in (0, 1)])
        moved = _nearest(points, centres)
        if (moved == side).all() or moved.min() == moved.max():
            break
        side = moved
    return centres


def _nearest(points: NDArray[np.floating], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the nearer of the two centres for each point, (N,)."""
    distances = [((points - centre) ** 2).sum(axis=1) for centre in centres]
    nearer: NDArray[np.int64] = (distances[1] < distances[0]).astype(np.int64)
    return nearer


def _by_distance(unit: NDArray[np.float32], rows: NDArray[np.int64], centre: NDArray[np.float64]) -> NDArray[np.int64]:
    return rows[np.argsort(((unit[rows] - centre) ** 2).sum(axis=1), kind="stable")]


def _pairs(
    unit: NDArray[np.float32], sides: Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines of the pairs inside the parts, and of those across; of large classes evenly spaced images."""
    total = sum(map(len, sides))
    chosen = [unit[side[:: max(1, -(-total // IMAGES))]].astype(np.float64) for side in sides]
    inside = [(part @ part.T)[np.triu_indices(len(part), 1)] for part in chosen]
    return np.concatenate(inside), (chosen[0] @ chosen[1].T).ravel()


def _separation(within: NDArray[np.float64], across: NDArray[np.float64]) -> float:
    """Share of choices of one of each in which the one within is higher, ties half (Mann and Whitney's statistic)."""
    ordered = np.sort(across)
    below, reached = np.searchsorted(ordered, within, "left"), np.searchsorted(ordered, within, "right")
    return float((below + reached).mean() / 2 / len(across))
