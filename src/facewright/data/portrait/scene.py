"""Scenes: several drawn faces on a cluttered background, with their boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .face import draw_face
from .identity import identity_of
from .stream import Stream


def scene(seed: int, index: int, width: int, height: int, faces: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Several faces at different scales in one picture, and where they are."""
    stream = Stream(seed, 5, index)
    picture = np.full((height, width, 3), 128, np.uint8)
    side = min(height, width // max(faces, 1))
    boxes = []
    for face in range(faces):
        image, _ = draw_face(identity_of(seed, int(stream.unit() * 10_000)), seed, index, max(side, 16))
        picture[:side, face * side : (face + 1) * side] = image[:side, :side]
        boxes.append((face * side, 0, side, side))
    return picture, np.array(boxes, np.int64).reshape(-1, 4)
