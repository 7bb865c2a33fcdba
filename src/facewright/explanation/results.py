"""Results of explanations: of photos, and of a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.explanation.occlusion import Occlusion
from facewright.records import notebook_display

Heat = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ExplainedPhoto:
    """The heat map of a class in one photo, or the reason why there is none."""

    path: str
    name: str = ""  # the class that was asked about
    probability: float = 0.0  # of that class
    predicted: str = ""  # the class that the model predicts
    heat: Heat | None = None  # (H, W) in [0, 1], at the size of the network's input; None: the photo cannot be used
    photo: Pixels | None = None  # (k H, k W, 3): the part of the photo that the network sees, finer
    overlay: str | None = None  # the image that was written
    error: str | None = None

    @property
    def peak(self) -> tuple[int, int] | None:
        """Column and row of the hottest point, px of the network's input; None where nothing is hot."""
        if self.heat is None or not self.heat.any():
            return None
        row, column = np.unravel_index(int(self.heat.argmax()), self.heat.shape)
        return int(column), int(row)

    def to_dict(self) -> dict[str, Any]:
        if self.heat is None:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "class": self.name,
            "probability": self.probability,
            "predicted": self.predicted,
            "peak": None if self.peak is None else dict(zip("xy", self.peak, strict=True)),
            "hot": float((self.heat >= 0.5).mean()),  # share of the input with half of the greatest heat or more
            "overlay": self.overlay,
            "error": None,
        }


@dataclass(frozen=True, eq=False)
class Explained:
    """The result of `facewright explain` for photos."""

    model: str
    method: str
    layer: str  # whose map was read
    points: tuple[int, int]  # rows and columns of that map
    input_size: tuple[int, int]  # height and width, px
    photos: tuple[ExplainedPhoto, ...]
    page: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `explain --json` prints it."""
        return {
            "task": "explain",
            "model": self.model,
            "method": self.method,
            "layer": self.layer,
            "points": list(self.points),
            "input_size": list(self.input_size),
            "photos": [photo.to_dict() for photo in self.photos],
            "page": self.page,
        }

    _repr_html_ = notebook_display


@dataclass(frozen=True, eq=False)
class ExplainedPair:
    """The result of `facewright explain --pair` for two photos."""

    model: str
    paths: tuple[str, str]
    occlusion: Occlusion
    photos: tuple[Pixels, Pixels]  # the parts that the network sees, finer
    threshold: float | None  # stored in the model; None: none
    overlays: tuple[str, ...] = ()
    page: str | None = None

    @property
    def same(self) -> bool | None:
        """True if the similarity reaches the threshold; None without a threshold."""
        return None if self.threshold is None else self.occlusion.score >= self.threshold

    def to_dict(self) -> dict[str, Any]:
        """As `explain --pair --json` prints it."""
        heats = (self.occlusion.heat_a, self.occlusion.heat_b)
        return {
            "task": "explain-pair",
            "model": self.model,
            "score": self.occlusion.score,
            "threshold": self.threshold,
            "same": self.same,
            "drop": self.occlusion.drop,
            "photos": [
                {"path": path, "greatest_drop": float(heat.max()) * self.occlusion.drop}
                for path, heat in zip(self.paths, heats, strict=True)
            ],
            "overlays": list(self.overlays),
            "page": self.page,
        }

    _repr_html_ = notebook_display
