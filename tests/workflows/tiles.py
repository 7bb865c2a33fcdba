"""A detector that stands in for dlib's: every square of a photo, from the left, is a face; a blank square is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.faces.alignment import ARCFACE_CORNERS
from facewright.faces.dlib.landmarks import FivePoints
from facewright.recognition import Located, detectors, recognizer


class Tiles:
    """Named as the detector that it stands in for."""

    name, digest = "dlib", "d" * 16

    def locate(self, photo: np.ndarray, sizes: Sequence[float]) -> Located:
        side = photo.shape[0]
        lefts = [left for left in range(0, photo.shape[1] - side + 1, side) if photo[:, left : left + side].std() > 0]
        boxes = np.array([[left, 0.0, side, side] for left in lefts], np.float64).reshape(-1, 4)
        return Located(boxes, tuple(1 - left / 10_000 for left in lefts), boxes)


class Points:
    """Where ArcFace's template wants them: the chip is the middle of the tile, so that no neighbour shows in it."""

    def of(self, photo: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return (0.1 + 0.8 * np.array(ARCFACE_CORNERS.points)) * boxes[:, None, 2:] + boxes[:, None, :2]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `Recognizer` find tiles wherever it is asked for dlib's detector."""
    whole = detectors.detector_of
    monkeypatch.setattr(
        recognizer, "detector_of", lambda name, cache: Tiles() if name == "dlib" else whole(name, cache)
    )
    monkeypatch.setattr(recognizer, "converted", lambda source, **_: Path(source.what))
    monkeypatch.setattr(FivePoints, "load", classmethod(lambda cls, **_: Points()))


def beside(out: Path, *photos: Path) -> Path:
    """Photos of one size as one, from left to right."""
    Image.fromarray(np.concatenate([np.asarray(Image.open(path)) for path in photos], axis=1)).save(out)
    return out


def blank(out: Path, side: int = 40) -> Path:
    """A photo of nobody."""
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(out)
    return out
