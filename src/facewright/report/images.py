"""Test images as small data URIs, and which of them to show: the most confused pairs and the worst mistakes."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from facewright.errors import FacewrightError
from facewright.evaluation.compare import hardest, most_confused
from facewright.evaluation.results import ClassificationResult, Predictions
from facewright.images import read

SIDE = 96  # pixels of a thumbnail's longer side
PAIRS = 7  # most confused pairs shown
IMAGES_OF_PAIR = 4
HARDEST = 12


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

    def __init__(self, source: Callable[[str], bytes | None] | None) -> None:
        self._source = source
        self._made: dict[str, str | None] = {}

    def uri(self, path: str) -> str | None:
        """A JPEG of at most 96 pixels as a data URI; None where there is no such image or it cannot be read."""
        if path not in self._made:
            data = self._source(path) if self._source is not None else None
            self._made[path] = None if data is None else _shrunk(data, path)
        return self._made[path]


def _shrunk(data: bytes, path: str) -> str | None:
    try:
        image = Image.fromarray(read(data, name=path, at_least=SIDE))
    except FacewrightError:
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def confusions(result: ClassificationResult, predictions: Predictions, album: Album) -> tuple[Confusion, ...]:
    """The most frequent (true, predicted) mistakes, most frequent first, each with its surest mistakes."""
    guesses = predictions.probabilities.argmax(axis=1)
    found = []
    for true, predicted, count in most_confused(result, PAIRS):
        label, guess = result.classes.index(true), result.classes.index(predicted)
        rows = np.flatnonzero((predictions.labels == label) & (guesses == guess))
        rows = rows[np.argsort(-predictions.probabilities[rows, guess], kind="stable")][:IMAGES_OF_PAIR]
        images = tuple(_shown(result, predictions, int(row), album) for row in rows)
        found.append(Confusion(true, predicted, count, sum(result.confusion[label]), images))
    return tuple(found)


def worst_images(result: ClassificationResult, predictions: Predictions, album: Album) -> tuple[ShownImage, ...]:
    """The images with the highest loss, worst first."""
    return tuple(_shown(result, predictions, int(row), album) for row in hardest(predictions, HARDEST))


def _shown(result: ClassificationResult, predictions: Predictions, row: int, album: Album) -> ShownImage:
    scores, label = predictions.probabilities[row], int(predictions.labels[row])
    guess, path = int(scores.argmax()), predictions.paths[row]
    names = result.classes[label], result.classes[guess]
    return ShownImage(path, album.uri(path), *names, float(scores[guess]), float(scores[label]))
