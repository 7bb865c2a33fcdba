"""Generated images on a run's page, each beside the nearest real one of the training part."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHOWN = 18  # pairs


@dataclass(frozen=True)
class GeneratedPair:
    """A generated image and the real one nearest to it, as data URIs."""

    made: str
    real: str
    distance: float  # root mean square over pixels, in levels of 0 to 255


@dataclass(frozen=True)
class GeneratedImages:
    """The generated images of one run, ready to be laid out."""

    words: str  # how many, of which class, how near to real ones
    pairs: tuple[GeneratedPair, ...]


def generated_images(
    words: str, made: NDArray[np.uint8], real: NDArray[np.uint8], nearest: Sequence[int], distances: Sequence[float]
) -> GeneratedImages:
    """Choose pairs evenly from the nearest to the farthest.

    Args:
        made: (N, S, S, 3). real: (M, S, S, 3). nearest: (N,) rows of `real`. distances: (N,).
    """
    order = np.argsort(distances, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(int))]
    return GeneratedImages(
        words,
        tuple(GeneratedPair(_uri(made[row]), _uri(real[nearest[row]]), float(distances[row])) for row in chosen),
    )


def _uri(image: NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
