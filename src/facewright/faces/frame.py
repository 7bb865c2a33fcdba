"""The face box in a patch.

A classifier of patches finds patches such as it was trained on: heads with hair and ears, perhaps, where the true boxes
of photos go from brow to chin. Overlap with a true box is only worth measuring between boxes of one kind, so a scan
turns each patch into a face box by a `Frame`, fitted on photos that nothing is measured on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from facewright.errors import Undefined, UsageError
from facewright.metrics.detection import Floats, as_boxes, iou

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

    Each true box goes with the patch that overlaps it most; one that no patch overlaps says nothing. Training images
    are mirrored, so the frame lies in the middle of the patch from left to right.

    Args:
        patches: for each photo (K, 4), one patch a face, as detected.
        truth: for each photo (T, 4).
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
