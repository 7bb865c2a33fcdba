"""Which regions made two faces alike: what the similarity loses when a region is covered.

Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks" (arXiv:1311.2901), section 4.2,
with the cosine of two embeddings in place of a class's score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from facewright.embedding import BATCH, Embedder, similarities, similarity
from facewright.errors import UsageError

COVER = 0.2  # share of a picture's sides that the cover takes
PLACES = 13  # of the cover along each side: it moves by a third of its own side

TINY = 1e-9  # a fall of the similarity that is none

Heat = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Box = tuple[slice, slice]


@dataclass(frozen=True)
class Occlusion:
    """Which regions made two pictures alike.

    heat_a, heat_b: (H, W) float32 in [0, 1] at the size of the network's input, on one scale: the drop in similarity
        when the region is covered, mean over the patches that cover a point, as a share of `drop`; 0 where covering
        leaves the similarity as it is or raises it.
    """

    score: float  # the cosine of the two, nothing covered
    heat_a: Heat
    heat_b: Heat
    drop: float  # the largest mean drop at a point of either, at least 0; what heat 1 stands for


def occlude(embedder: Embedder, a: Pixels, b: Pixels) -> Occlusion:
    """Cover each region of one picture in turn, and see how far the similarity to the other falls.

    The cover is a square of the colour that the network takes for nothing (the mean of its InputSpec).

    Args:
        a, b: (H, W, 3) uint8 RGB, of the network's input size.
    Raises:
        UsageError: pictures of another size. DataError: an embedding has no direction.
    """
    want = (embedder.spec.height, embedder.spec.width, 3)
    if a.shape != want or b.shape != want:
        raise UsageError(f"expected two pictures of the network's input size {want}, got {a.shape} and {b.shape}")
    first, second = embedder.embed(torch.from_numpy(np.stack([a, b])).permute(0, 3, 1, 2))
    score = similarity(first, second)
    falls = [_falls(embedder, picture, other, score) for picture, other in ((a, second), (b, first))]
    drop = max(0.0, *(float(fall.max()) for fall in falls))
    heat_a, heat_b = (np.asarray(np.clip(fall, 0, None) / max(drop, TINY), np.float32) for fall in falls)
    return Occlusion(score, heat_a, heat_b, drop)


def _falls(embedder: Embedder, picture: Pixels, other: NDArray[np.float32], score: float) -> NDArray[np.float64]:
    """(H, W): the mean fall of the similarity to `other` over the covers that lie on a point."""
    grey = np.rint(255 * np.array(embedder.spec.mean)).clip(0, 255).astype(np.uint8)
    boxes = list(_boxes(*picture.shape[:2]))
    total, count = np.zeros(picture.shape[:2]), np.zeros(picture.shape[:2])
    for start in range(0, len(boxes), BATCH):
        part = boxes[start : start + BATCH]
        covered = np.repeat(picture[None], len(part), axis=0)
        for row, box in zip(covered, part, strict=True):
            row[box] = grey
        vectors = embedder.embed(torch.from_numpy(covered).permute(0, 3, 1, 2))
        for box, now in zip(part, similarities(vectors, np.broadcast_to(other, vectors.shape)), strict=True):
            total[box] += score - now
            count[box] += 1
    return total / count


def _boxes(height: int, width: int) -> Iterator[Box]:
    """Where the cover lies, row by row; together the places leave no point out."""
    rows, columns = (
        [(round(start), round(start) + cover) for start in np.linspace(0, side - cover, min(PLACES, side - cover + 1))]
        for side, cover in ((side, max(1, round(COVER * side))) for side in (height, width))
    )
    for top, bottom in rows:
        for left, right in columns:
            yield slice(top, bottom), slice(left, right)
