"""Detectors of the faces of a photo: their boxes, and perhaps five points of each.

"dlib"    its CNN detector
"none"    the whole photo is the box of its one face: pre-cropped photos
"yunet"   or another detector of `face_weights`, downloaded at its first use
*.onnx    YuNet, SCRFD or RetinaFace, from its file
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UnknownName, UsageError
from facewright.faces.boxes import keep_best
from facewright.faces.dlib.detection import FaceDetector
from facewright.faces.dlib.graphs import MAX_MARGIN, WINDOW
from facewright.faces.onnx_detectors import OnnxDetector, dlib_squares
from facewright.faces.scaling import LARGEST_DEFAULT, MAX_PIXELS, default_smallest, of_at_least, parts_of, searchable
from facewright.faces.selection import NO_LIMITS, ScoreLimits
from facewright.images import Pixels
from facewright.models.face_weights import face_weights, file_of

DETECTORS = ("dlib", "none", "yunet, retinaface_mv2 or scrfd_...", "the .onnx file of YuNet, SCRFD or RetinaFace")
SMALLEST_PHOTO = 20  # px: a photo of a shorter side shows no face
SMALLEST_FACE = 8  # px: a face of a shorter side cannot be looked for
EVERY = (None, 20)  # px: the smallest face that is looked for; the second only where the first finds nothing
ALONE = (40, 20)  # where one person alone is expected
LARGE = (80, *ALONE)  # where one person is selected; looking for small faces at once takes four times as long
REACH = 24_000_000  # px of a photo scaled for its smallest face, searched in parts: 20 s of CPU with dlib, YuNet 2 s
ALIKE = 0.4  # boxes of two parts whose union is shared by this much are one face
BUDGETS = {"dlib": 1_000_000, "onnx": 500_000}  # px of a photo scaled for its smallest face; benchmarks/finding.py

# Scores of the selected face in photos of LFW. dlib: upright 1.04 to 1.08 (250 photos: from 1.00, 95 % from 1.03);
# turned by 90 degrees, times the cosine of the roll, 0.04 to 1.03; tilted by 45 degrees from 0.74; blurred until
# verification failed 0.08 to 0.57. Upright and turned: YuNet 0.89 to 0.94 and 0.80 to 0.91, SCRFD 0.71 to 0.87 and
# 0.51 to 0.78, RetinaFace 0.975 to 1.00 and 0.80 to 1.00; these report no face below 0.5 to 0.8, so that no second
# limit is needed. Photos whose lower half is black, turned: wrong faces of 0.65 to 0.80.
# dlib's first limit: of 127 other LFW photos turned by 90, 180 and 270 degrees, 23 of 381 are taken in a wrong
# orientation at 1.0 and at 1.03, 24 at 0.95, 33 at 0.9. At 1.03 14 % of upright photos are searched again, and 1 of 88
# was taken sideways.
SCORE_LIMITS = {
    "dlib": ScoreLimits(1.0, 0.6, 0.85),
    "yunet": ScoreLimits(0.91, 0.0),
    "scrfd": ScoreLimits(0.75, 0.0),
    "retinaface": ScoreLimits(0.99, 0.0),
}


@dataclass(frozen=True, eq=False)
class Located:
    """The places of the N faces of a photo, highest score first."""

    boxes: NDArray[np.float64]  # (N, 4) x, y, width, height in px of the photo; may reach out of it
    scores: tuple[float | None, ...]  # N
    squares: NDArray[np.float64]  # (N, 4) likewise: the boxes as dlib's detector draws them, for `FivePoints`
    points: NDArray[np.float64] | None = None  # (N, 5, 2) in the order of `alignment.ARCFACE`, where it finds any
    searched: float = 0.0  # px: side of the smallest face that was looked for


Find = Callable[[Pixels, float], tuple[Any, Any, Any]]
"""A photo and its smallest face, px -> boxes, scores, and points or None."""


class Searching:
    """A network that is passed over a photo, scaled so that its smallest face has the size that the network knows.

    Args:
        load: returns the search function, when first needed. digest: of the weights.
        window: px: side of the smallest faces that the network knows.
        budget: px that a photo may have once it is scaled for the usual smallest face.
        squares: from the network's boxes to dlib's.
        reach: px of the scaled photo that `every` searches, in parts; where it finds nothing `REACH`.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], Find],
        digest: Callable[[], str],
        window: float,
        budget: int,
        squares: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.asarray,
        reach: int = MAX_PIXELS,
    ) -> None:
        self.name, self._load, self._digest, self._squares = name, load, digest, squares
        self._window, self._budget, self._reach = window, budget, reach
        self.limits = SCORE_LIMITS.get(name, NO_LIMITS)

    @cached_property
    def find(self) -> Find:
        return self._load()

    @property
    def digest(self) -> str:
        """Of its weights. Raises WeightsError: they cannot be had."""
        return self._digest()

    def locate(self, photo: Pixels, sizes: Sequence[float | None]) -> Located:
        """Find the faces at the first of some smallest sizes, px, at which there are any; None: the default size."""
        return self._first(photo, [self._within(photo, size, MAX_PIXELS) for size in sizes])

    def every(self, photo: Pixels, smallest: float | None, turned: bool = False) -> Located:
        """Find all faces of a photo, (H, W, 3) uint8; a very large one is also searched in parts.

        Args:
            smallest: px; None: the default, and 20 where none is found.
            turned: it is a photo turned for a second look, with the default size alone.
        """
        sizes = [self.searchable(photo, smallest)]
        if smallest is None and not turned:
            sizes += [self._within(photo, EVERY[1], MAX_PIXELS), self._within(photo, None, REACH)]
        return self._first(photo, [size for n, size in enumerate(sizes) if size < min(sizes[:n], default=math.inf)])

    def searchable(self, photo: Pixels, smallest: float | None) -> float:
        """Return the smallest face that `every` looks for first: larger than `smallest` in very large photos."""
        return self._within(photo, smallest, self._reach)

    def _within(self, photo: Pixels, smallest: float | None, most: int) -> float:
        """Return the smallest face that can be looked for within so many px of the scaled photo."""
        wanted = default_smallest(photo, self._window, self._budget) if smallest is None else smallest
        return searchable(photo, wanted, self._window, most)

    def _first(self, photo: Pixels, sizes: Sequence[float]) -> Located:
        """Find the faces at the first size at which there are any."""
        if min(photo.shape[:2]) >= SMALLEST_PHOTO:
            for size in dict.fromkeys(sizes):
                boxes, scores, points = self._at(photo, size)
                if len(boxes):
                    return Located(boxes, tuple(scores.tolist()), self._squares(boxes), points, size)
        return replace(_nowhere(), searched=min(sizes))

    def _at(self, photo: Pixels, size: float) -> tuple[Any, Any, Any]:
        """Find the faces from one size on; what is too much for one search is also searched in parts."""
        whole = searchable(photo, size, self._window)
        found = [self.find(photo, whole)]
        if whole <= size:
            return found[0]
        for part in parts_of(photo, size, whole, self._window):
            pixels = photo[part.top : part.bottom, part.left : part.right]
            boxes, scores, points = self.find(pixels, searchable(pixels, size, self._window))
            boxes = boxes + np.array([part.left, part.top, 0, 0])
            middle, low, high = boxes[:, :2] + boxes[:, 2:] / 2, np.array(part.core[:2]), np.array(part.core[2:])
            inside = ((middle >= low - size / 2) & (middle <= high + size / 2)).all(axis=1)
            kept = inside & (boxes[:, 2:].max(axis=1, initial=0) <= 1.25 * whole)  # larger ones the first search finds
            shifted = None if points is None else points[kept] + [part.left, part.top]
            found.append((boxes[kept], scores[kept], shifted))
        boxes, scores = (np.concatenate([one[n] for one in found]) for n in (0, 1))
        best = keep_best(boxes, scores, ALIKE)
        return boxes[best], scores[best], None if found[0][2] is None else np.concatenate([p for *_, p in found])[best]


