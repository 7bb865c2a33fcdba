"""One drawn face."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .identity import Attributes, Identity, attributes_of
from .stream import Stream


def draw_face(
    identity: Identity, seed: int, index: int, size: int, attributes: Attributes | None = None
) -> tuple[NDArray[np.uint8], Attributes]:
    """Picture number `index` of a person: (size, size, 3) uint8 RGB, and what it shows."""
    shown = attributes_of(identity, seed, index) if attributes is None else attributes
    stream = Stream(seed, 6, identity.number, index)
    side = 3 * size
    image = Image.new("RGB", (side, side), tuple(int(255 * stream.unit()) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    x, y, half = side * stream.between(0.45, 0.55), side * stream.between(0.45, 0.55), side * 0.34
    colour = tuple(int(value) for value in identity.skin)
    draw.ellipse((x - half * identity.cheek, y - half, x + half * identity.cheek, y + half), fill=colour)
    draw.chord(
        (x - half * 0.9, y - half * 1.1, x + half * 0.9, y + half), 190, 350, fill=tuple(map(int, identity.hair))
    )
    return np.array(image.reduce(3)), shown
