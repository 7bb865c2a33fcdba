"""Finding faces in photos, measured: overlap, matching, precision and recall, average precision.

A found box counts where it overlaps a true box by at least a share of their union (0.5), and each true box counts once:
what finds it a second time is a false alarm. Boxes are (N, 4) x, y, width, height in pixels, x to the right and y down.

Source: Everingham et al. 2010, "The PASCAL Visual Object Classes (VOC) challenge", section 4.2; average precision is
the area under the interpolated curve over all its points, as the challenge has it since 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics.intervals import Rate, wilson
from facewright.records import FloatArray, Record

Floats = NDArray[np.float64]
OVERLAP = 0.5  # share of the union from which on a found box is right


class Curve(Record):
    """Precision and recall at every distinct score, from the highest down."""

    thresholds: FloatArray  # (K,) descending
    precision: FloatArray  # (K,)
    recall: FloatArray  # (K,)


class DetectionResult(Record):
    """Detection quality on photos with true boxes.

    None: undefined; precision where nothing was found.
    """

    task: Literal["detection"] = "detection"
    photos: int
    faces: int  # true boxes
    overlap: float
    threshold: float
    average_precision: float  # over every score there is, whatever the threshold
    precision: Rate | None  # of the boxes that reach the threshold
    recall: Rate
    curve: Curve


def iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of each pair of boxes.

    Args:
        a, b: (N, 4) and (M, 4) x, y, width, height; widths and heights above 0.
    Returns:
        (N, M) in [0, 1].
    Raises:
        UsageError: not (N, 4), or a box without area.
    >>> iou([[0, 0, 2, 2]], [[0, 0, 2, 2], [1, 0, 2, 2], [2, 0, 2, 2]]).round(3).tolist()
    [[1.0, 0.333, 0.0]]
    """
    first, second = as_boxes(a)[:, None], as_boxes(b)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    common = np.maximum(high - low, 0.0).prod(axis=-1)
    return np.asarray(common / (first[..., 2:].prod(axis=-1) + second[..., 2:].prod(axis=-1) - common))


def match(boxes: ArrayLike, scores: ArrayLike, truth: ArrayLike, overlap: float = OVERLAP) -> NDArray[np.bool_]:
    """Match the detected boxes of one photo with the true ones.

    From the highest score down, a box is held against the true box that it overlaps most: it is right if the overlap
    suffices and no earlier box was right about the same one. Equal scores are taken in the order given.

    Args:
        boxes: (K, 4) found. scores: (K,), higher is surer. truth: (T, 4). overlap: least intersection over union.
    Returns:
        (K,) whether each box is right.
    Raises:
        UsageError: not as many scores as boxes, or boxes that are none.
    >>> match([[0, 0, 9, 9], [0, 0, 10, 10]], [0.6, 0.9], [[0, 0, 10, 10]]).tolist()
    [False, True]
    """
    found, true, surety = as_boxes(boxes), as_boxes(truth), np.asarray(scores, np.float64)
    if surety.shape != (len(found),):
        raise UsageError(f"expected a score for each of the {len(found)} boxes, got {surety.shape}")
    right = np.zeros(len(found), np.bool_)
    if not len(true):
        return right
    shared = iou(found, true)
    taken = np.zeros(len(true), np.bool_)
    for index in np.argsort(-surety, kind="stable"):
        best = int(shared[index].argmax())
        if shared[index, best] >= overlap and not taken[best]:
            right[index] = taken[best] = True
    return right


def precision_recall(scores: ArrayLike, right: ArrayLike, faces: int) -> Curve:
    """Precision and recall at every distinct score; equal scores move together.

    Args:
        scores: (K,) of every box found in every photo. right: (K,) bool, from `match`.
        faces: true boxes in all the photos, found or not; at least 1.
    Raises:
        Undefined: there is no true box.
    >>> precision_recall([0.9, 0.8, 0.8], [True, False, True], faces=4).precision.round(3).tolist()
    [1.0, 0.667]
    """
    if faces < 1:
        raise Undefined("recall of no faces is undefined: the photos have no true boxes")
    surety, hits = np.asarray(scores, np.float64), np.asarray(right, np.bool_)
    order = np.argsort(-surety, kind="stable")
    surety, hits = surety[order], hits[order]
    last = np.flatnonzero(np.append(surety[1:] != surety[:-1], True)) if len(surety) else np.zeros(0, np.int64)
    found = np.cumsum(hits)[last]
    return Curve(thresholds=surety[last], precision=found / (last + 1), recall=found / faces)


def average_precision(curve: Curve) -> float:
    """The area under the interpolated precision-recall curve, in [0, 1].

    At each recall stands the best precision of any recall at least as high; recall never reached adds nothing.

    >>> average_precision(precision_recall([0.9, 0.8, 0.7], [True, False, True], faces=2)) == (1 + 2 / 3) / 2
    True
    """
    envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * envelope))


def best_threshold(curve: Curve) -> float:
    """The threshold with the highest F1, halfway down to the next score below, so that it holds for like photos.

    Raises:
        Undefined: nothing was found, or nothing that was found is right.
    >>> best_threshold(precision_recall([0.9, 0.8, 0.5], [True, True, False], faces=2))
    0.65
    """
    total = curve.precision + curve.recall
    if not (total > 0).any():
        raise Undefined("a best threshold is undefined: no true box was found at any score")
    f1 = np.divide(2 * curve.precision * curve.recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(f1.argmax())
    return float(curve.thresholds[best : best + 2].mean())


def evaluate_detections(
    found: Sequence[tuple[ArrayLike, ArrayLike]], truth: Sequence[ArrayLike], threshold: float, overlap: float = OVERLAP
) -> DetectionResult:
    """Hold what was found in some photos against the true boxes.

    Args:
        found: for each photo its boxes (K, 4) and their scores (K,); none where no face was found.
        truth: for each photo its true boxes (T, 4); none where it shows no face.
        threshold: precision and recall are those of the boxes with score >= threshold; chosen on other photos.
        overlap: least intersection over union.
    Raises:
        Undefined: no photo has a true box. UsageError: not as many photos on both sides, or boxes that are none.
    """
    if len(found) != len(truth):
        raise UsageError(f"expected true boxes for each of the {len(found)} photos, got those of {len(truth)}")
    pairs = zip(found, truth, strict=True)
    right = np.concatenate([np.zeros(0, np.bool_), *(match(*some, true, overlap) for some, true in pairs)])
    scores = np.concatenate([np.zeros(0), *(np.asarray(surety, np.float64) for _, surety in found)])
    faces = sum(len(as_boxes(true)) for true in truth)
    curve = precision_recall(scores, right, faces)
    kept = scores >= threshold
    hits, alarms = int((right & kept).sum()), int(kept.sum())
    return DetectionResult(
        photos=len(found),
        faces=faces,
        overlap=overlap,
        threshold=threshold,
        average_precision=average_precision(curve),
        precision=wilson(hits, alarms) if alarms else None,
        recall=wilson(hits, faces),
        curve=curve,
    )


def as_boxes(values: ArrayLike) -> Floats:
    """(N, 4) float64; an empty list is no boxes. Raises UsageError where these are none."""
    boxes = np.asarray(values, np.float64)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise UsageError(f"expected boxes (N, 4) of x, y, width, height, got {boxes.shape}")
    if not np.isfinite(boxes).all() or (boxes[:, 2:] <= 0).any():
        raise UsageError("expected boxes with a width and a height above 0, all of them finite")
    return boxes