def missing(located: Located) -> str:
    """Say that no face was found in a photo, and how large it had to be where the photo is very large."""
    least = located.searched
    return "no face was found" if least <= LARGEST_DEFAULT else f"no face {of_at_least(least)} was found"


def _dlib(cache: Path | None, device: str | None) -> Searching:
    def load() -> Find:
        network = FaceDetector.load(cache=cache, device=device)
        return lambda photo, smallest: (*network.find(photo, smallest=smallest), None)

    return Searching("dlib", load, MAX_MARGIN.digest, WINDOW, BUDGETS["dlib"])


def _from_file(path: Path, device: str | None) -> Searching:
    """Raises WeightsError: the file holds none of `onnx_detectors.FAMILIES`."""
    network = OnnxDetector.load(path, device)
    family = network.family
    return Searching(
        family.name, lambda: network.find, lambda: network.digest, family.window, BUDGETS["onnx"], dlib_squares, REACH
    )


class Whole:
    """No detector: the whole photo is one face.

    The digest is that of dlib's detector all the same, as it has always been: thresholds of pre-cropped photos go on.
    """

    name = "none"
    limits = NO_LIMITS

    @property
    def digest(self) -> str:
        return MAX_MARGIN.digest()

    def locate(self, photo: Pixels, sizes: Sequence[float | None]) -> Located:
        height, width = photo.shape[:2]
        if min(height, width) < SMALLEST_PHOTO:
            return _nowhere()
        box = np.array([[0.0, 0.0, width, height]])
        return Located(box, (None,), box)

    def every(self, photo: Pixels, smallest: float | None, turned: bool = False) -> Located:
        return self.locate(photo, (smallest,))

    def searchable(self, photo: Pixels, smallest: float | None) -> float:
        return SMALLEST_PHOTO if smallest is None else smallest


Detector = Searching | Whole
"""A detector of faces; may be called from several threads."""


def detector_of(name: str, cache: Path | None = None, device: str | None = "cpu") -> Detector:
    """Return the detector of a name, or of an ONNX file; `device` as of `graphs.Session`.

    Raises:
        UnknownName: there is none. WeightsError: the file is no face detector's. UsageError: it is a recognizer.
    """
    if name == "dlib":
        return _dlib(cache, device)
    if name == Whole.name:
        return Whole()
    if (row := face_weights(name)) is not None:
        if row.kind != "detector":
            raise UsageError(f"{name} is a face recognizer: give it as MODEL")
        return _from_file(file_of(row, cache=cache), device)
    if Path(name).suffix.lower() == ".onnx":
        return _from_file(Path(name), device)
    raise UnknownName("detector", name, DETECTORS)


def _nowhere() -> Located:
    return Located(np.zeros((0, 4)), (), np.zeros((0, 4)))
