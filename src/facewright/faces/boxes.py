"""Boxes of faces: reduction of overlapping ones to one a face, and the face box in a patch.

Boxes are (N, 4) x, y, width, height in pixels. The two suppressions take tens of thousands: the boxes are sorted by
their left side once, so that each is compared with those that can overlap it and with no others.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics.detection import Floats, as_boxes, iou

Indices = NDArray[np.int64]
Share = Literal["union", "smaller"]
"""The overlap of two boxes as a share of their union (intersection over union), or of the smaller of the two."""

OVERLAP = 0.3  # intersection over union above which two boxes are taken for one face
SIGMA = 0.5  # of the soft suppression; the value of its paper
ALIKE = 0.5  # intersection over union from which on a box takes part in an average


def keep_best(boxes: ArrayLike, scores: ArrayLike, overlap: float = OVERLAP, of: Share = "union") -> Indices:
    """Hard non-maximum suppression: of boxes that overlap, the one with the highest score.

    Args:
        boxes: (N, 4). scores: (N,), higher is more certain; of equal ones the earlier goes first.
        overlap: in [0, 1]; a box goes where its intersection with a kept one is a larger share than this.
        of: a share of what; "smaller" also drops boxes that lie inside a kept one, or around it.
    Returns:
        (K,) the indices of the kept boxes, highest score first.
    Raises:
        UsageError: not as many scores as boxes, or boxes that are none.
    >>> keep_best([[0, 0, 10, 10], [1, 0, 10, 10], [40, 0, 10, 10]], [0.8, 0.9, 0.7]).tolist()
    [1, 2]
    """
    row = _Row(boxes, scores)
    alive = np.ones(len(row.boxes), np.bool_)
    kept = []
    for place in np.lexsort((row.order, -row.scores)):
        if alive[place]:
            kept.append(place)
            near = row.near(place)
            alive[near] &= row.overlaps(place, near, of) <= overlap
    return row.order[np.array(kept, np.int64)]


def soften(boxes: ArrayLike, scores: ArrayLike, floor: float, sigma: float = SIGMA) -> tuple[Indices, Floats]:
    """Soft non-maximum suppression: boxes lose score by their overlap with higher-scoring ones.

    The box with the highest score is kept, every other score is multiplied by exp(-overlap**2 / sigma), and so on;
    boxes whose score falls below `floor` are dropped. Two faces close to each other are both kept.

    Args:
        boxes: (N, 4). scores: (N,) in [0, 1]. floor: above 0. sigma: above 0; smaller is harder.
    Returns:
        (K,) the indices of the kept boxes and (K,) their new scores, highest first.
    Raises:
        UsageError: as `keep_best`; a floor or a sigma that is not above 0.
    Source: Bodla et al. 2017, "Soft-NMS: improving object detection with one line of code" (arXiv:1704.04503), eq. 3.
    >>> indices, scores = soften([[0, 0, 10, 10], [5, 0, 10, 10]], [0.9, 0.8], floor=0.1)
    >>> indices.tolist(), scores.round(3).tolist()
    ([0, 1], [0.9, 0.641])
    """
    if floor <= 0 or sigma <= 0:
        raise UsageError(f"expected a floor and a sigma above 0, got {floor} and {sigma}")
    row = _Row(boxes, scores)
    left = row.scores.copy()  # what remains of each score; -1 once a box is kept
    waiting = [(-float(left[place]), int(row.order[place]), int(place)) for place in np.flatnonzero(left >= floor)]
    heapq.heapify(waiting)
    kept, kept_scores = [], []
    while waiting:
        score, order, place = heapq.heappop(waiting)
        now = float(left[place])
        if now < floor:
            continue
        if -score > now:  # it lost since it was queued: back to where it belongs
            heapq.heappush(waiting, (-now, order, place))
            continue
        kept.append(place)
        kept_scores.append(now)
        near = row.near(place)
        left[near] *= np.exp(-(row.overlaps(place, near) ** 2) / sigma)
        left[place] = -1.0
    return row.order[np.array(kept, np.int64)], np.array(kept_scores)


def average(boxes: ArrayLike, scores: ArrayLike, kept: ArrayLike, overlap: float = ALIKE) -> tuple[Floats, Indices]:
    """Replace each kept box by the mean of all boxes that overlap it well, weighted by their scores.

    Args:
        boxes: (N, 4) before suppression. scores: (N,), above 0. kept: (K,) which of them were kept.
        overlap: in (0, 1]; least intersection over union with the kept box.
    Returns:
        (K, 4) refined boxes, and (K,) how many each is the mean of, itself included.
    >>> refined, support = average([[0, 0, 10, 10], [2, 0, 10, 10], [50, 0, 10, 10]], [1, 1, 1], [0, 2])
    >>> refined.tolist(), support.tolist()
    ([[1.0, 0.0, 10.0, 10.0], [50.0, 0.0, 10.0, 10.0]], [2, 1])
    """
    row = _Row(boxes, scores)
    places = np.empty(len(row.order), np.int64)
    places[row.order] = np.arange(len(row.order))
    refined, support = [], []
    for place in places[np.asarray(kept, np.int64)]:
        near = row.near(place)
        alike = np.flatnonzero(row.overlaps(place, near) >= overlap) + near.start
        refined.append(np.average(row.boxes[alike], axis=0, weights=row.scores[alike]))
        support.append(len(alike))
    return np.array(refined).reshape(-1, 4), np.array(support, np.int64)


class _Row:
    """Boxes sorted by their left side; `order` says where each was."""

    def __init__(self, boxes: ArrayLike, scores: ArrayLike) -> None:
        values, confidences = as_boxes(boxes), np.asarray(scores, np.float64)
        if confidences.shape != (len(values),):
            raise UsageError(f"expected a score for each of the {len(values)} boxes, got {confidences.shape}")
        self.order: Indices = np.argsort(values[:, 0], kind="stable")
        self.boxes = values[self.order]
        self.scores = confidences[self.order]
        self._widest = float(values[:, 2].max(initial=0.0))
        self._left, self._top = np.ascontiguousarray(self.boxes[:, :2].T)
        self._right, self._bottom = np.ascontiguousarray((self.boxes[:, :2] + self.boxes[:, 2:]).T)
        self._area = self.boxes[:, 2] * self.boxes[:, 3]

    def near(self, place: int) -> slice:
        """Return the boxes that can overlap this one, itself among them."""
        reach = (self._left[place] - self._widest, self._right[place])
        first, last = np.searchsorted(self._left, reach)
        return slice(int(first), int(last))

    def overlaps(self, place: int, near: slice, of: Share = "union") -> Floats:
        """Compute the intersection of one box with its neighbours, as a share."""
        width = np.minimum(self._right[near], self._right[place]) - np.maximum(self._left[near], self._left[place])
        height = np.minimum(self._bottom[near], self._bottom[place]) - np.maximum(self._top[near], self._top[place])
        common = np.maximum(width, 0.0) * np.maximum(height, 0.0)
        if of == "smaller":
            return np.asarray(common / np.minimum(self._area[near], self._area[place]))
        return np.asarray(common / (self._area[near] + self._area[place] - common))


LEAST_FACES = 3  # a frame rests on


@dataclass(frozen=True)
class Frame:
    """The face box of a patch, as shares of the patch's sides; by default the patch itself.

    >>> Frame(0.1, 0.2, 0.8, 0.8).boxes([[100, 100, 50, 50]]).tolist()
    [[105.0, 110.0, 40.0, 40.0]]
    """

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0

    def __post_init__(self) -> None:
        if not all(np.isfinite((self.left, self.top))) or not (0 < self.width <= 4 and 0 < self.height <= 4):
            given = f"{self.left:g},{self.top:g},{self.width:g},{self.height:g}"
            raise UsageError(f"expected a face box left,top,width,height in shares of the patch, got {given}")

    def boxes(self, patches: ArrayLike) -> Floats:
        """Compute the face boxes of patches: (K, 4) x, y, width, height -> (K, 4), same units."""
        corner, size = np.hsplit(as_boxes(patches), 2)
        return np.hstack([corner + size * (self.left, self.top), size * (self.width, self.height)])


def fit_frame(patches: Sequence[ArrayLike], truth: Sequence[ArrayLike]) -> Frame:
    """Fit the frame that best turns detected patches into true boxes: medians over the detected faces.

    Each true box goes with the patch that overlaps it most. Training images are mirrored, so the frame lies in the
    middle of the patch from left to right.

    Args:
        patches: for each photo (K, 4), one patch a face, as detected. truth: for each photo (T, 4).
    Raises:
        Undefined: fewer than 3 faces were detected.
    """
    rows = [np.zeros((0, 3))]
    for found, true in zip(map(as_boxes, patches), map(as_boxes, truth), strict=True):
        if len(found) and len(true):
            shared = iou(true, found)
            near = found[shared.argmax(axis=1)]
            top, size = (true[:, 1] - near[:, 1]) / near[:, 3], true[:, 2:] / near[:, 2:]
            rows.append(np.column_stack([top, size])[shared.max(axis=1) > 0.2])
    pairs = np.concatenate(rows)
    if len(pairs) < LEAST_FACES:
        raise Undefined(
            f"expected at least {LEAST_FACES} detected faces to fit the face box in a patch, got {len(pairs)}"
        )
    top, width, height = (float(value) for value in np.median(pairs, axis=0))
    return Frame((1 - width) / 2, top, width, height)
