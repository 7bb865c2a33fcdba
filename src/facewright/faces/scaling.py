"""Photos scaled so that the smallest face that is looked for has the size that a detector knows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from facewright.errors import UsageError
from facewright.images import Pixels
from facewright.metrics.detection import Floats

MAX_PIXELS = 4_000_000  # of a photo that is searched at its own size; dlib's pyramid of it takes 0.9 GB of memory
LARGEST_DEFAULT = 40.0  # px: the largest default


def scaled(photo: Pixels, smallest: float | None, window: float) -> tuple[Pixels, Floats]:
    """Scale a photo so that its smallest face is as large as a network's window.

    Args:
        photo: (H, W, 3) uint8.
        smallest: px of the photo; None: the window's side, or more in a photo of over four million pixels.
        window: px: side of the smallest faces that the network is to see.
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


def searchable(photo: Pixels, smallest: float, window: float) -> float:
    """Return the smallest face that can be looked for in a photo: `smallest`, or larger in very large photos.

    Args:
        photo: (H, W, 3). smallest: px of it. window: px: side of the smallest faces that the network is to see.
    >>> searchable(np.zeros((250, 250, 3), np.uint8), 40, window=80)
    40
    >>> searchable(np.zeros((3000, 4000, 3), np.uint8), 40, window=80)
    139
    >>> searchable(np.zeros((3000, 4000, 3), np.uint8), 40, window=32)
    56
    """
    height, width = photo.shape[:2]
    least = window * (height * width / MAX_PIXELS) ** 0.5
    return smallest if smallest >= least else int(least) + 1


def default_smallest(photo: Pixels, window: float, budget: int) -> float:
    """Choose the smallest face to look for: as small as a number of pixels allows, from 10 to 40 px.

    Args:
        photo: (H, W, 3). window: px: side of the smallest faces that the network is to see.
        budget: px of the scaled photo; what it takes is the same for every photo that is not very large.
    >>> default_smallest(np.zeros((375, 500, 3), np.uint8), 32, 2_000_000)
    10.0
    >>> default_smallest(np.zeros((3000, 4000, 3), np.uint8), 32, 2_000_000)
    40.0
    """
    height, width = photo.shape[:2]
    return min(LARGEST_DEFAULT, max(10.0, float(round(window * (height * width / budget) ** 0.5))))
