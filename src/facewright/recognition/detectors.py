"""What finds the faces of a photo: a detector gives their boxes, and perhaps five points of each.

"dlib"    its CNN detector
"none"    the whole photo is the box of its one face: pre-cropped photos
*.onnx    YuNet, from its file, run by OpenCV
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UnknownName
from facewright.faces import yunet
from facewright.faces.dlib.detector import FaceDetector, searchable
from facewright.faces.dlib.graphs import MAX_MARGIN
from facewright.images import Pixels

DETECTORS = ("dlib", "none", "a YuNet .onnx file")
LEAST = 20  # px: a face of a shorter side is not looked for, and a photo of a shorter side shows none
EVERY = (40, LEAST)  # px: the smallest face that is looked for; the second only where the first finds nothing
LARGE = (80, *EVERY)  # where one person is asked for; looking for small faces at once takes four times as long


@dataclass(frozen=True, eq=False)
class Located:
    """Where the N faces of a photo are, the surest first."""

    boxes: NDArray[np.float64]  # (N, 4) x, y, width, height in px of the photo; may reach out of it
    scores: tuple[float | None, ...]  # N
    squares: NDArray[np.float64]  # (N, 4) likewise: the boxes as dlib's detector draws them, for `FivePoints`
    points: NDArray[np.float64] | None = None  # (N, 5, 2) in the order of `alignment.ARCFACE`, where it finds any


class Detector(Protocol):
    """Finds faces; may be called from several threads."""

    name: str  # without a path: as thresholds say what they belong to

    @property
    def digest(self) -> str:
        """Stands for its weights.

        Raises:
            WeightsError: they cannot be had.
        """
        ...

    def locate(self, photo: Pixels, sizes: Sequence[float]) -> Located:
        """The faces at the first of some smallest sizes at which there are any.

        Args:
            photo: (H, W, 3) uint8, upright. sizes: px of the side of the smallest face, at least `LEAST`.
        """
        ...

    def searchable(self, photo: Pixels, smallest: float) -> float:
        """The smallest face that is looked for in a photo where `smallest` is asked: larger in very large photos."""
        ...


class Dlib:
    """dlib's CNN detector, loaded when it is first needed.

    Args:
        cache: the folder of the converted network; the user's own where None.
    """

    name = "dlib"

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache

    @cached_property
    def _network(self) -> FaceDetector:
        return FaceDetector.load(cache=self._cache)

    @property
    def digest(self) -> str:
        return MAX_MARGIN.digest()

    def locate(self, photo: Pixels, sizes: Sequence[float]) -> Located:
        if min(photo.shape[:2]) < LEAST:
            return _nowhere()
        for size in dict.fromkeys(self.searchable(photo, size) for size in sizes):
            boxes, scores = self._network.find(photo, smallest=size)
            if len(boxes):
                return Located(boxes, tuple(scores.tolist()), boxes)
        return _nowhere()

    def searchable(self, photo: Pixels, smallest: float) -> float:
        return searchable(photo, smallest)


class YuNet:
    """YuNet, with points of its own.

    Args:
        path: its ONNX file; loaded at once.
    Raises:
        WeightsError: it is not that, or OpenCV is not installed.
    """

    name = "yunet"

    def __init__(self, path: Path) -> None:
        self._network = yunet.YuNet.load(path)

    @property
    def digest(self) -> str:
        return self._network.digest

    def locate(self, photo: Pixels, sizes: Sequence[float]) -> Located:
        if min(photo.shape[:2]) < LEAST:
            return _nowhere()
        for size in dict.fromkeys(self.searchable(photo, size) for size in sizes):
            boxes, scores, points = self._network.find(photo, smallest=size)
            if len(boxes):
                return Located(boxes, tuple(scores.tolist()), yunet.dlib_squares(boxes), points)
        return _nowhere()

    def searchable(self, photo: Pixels, smallest: float) -> float:
        return searchable(photo, smallest, yunet.WINDOW)


class Whole:
    """No detector: the whole photo is one face.

    The digest is that of dlib's detector all the same, as it has always been: thresholds of pre-cropped photos go on.
    """

    name = "none"

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache

    @property
    def digest(self) -> str:
        return MAX_MARGIN.digest()

    def locate(self, photo: Pixels, sizes: Sequence[float]) -> Located:
        height, width = photo.shape[:2]
        if min(height, width) < LEAST:
            return _nowhere()
        box = np.array([[0.0, 0.0, width, height]])
        return Located(box, (None,), box)

    def searchable(self, photo: Pixels, smallest: float) -> float:
        return smallest


def detector_of(name: str, cache: Path | None = None) -> Detector:
    """The detector of a name, or of YuNet's file.

    Raises:
        UnknownName: there is none. WeightsError: the file is not YuNet's.
    """
    if name == Dlib.name:
        return Dlib(cache)
    if name == Whole.name:
        return Whole(cache)
    if Path(name).suffix.lower() == ".onnx":
        return YuNet(Path(name))
    raise UnknownName("detector", name, DETECTORS)


def _nowhere() -> Located:
    return Located(np.zeros((0, 4)), (), np.zeros((0, 4)))
