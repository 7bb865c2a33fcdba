"""Predicting: pictures in, names and probabilities out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from facewright.data.archives import ArchivedImage, open_archive
from facewright.errors import Undefined, UsageError
from facewright.events import EventHandler, Progress, ignore_event
from facewright.images.files import images_below, none_found
from facewright.inference import Classifier, Picture, Prediction
from facewright.metrics.thresholds import UNKNOWN, pick, thresholds_for


def predict(
    model: Path,
    paths: Sequence[Path],
    *,
    top_k: int = 5,
    unknown_at: float | None = None,
    on_event: EventHandler = ignore_event,
) -> list[Prediction]:
    """The likeliest classes of pictures; a folder or a zip stands for every picture in it.

    A model that holds a threshold between its two classes answers by it (`Prediction.answer`).

    Args:
        model: a run directory or a bundle file.
        unknown_at: answer "unknown" where a picture is less like any class than the threshold allows that was stored
            for this rate of strangers taken for one (`calibrate_unknown`); None asks nothing of the sort.
    Raises:
        UsageError: a path does not exist, or there is no picture at all.
        Undefined: no threshold is stored for this rate.
    """
    pictures = pictures_of(paths)
    if not pictures:
        raise UsageError(none_found(paths))
    classifier = Classifier.load(model)
    least = None if unknown_at is None else _least_likeness(classifier, model, unknown_at)
    said = []
    for prediction in classifier.stream(pictures, top_k):
        unknown = None if least is None or prediction.likeness is None else prediction.likeness < least
        said.append(prediction.replace(unknown=unknown))
        on_event(Progress("predicting", len(said), len(pictures)))
    return said


def _least_likeness(classifier: Classifier, model: Path, far: float) -> float:
    """The threshold for a rate of strangers accepted."""
    threshold = pick(thresholds_for(classifier.bundle.thresholds, UNKNOWN, classifier.fingerprint), far)
    if threshold is None:
        raise Undefined(
            f"{model}: it was never shown strangers, so it cannot tell who is unknown; choose the threshold on people "
            f"who are none of its classes: facewright calibrate {model} --unknown-people DATA --far {far:g}"
        )
    return threshold.value


def pictures_of(paths: Sequence[Path]) -> list[Picture]:
    """As `pictures_in`, and zips are replaced by the pictures in them.

    Raises:
        UsageError: a path does not exist. BadArchive: a zip is dangerous or damaged.
    """
    found: list[Picture] = []
    for path in paths:
        if path.suffix.lower() == ".zip" and path.is_file():
            listing, source = open_archive(path)
            found += sorted((ArchivedImage(source, name) for name in listing.files), key=in_order)
        else:
            found += pictures_in([path])
    return found


def pictures_in(paths: Sequence[Path]) -> list[Path]:
    """Files as they are; folders replaced by the pictures below them, in order; links are not followed."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(images_below(path), key=in_order)
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    return found


def in_order(picture: Picture) -> list[str | int]:
    """A key that sorts by name, and numbers in names by their value.

    >>> [str(path) for path in sorted([Path("10.png"), Path("9.png")], key=in_order)]
    ['9.png', '10.png']
    """
    parts = re.split(r"([0-9]+)", str(picture))
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]
