"""Images on a page as small data URIs: confused pairs, the worst mistakes, generated images beside real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright.evaluation.classification import ClassificationResult, Predictions
from facewright.evaluation.compare import hardest, most_confused
from facewright.images import Pixels, data_uri

SIDE = 96  # pixels of a thumbnail's longer side
PAIRS = 7  # most confused pairs shown
IMAGES_OF_PAIR = 4
HARDEST = 12
GENERATED = 18  # pairs


@dataclass(frozen=True)
class ShownImage:
    """One test image and the model's prediction."""

    path: str
    uri: str | None  # None: the image cannot be shown
    true: str
    predicted: str
    probability: float  # of the predicted class
    true_probability: float


@dataclass(frozen=True)
class Confusion:
    """Images of one class taken for another."""

    true: str
    predicted: str
    count: int
    of: int  # images of the true class
    images: tuple[ShownImage, ...]


class Album:
    """Thumbnails by dataset path, each made once."""

    def __init__(self, source: Callable[[str], Pixels | None] | None) -> None:
        self._source = source
        self._made: dict[str, str | None] = {}

    def uri(self, path: str) -> str | None:
        """A JPEG of at most 96 pixels as a data URI; None where there is no such image."""
        if path not in self._made:
            pixels = None if self._source is None else self._source(path)
            self._made[path] = None
            if pixels is not None:
                image = Image.fromarray(pixels)
                image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
                self._made[path] = data_uri(np.asarray(image), quality=80)
        return self._made[path]


def confusions(result: ClassificationResult, predictions: Predictions, album: Album) -> tuple[Confusion, ...]:
    """The most frequent (true, predicted) mistakes, most frequent first, each with its surest mistakes."""
    guesses, sure = predictions.predicted, predictions.ranked.probabilities[:, 0]
    found = []
    for true, predicted, count in most_confused(result, PAIRS):
        label, guess = result.classes.index(true), result.classes.index(predicted)
        rows = np.flatnonzero((predictions.labels == label) & (guesses == guess))
        rows = rows[np.argsort(-sure[rows], kind="stable")][:IMAGES_OF_PAIR]
        images = tuple(_shown(result, predictions, int(row), album) for row in rows)
        found.append(Confusion(true, predicted, count, int((predictions.labels == label).sum()), images))
    return tuple(found)


def worst_images(result: ClassificationResult, predictions: Predictions, album: Album) -> tuple[ShownImage, ...]:
    """The images with the highest loss, worst first."""
    return tuple(_shown(result, predictions, int(row), album) for row in hardest(predictions, HARDEST))


def _shown(result: ClassificationResult, predictions: Predictions, row: int, album: Album) -> ShownImage:
    ranked, path = predictions.ranked, predictions.paths[row]
    names = result.classes[predictions.labels[row]], result.classes[ranked.top[row, 0]]
    return ShownImage(path, album.uri(path), *names, float(ranked.probabilities[row, 0]), float(ranked.of_truth[row]))


@dataclass(frozen=True)
class GeneratedImages:
    """The generated images of one run, ready to be laid out."""

    words: str  # how many, of which class, how near to real ones
    pairs: list[dict[str, object]]  # as data URIs `made`, `real`; distance: root mean square, in levels of 0 to 255


def generated_images(
    words: str, made: NDArray[np.uint8], real: NDArray[np.uint8], nearest: Sequence[int], distances: Sequence[float]
) -> GeneratedImages:
    """Choose pairs evenly from the nearest to the farthest.

    Args:
        made: (N, S, S, 3). real: (M, S, S, 3). nearest: (N,) rows of `real`. distances: (N,).
    """
    order = np.argsort(distances, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(GENERATED, len(order))).round().astype(int))]
    pairs = [(data_uri(made[row]), data_uri(real[nearest[row]]), float(distances[row])) for row in chosen]
    return GeneratedImages(words, [dict(zip(("made", "real", "distance"), pair, strict=True)) for pair in pairs])
