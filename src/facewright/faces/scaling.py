"""Photos scaled so that the smallest face that is looked for has the size that a detector knows."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from PIL import Image

from facewright.errors import UsageError
from facewright.images import Pixels
from facewright.metrics.detection import Floats

MAX_PIXELS = 4_000_000  # of a photo that is searched at its own size; dlib's pyramid of it takes 0.9 GB of memory
LARGEST_DEFAULT = 40.0  # px: the largest default
MARGIN = 0.8  # of the largest face of a part: half of it and some background


def scaled(photo: Pixels, smallest: float | None, window: float) -> tuple[Pixels, Floats]:
    """Scale a photo so that its smallest face is as large as a network's window.

    Args:
        photo: (H, W, 3) uint8. window: px: side of the smallest faces that the network is to see.
        smallest: px of the photo; None: the window's side, or more in a photo of over four million pixels.
    Returns:
        The photo scaled; and (2,) how many of the original px make one of it, x and y.
    Raises:
        UsageError: `smallest` is not above 0, or so small that the photo would have over four million pixels.
    """
    height, width = photo.shape[:2]
    if smallest is None:
        scale = min(1.0, (MAX_PIXELS / (height * width)) ** 0.5)
    elif smallest > 0:
        scale = window / smallest
    else:
        raise UsageError(f"expected a smallest face of more than 0 pixels, got {smallest}")
    if smallest is not None and (least := searchable(photo, smallest, window)) > smallest:
        raise UsageError(
            f"faces of {smallest:g} px in a photo of {width} x {height} would take too much memory;"
            f" look for faces of at least {least:g} px, or cut the photo into parts"
        )
    if scale == 1:
        return photo, np.ones(2)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    resized = Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized), np.array([width / size[0], height / size[1]])


def searchable(photo: Pixels, smallest: float, window: float, most: int | None = None) -> float:
    """Return the smallest face that can be looked for in a photo: `smallest`, or larger in very large photos.

    Args:
        window: as of `scaled`. most: px of the scaled photo; None: what is searched at once.
    >>> searchable(np.zeros((250, 250, 3), np.uint8), 40, window=80)
    40
    >>> searchable(np.zeros((3000, 4000, 3), np.uint8), 40, window=80)
    139
    """
    height, width = photo.shape[:2]
    least = window * (height * width / (MAX_PIXELS if most is None else most)) ** 0.5
    return smallest if smallest >= least else int(least) + 1


class Part(NamedTuple):
    """A part of a photo that is searched by itself, and what of it counts: a face whose middle lies in the core."""

    left: int
    top: int
    right: int
    bottom: int
    core: tuple[float, float, float, float]  # left, top, right, bottom


def parts_of(photo: Pixels, smallest: float, largest: float, window: float) -> list[Part]:
    """Return parts that cover a photo, each small enough to be searched at once for faces of `smallest` px.

    Their cores cover the photo without a gap; a face of up to `largest` px in a core is whole in its part.
    """
    side, margin = int(MAX_PIXELS**0.5 * smallest / window), int(MARGIN * largest) + 1

    def cuts(length: int) -> list[tuple[int, int, float, float]]:
        count = -(-length // max(side - 2 * margin, margin))
        edges = np.linspace(0, length, count + 1).tolist()
        return [
            (max(0, int(low) - margin), min(length, math.ceil(high) + margin), low, high)
            for low, high in itertools.pairwise(edges)
        ]

    return [
        Part(left, top, right, bottom, (x, y, right_core, bottom_core))
        for top, bottom, y, bottom_core in cuts(photo.shape[0])
        for left, right, x, right_core in cuts(photo.shape[1])
    ]


def of_at_least(searched: float) -> str:
    """Say from which size on, px, faces of a large photo were looked for, and what finds smaller ones."""
    return (
        f"of at least {searched:g} px (the photo is large; for smaller ones give parts of it, or a fast --detector "
        "such as yunet)"
    )


def default_smallest(photo: Pixels, window: float, budget: int) -> float:
    """Choose the smallest face to look for: as small as a number of pixels allows, from 10 to 40 px.

    Args:
        window: as of `scaled`. budget: px of the scaled photo; what it takes is the same for every smaller photo.
    >>> default_smallest(np.zeros((375, 500, 3), np.uint8), 32, 2_000_000)
    10.0
    """
    height, width = photo.shape[:2]
    return min(LARGEST_DEFAULT, max(10.0, float(round(window * (height * width / budget) ** 0.5))))
