"""Label issues on arrays: labels that are probably wrong, images unlike their class, and classes that hold two people.

Wrong labels are found by confident learning: Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating
Uncertainty in Dataset Labels", arXiv:1911.00068. An image is unlike its class if at least 1 % of the non-mated scores
(of images against every class but their own) are as high as its own: a p-value calibrated on known non-members.

A class of two people is cut by two-means; the cut is accepted if pairs inside a part are almost always more similar
than pairs across. On random subsets of 40 images of one person the separation stays below 0.91 (twelve people,
embeddings of a MobileFaceNet); with two people it is above 0.97, with a mother and her daughter about 0.94.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.errors import EmptyScores, Undefined, UsageError

ROUNDING = 1e-12  # the mean of equal numbers may exceed them by the last bit
CHANCE = 0.01  # of a non-mated score this high
LEAST_AT_HOME = 0.5  # share of images most similar to their own class; with fewer, the features are at fault
MOST = 1 / 3  # share of images unlike their class; likewise with more
LEAST = 30  # different images in a class
SMALLEST = 5  # different images in a part; fewer are no second person but odd ones out
SEPARATION = 0.9
ROUNDS = 100  # of two-means; it settles in about ten
IMAGES = 2_000  # of a class, for the pairs: at most two million of them


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

    That is the one with the highest probability among those whose threshold it reaches; of equals its own label.

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

    Args: as `confident_joint`, whose result is `joint`.

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

    Args, Raises: as `confident_joint`.
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

    Each row of the counts is scaled to the number of images with that label, since images that reach no threshold are
    not counted; what is off the diagonal then is the estimate.

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
    unit = _unit(embeddings)
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


def _unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(lengths, np.float32(1e-12)))


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
    unit = _unit(embeddings)
    centres = _two_means(unit[once].astype(np.float64))
    sides = [once[_nearest(unit[once], centres) == side] for side in (0, 1)]
    if min(map(len, sides)) < SMALLEST:
        return None
    within, across = _pairs(unit, sides)
    nearest = _nearest(unit[rows], centres)
    members = [rows[nearest == side] for side in (0, 1)]
    apart = [((unit[own] - centre) ** 2).sum(axis=1) for own, centre in zip(members, centres, strict=True)]
    ordered = [own[np.argsort(far, kind="stable")] for own, far in zip(members, apart, strict=True)]
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
