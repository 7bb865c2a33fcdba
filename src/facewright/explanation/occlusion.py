"""Occlusion maps of a pair of faces: how much the similarity falls when a region is covered.

Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks" (arXiv:1311.2901), section 4.2,
with the cosine of two embeddings in place of a class's score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from facewright.embedding import BATCH, similarities, similarity
from facewright.errors import UsageError
from facewright.images import Pixels
from facewright.input_spec import InputSpec
from facewright.records import notebook_display

COVER = 0.2  # share of an image's sides that the cover takes
PLACES = 13  # of the cover along each side: it moves by a third of its own side

TINY = 1e-9  # a smaller fall of the similarity counts as none

Heat = NDArray[np.float32]
Box = tuple[slice, slice]
Progress = Callable[[int, int], None]
"""Called with the number of covers tried so far and their total."""


class CropEmbedder(Protocol):
    """A network that embeds face crops, for example a `recognition.Recognizer`."""

    spec: InputSpec  # its input

    def embed_crops(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        """Embed N face crops of the input size as (N, D) unit vectors."""
        ...


@dataclass(frozen=True)
class Occlusion:
    """The regions that make two images similar.

    heat_a, heat_b: (H, W) float32 in [0, 1] at the size of the network's input, on one scale: how far the similarity
        falls when the region is covered, as a share of `drop`. A point has the weighted mean over the covers on it,
        with the most weight on their middle; 0 where the similarity stays or rises.
    """

    score: float  # the cosine of the two, nothing covered
    heat_a: Heat
    heat_b: Heat
    drop: float  # the largest mean fall at a point of either, at least 0; what heat 1 stands for


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


def occlude(network: CropEmbedder, a: Pixels, b: Pixels, progress: Progress | None = None) -> Occlusion:
    """Cover each region of one image in turn and measure how far the similarity to the other falls.

    The cover is a square of the colour that normalisation maps to 0 (the mean of its InputSpec).

    Args:
        a, b: (H, W, 3) uint8 RGB, of the network's input size.
        progress: called after each batch.
    Raises:
        UsageError: images of another size. DataError: an embedding is zero.
    """
    want = (network.spec.height, network.spec.width, 3)
    if a.shape != want or b.shape != want:
        raise UsageError(f"expected two images of the network's input size {want}, got {a.shape} and {b.shape}")
    first, second = network.embed_crops([a, b])
    score = similarity(first, second)
    boxes = list(_boxes(*a.shape[:2]))
    weight = _weights(a.shape[0], a.shape[1])
    falls = []
    for number, (image, other) in enumerate(((a, second), (b, first))):
        total, count = np.zeros(a.shape[:2]), np.zeros(a.shape[:2])
        for start in range(0, len(boxes), BATCH):
            part = boxes[start : start + BATCH]
            vectors = network.embed_crops(_covered(image, part, network.spec))
            now = similarities(vectors, np.broadcast_to(other, vectors.shape))
            for box, fall in zip(part, score - now, strict=True):
                total[box] += fall * weight
                count[box] += weight
            if progress is not None:
                progress(number * len(boxes) + start + len(part), 2 * len(boxes))
        falls.append(total / count)
    drop = max(0.0, *(float(fall.max()) for fall in falls))
    heat_a, heat_b = (np.asarray(np.clip(fall, 0, None) / max(drop, TINY), np.float32) for fall in falls)
    return Occlusion(score, heat_a, heat_b, drop)


def _side(whole: int) -> int:
    """Side of the cover, px."""
    return max(1, round(COVER * whole))


def _weights(height: int, width: int) -> NDArray[np.float64]:
    """Weights of a cover at each point under it: largest in its middle, so that the map has no steps."""
    rows, columns = (1 - np.abs(np.linspace(-1, 1, _side(whole) + 2)[1:-1]) for whole in (height, width))
    return np.asarray(np.outer(rows, columns))


def _covered(image: Pixels, boxes: list[Box], spec: InputSpec) -> list[Pixels]:
    """Copies of the image, each with one box filled."""
    nothing = np.rint(255 * np.array(spec.mean)).clip(0, 255).astype(np.uint8)
    images = np.repeat(image[None], len(boxes), axis=0)
    for row, box in zip(images, boxes, strict=True):
        row[box] = nothing
    return list(images)


def _boxes(height: int, width: int) -> Iterator[Box]:
    """Positions of the cover, row by row; together they cover every point."""
    rows, columns = (
        [(round(start), round(start) + cover) for start in np.linspace(0, side - cover, min(PLACES, side - cover + 1))]
        for side, cover in ((whole, _side(whole)) for whole in (height, width))
    )
    for top, bottom in rows:
        for left, right in columns:
            yield slice(top, bottom), slice(left, right)
