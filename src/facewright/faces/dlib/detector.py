"""Faces in photos, by dlib's convolutional detector: a small network passed over a pyramid of the photo.

Three convolutions of 5x5 that halve the side, three that keep it, and one of 9x9 give a score for a window of 80 px
at every eighth pixel of every level; scores above 0 are faces, and of windows that overlap, the one with the highest
score stays. It was trained with the loss of King 2015, "Max-margin object detection" (arXiv:1502.00046), and finds
faces turned to the side or half covered that detectors of gradients miss.

>>> boxes, scores = FaceDetector.load().find(photo)                                    # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facewright.faces.dlib.graphs import MAX_MARGIN, MEANS, WINDOW
from facewright.faces.dlib.pyramid import lay_out
from facewright.faces.scaling import scaled
from facewright.graphs import Session
from facewright.images import Pixels
from facewright.metrics.detection import Floats

STRIDE, FIRST = 8, 14  # px: between two windows of a level, and of the middle of the first
OVERLAP = 0.3382761351109955  # share of the box around two windows from which on they show one face


class FaceDetector:
    """The network with its weights; `find` may be called from several threads."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def load(cls, *, cache: Path | None = None, device: str | None = "cpu") -> FaceDetector:
        """Load the network of the package's file, converted the first time; arguments and errors as `Source.load`."""
        return cls(MAX_MARGIN.session(cache=cache, device=device))

    def find(self, photo: Pixels, *, smallest: float | None = None, threshold: float = 0.0) -> tuple[Floats, Floats]:
        """Find the faces of a photo.

        Args:
            photo: (H, W, 3) uint8.
            smallest: px of the photo: side of the smallest face that is looked for. Half of it takes four times as
                long. None: 80, or as much more as a photo of more than four million pixels needs.
            threshold: a score above this is a face; the scale is that of the loss, 1 is sure.
        Returns:
            (N, 4) boxes x, y, width, height in px of the photo, square but for rounding, some reaching out of it; and
            their (N,) scores, highest first.
        Raises:
            UsageError: `smallest` is not above 0, or so small that the photo enlarged has over four million pixels.
        """
        level, back = scaled(photo, smallest, WINDOW)
        layout = lay_out(*level.shape[:2])
        (maps,) = self._session.run({"image": layout.draw(level, MEANS)[None]})
        scores = maps[0, 0]  # (rows, columns) of the pyramid's image
        rows, columns = np.nonzero(scores > threshold)
        found = scores[rows, columns].astype(np.float64)
        order = np.argsort(-found, kind="stable")
        centres = np.stack([columns, rows], axis=1)[order].astype(np.float64) * STRIDE + FIRST
        boxes = layout.in_photo(centres, WINDOW)
        kept = _highest(boxes)
        return boxes[kept] * np.tile(back, 2), found[order][kept]


def _highest(boxes: Floats) -> list[int]:
    """Return the boxes to keep, of those sorted by score; the overlap is a share of the box around both."""
    kept: list[int] = []
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    for index in range(len(boxes)):
        inner = np.minimum(high[kept], high[index]) - np.maximum(low[kept], low[index])
        outer = np.maximum(high[kept], high[index]) - np.minimum(low[kept], low[index])
        shared = np.maximum(inner, 0).prod(axis=1) / outer.prod(axis=1)
        if not (shared > OVERLAP).any():
            kept.append(index)
    return kept
