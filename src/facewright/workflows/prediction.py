"""Prediction: the classes of images and their probabilities; the listing of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facewright import images
from facewright.data.archives import ArchivedImage
from facewright.data.tar_files import is_archive, open_archive
from facewright.errors import Undefined, UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.faces.crops import SIDE, model_advice, share_in_sample
from facewright.images import ImageLike, Pixels
from facewright.images.files import as_list, images_at, in_order, none_found
from facewright.inference import Classifier, ImageInput, Prediction
from facewright.metrics.thresholds import UNKNOWN, pick, thresholds_for
from facewright.runs import load_classifier


def predict(
    model: str | Path,
    paths: ImageLike | Sequence[ImageLike],
    *,
    top_k: int = 5,
    unknown_at: float | None = None,
    every_face: bool = False,
    detector: str | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> list[Prediction]:
    """Predict the most probable classes of images.

    A model that holds a threshold between its two classes decides with it (`Prediction.answer`).

    Args:
        model: a run directory or a bundle file.
        paths: images; a folder or a zip stands for every image in it.
        unknown_at: answer "unknown" below the similarity threshold that `calibrate_unknown` stored for this rate of
            unknown people accepted; None: never.
        every_face: for a model that finds faces: a prediction of each face of a photo, with its box, left to right.
        detector: the file of the detector, for a model trained on face crops of another detector than dlib's; of a run
            directory the one that it was trained with.
    Raises:
        UsageError: a path does not exist, or there is no image at all; every face of a model that takes images whole.
        Undefined: no threshold is stored for this rate.
    """
    model = Path(model)
    given = images_of(paths)
    classifier = load_classifier(model, device, detector)
    if unknown_at is not None:
        classifier.refuse_targets()
    note_uncropped(classifier, given, on_event)
    least = None if unknown_at is None else _least_likeness(classifier, model, unknown_at)
    said: list[Prediction] = []
    done = 0
    for prediction in classifier.stream(given, top_k, every_face=every_face):
        done += not said or said[-1].path != prediction.path
        unknown = None if least is None or prediction.likeness is None else prediction.likeness < least
        said.append(prediction.replace(unknown=unknown))
        on_event(Progress("predicting", done if every_face else len(said), len(given)))
    return said


def note_uncropped(classifier: Classifier, given: Sequence[ImageInput], on_event: EventHandler) -> None:
    """Tell who listens that images look uncropped, where the model has no detector; a few are looked at."""

    def read(one: ImageInput) -> Pixels:
        return images.read(one.content() if isinstance(one, ArchivedImage) else one, name=str(one), at_least=2 * SIDE)

    if classifier.cropper is None and on_event is not ignore_event:
        share = share_in_sample(given, read)
        if share is not None:
            on_event(Message(model_advice(share)))


def _least_likeness(classifier: Classifier, model: Path, far: float) -> float:
    """Return the threshold for a rate of unknown people accepted."""
    threshold = pick(thresholds_for(classifier.bundle.thresholds, UNKNOWN, classifier.fingerprint), far)
    if threshold is None:
        raise Undefined(
            f"{model}: no threshold for unknown people is stored; choose it on people who are none of its "
            f"classes: facewright calibrate {model} --unknown-people DATA --far {far:g}"
        )
    return threshold.value


def images_of(paths: ImageLike | Sequence[ImageLike]) -> list[ImageInput]:
    """List images as `images_in` does, and the images in archives.

    Raises:
        UsageError: as `images_in`. BadArchive: an archive is dangerous or damaged.
    """
    found: list[ImageInput] = []
    for one in (listed := as_list(paths)):
        if isinstance(one, Path) and is_archive(one) and one.is_file():
            listing, source = open_archive(one)
            found += sorted((ArchivedImage(str(one), source, name) for name in listing.files), key=in_order)
        else:
            found += images_at(one)
    if not found:
        raise UsageError(none_found(str(one) for one in listed))
    return found
