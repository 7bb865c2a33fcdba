"""Prediction: the classes of images and their probabilities; the listing of images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from facewright.data.archives import ArchivedImage, open_archive
from facewright.errors import Undefined, UsageError
from facewright.events import EventHandler, Progress, ignore_event
from facewright.images import IMAGE_TYPES, ImageLike, MemoryImage, as_image
from facewright.images.files import images_below, none_found
from facewright.inference import Classifier, Picture, Prediction
from facewright.metrics.thresholds import UNKNOWN, pick, thresholds_for

Found = TypeVar("Found")


def predict(
    model: str | Path,
    paths: ImageLike | Sequence[ImageLike],
    *,
    top_k: int = 5,
    unknown_at: float | None = None,
    on_event: EventHandler = ignore_event,
) -> list[Prediction]:
    """Predict the most probable classes of images.

    A model that holds a threshold between its two classes decides with it (`Prediction.answer`).

    Args:
        model: a run directory or a bundle file.
        paths: images; a folder or a zip stands for every image in it.
        unknown_at: answer "unknown" below the similarity threshold that `calibrate_unknown` stored for this rate of
            unknown people accepted; None: never.
    Raises:
        UsageError: a path does not exist, or there is no image at all.
        Undefined: no threshold is stored for this rate.
    """
    model = Path(model)
    pictures = pictures_of(paths)
    classifier = Classifier.load(model)
    least = None if unknown_at is None else _least_likeness(classifier, model, unknown_at)
    said = []
    for prediction in classifier.stream(pictures, top_k):
        unknown = None if least is None or prediction.likeness is None else prediction.likeness < least
        said.append(prediction.replace(unknown=unknown))
        on_event(Progress("predicting", len(said), len(pictures)))
    return said


def _least_likeness(classifier: Classifier, model: Path, far: float) -> float:
    """Return the threshold for a rate of unknown people accepted."""
    threshold = pick(thresholds_for(classifier.bundle.thresholds, UNKNOWN, classifier.fingerprint), far)
    if threshold is None:
        raise Undefined(
            f"{model}: no threshold for unknown people is stored; choose it on people who are none of its "
            f"classes: facewright calibrate {model} --unknown-people DATA --far {far:g}"
        )
    return threshold.value


def pictures_of(paths: ImageLike | Sequence[ImageLike]) -> list[Picture]:
    """List images as `pictures_in` does, and the images in zips.

    Raises:
        UsageError: as `pictures_in`. BadArchive: a zip is dangerous or damaged.
    """
    found: list[Picture] = []
    for one in (listed := _named(paths)):
        if isinstance(one, Path) and one.suffix.lower() == ".zip" and one.is_file():
            listing, source = open_archive(one)
            found += sorted((ArchivedImage(source, name) for name in listing.files), key=in_order)
        else:
            found += _below(one)
    return _some(found, listed)


def pictures_in(paths: ImageLike | Sequence[ImageLike]) -> list[Path | MemoryImage]:
    """List images: files as they are, the images below folders in order (links are not followed), images in memory.

    Raises:
        UsageError: a path does not exist, an array is no image, or there is no image at all.
    """
    listed = _named(paths)
    return _some([image for one in listed for image in _below(one)], listed)


def _named(paths: ImageLike | Sequence[ImageLike]) -> list[Path | MemoryImage]:
    """Return one image or several as a list; those in memory are named by their place in it."""
    several: Sequence[ImageLike] = [paths] if isinstance(paths, IMAGE_TYPES) else paths
    return [
        Path(one) if isinstance(one, (str, Path)) else MemoryImage(f"image-{number}", as_image(one))
        for number, one in enumerate(several, start=1)
    ]


def _below(one: Path | MemoryImage) -> list[Path | MemoryImage]:
    if isinstance(one, Path) and one.is_dir():
        return sorted(images_below(one), key=in_order)
    if isinstance(one, Path) and not one.exists():
        raise UsageError(f"{one}: no such file or folder")
    return [one]


def _some(found: list[Found], listed: list[Path | MemoryImage]) -> list[Found]:
    if not found:
        raise UsageError(none_found(str(one) for one in listed))
    return found


def in_order(picture: Picture) -> list[str | int]:
    """A key that sorts by name, and numbers in names by their value.

    >>> [str(path) for path in sorted([Path("10.png"), Path("9.png")], key=in_order)]
    ['9.png', '10.png']
    """
    parts = re.split(r"([0-9]+)", str(picture))
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]
