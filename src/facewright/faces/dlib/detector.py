"""Faces in photos, by dlib's convolutional detector: a small network passed over a pyramid of the photo.

Three convolutions of 5x5 that halve the side, three that keep it, and one of 9x9 give a score for a window of 80 px
at every eighth pixel of every level; scores above 0 are faces, and of windows that overlap, the one with the highest
score stays. It was trained with the loss of King 2015, "Max-margin object detection" (arXiv:1502.00046).

The pyramid holds a photo in every size, side by side in one image: each level has five sixths of the side of the one
before, below it; once the small ones fit beside them, the rest goes back up along the right edge, with a margin between
them. Source: the layout of dlib's `input_rgb_image_pyramid<pyramid_down<6>>`, pixel by pixel.

>>> boxes, scores = FaceDetector.load().find(photo)                                    # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.faces.dlib.graphs import MAX_MARGIN, MEANS, WINDOW
from facewright.faces.scaling import scaled
from facewright.graphs import Session
from facewright.images import Pixels
from facewright.metrics.detection import Floats

STRIDE, FIRST = 8, 14  # px: between two windows of a level, and of the middle of the first
OVERLAP = 0.3382761351109955  # share of the box around two windows from which on they show one face
RATE = 5 / 6  # a level's side over that of the level before
NUDGE = 0.3  # px that a place moves from level to level beside the rate
LEAST = 5  # px: lower levels are left out
MARGIN, OUTER = 10, 11  # px between levels, and around all
LEAST_IMAGE = 32  # px: dlib's network has no use for less

Place = tuple[int, int, int, int]  # left, top, width, height, px


@dataclass(frozen=True)
class Layout:
    """The places of the levels of a photo's pyramid in the image."""

    levels: tuple[Place, ...]
    height: int
    width: int

    def draw(self, photo: Pixels, between: tuple[float, float, float]) -> NDArray[np.float32]:
        """Draw the levels of a photo, each computed from the one before by bilinear interpolation.

        Args:
            photo: (H, W, 3) uint8. between: the colour between the levels.
        Returns:
            (height, width, 3).
        """
        image = np.empty((self.height, self.width, 3), np.float32)
        image[:] = between
        level = photo.astype(np.float32)
        for left, top, width, height in self.levels:
            level = _interpolated(_interpolated(level, height).swapaxes(0, 1), width).swapaxes(0, 1)
            image[top : top + height, left : left + width] = level
        return image

    def in_photo(self, centres: Floats, size: float) -> Floats:
        """Convert squares of the image into boxes of the photo.

        Args:
            centres: (N, 2) x, y of their middles, px of the image.
            size: their side, px, the first and the last pixel included.
        Returns:
            (N, 4) x, y, width, height in whole px of the photo; a square belongs to the level nearest to its middle.
        """
        level = self._nearest(centres)
        corner = np.array([place[:2] for place in self.levels], np.float64)[level]
        low = _up(centres - (size - 1) / 2 - corner, level)
        high = _up(centres + (size - 1) / 2 - corner, level)
        low, high = np.floor(low + 0.5), np.floor(high + 0.5)
        return np.hstack([low, high - low + 1])

    def _nearest(self, centres: Floats) -> NDArray[np.int64]:
        """(N,) the level whose pixels are nearest to each place; of equally near ones the larger."""
        places = np.array(self.levels, np.float64)
        low, high = places[:, :2], places[:, :2] + places[:, 2:] - 1
        away = np.maximum(low - centres[:, None], 0) + np.maximum(centres[:, None] - high, 0)  # (N, levels, 2)
        return np.asarray((away**2).sum(axis=2).argmin(axis=1))


def lay_out(height: int, width: int) -> Layout:
    """Lay out the pyramid of a photo of this size, px.

    >>> lay_out(60, 60).levels[:2]
    ((11, 11, 60, 60), (11, 81, 50, 50))
    """
    sizes = _sizes(height, width)
    column = _first_column(sizes)
    levels: list[Place] = []
    y = OUTER
    for level_height, level_width in sizes:
        if y >= column + OUTER:
            break
        levels.append((OUTER, y, level_width, level_height))
        y += level_height + MARGIN
    y -= MARGIN
    for level_height, level_width in sizes[len(levels) :]:
        left, top = OUTER + width - level_width, y - level_height
        if top < OUTER + height:  # it would cover the photo itself
            break
        levels.append((left, top, level_width, level_height))
        y -= level_height + MARGIN
    return Layout(tuple(levels), max(column + 2 * OUTER, LEAST_IMAGE), max(width + 2 * OUTER, LEAST_IMAGE))


def _interpolated(image: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """An image (L, ..., 3) with `length` rows; the first and the last stay where they are."""
    if length == len(image):
        return image
    places = np.linspace(0, len(image) - 1, length)
    low = np.minimum(places.astype(np.int64), max(len(image) - 2, 0))
    share = (places - low).astype(np.float32)[:, None, None]
    above = image[low]
    return np.asarray(above + share * (image[np.minimum(low + 1, len(image) - 1)] - above), np.float32)


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    sizes = [(height, width)]
    while True:
        height, width = int(5 * height / 6), int(5 * width / 6)
        if height < LEAST or width == 0:
            return sizes
        sizes.append((height, width))


def _first_column(sizes: list[tuple[int, int]]) -> int:
    """Return the height of the levels below each other, px: until the next fits beside, past half of them all."""
    height, width = sizes[0]
    total = sum(level + MARGIN for level, _ in sizes) - 2 * MARGIN
    column = before = 0
    for level_height, level_width in sizes:
        if level_width <= width - before - MARGIN and (column - height) * 2 >= total - height:
            break
        column += level_height + MARGIN
        before = level_width
    return column - MARGIN


def _up(places: Floats, level: NDArray[np.int64]) -> Floats:
    """Places of a level in the photo: (N, 2), each time by 6 / 5 and a nudge."""
    growth = RATE ** -level.astype(np.float64)[:, None]
    return np.asarray(places * growth + NUDGE * (growth - 1) / (1 / RATE - 1))


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
