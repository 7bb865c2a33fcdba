"""A photo in every size, laid out side by side in one image, so that one pass of a network sees all of them.

Each level has five sixths of the side of the one before. The levels stand below each other; once the small ones fit
beside them, the rest goes back up along the right edge. Between them lies a margin, so that they do not touch.

Source: the layout is that of dlib's `input_rgb_image_pyramid<pyramid_down<6>>`, pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facewright.images import Pixels
from facewright.metrics.detection import Floats

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
