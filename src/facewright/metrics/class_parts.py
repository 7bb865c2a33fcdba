"""Mixed-identity classes: folders that hold the photos of two people.

A classifier cannot see this fault (it learns both looks of the class, out of fold too), and images of two relatives are
not as unlike the class as images of other people. But such a class splits into two clusters: two-means, started at the
sign of the first principal direction, cuts it, and the cut is accepted if pairs inside a part are almost always more
similar than pairs across.

Any cloud of points can be cut in two, and the parts then are a little denser than the whole. So the required separation
was set from classes that hold one person: on random subsets of 40 images in a public set of twelve people
it stays below 0.91 (embeddings of a MobileFaceNet), with two people mixed in it is above 0.97, with a mother and her
daughter about 0.94. With fewer than `LEAST` images it says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError

LEAST = 30  # different images in a class
SMALLEST = 5  # different images in a part; fewer are no second person but odd ones out
SEPARATION = 0.9
ROUNDS = 100  # of two-means; it settles in about ten
IMAGES = 2_000  # of a class, for the pairs: at most two million of them


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
