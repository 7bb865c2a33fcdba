"""Explaining: where in photos a classifier saw a class, and which regions made two faces alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from math import ceil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from facewright import images
from facewright.data.decoding import smallest_side
from facewright.errors import BadImage, DataError, UnknownName, UsageError
from facewright.events import EventHandler, Progress, counted, ignore_event
from facewright.explanation.class_maps import Explained, ExplainedPhoto, Explainer
from facewright.explanation.occlusion import ExplainedPair, occlude
from facewright.faces.crops import READ_AT_LEAST, FaceCropper
from facewright.files import write_atomic
from facewright.images import ImageLike, MemoryImage, Pixels, images_in
from facewright.input_spec import InputSpec
from facewright.provenance import origin, versions
from facewright.recognition import Recognizer
from facewright.report.explanations import explanations_page, side_by_side
from facewright.runs import load_classifier
from facewright.workflows.prediction import note_uncropped

SHOWN_SIDE = 320  # px at least of the longer side of an image that is shown
REPORT = "report.html"


def explain(
    model: str | Path,
    paths: ImageLike | Sequence[ImageLike],
    *,
    name: str | None = None,
    method: str | None = None,
    detector: str | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Explained:
    """Explain a classifier's answer by heat maps on photos.

    Args:
        model: a run directory or a bundle file.
        paths: photos, and folders of photos; about half a megabyte of memory is kept of each.
        name: the class to ask about; None: of each photo the one that the model says it shows.
        detector: as of `predict`.
        method: "grad-cam", "grad-cam++" or "rollout"; None: rollout for vision transformers, else grad-cam.
        out: a folder for an overlay of each photo and a page of all; None: nothing is written.
    Raises:
        UsageError: no photo, a method that is not for this architecture, or rollout asked about a class.
        UnknownName: no such class or method.
    """
    given = images_in(paths)
    classifier = load_classifier(Path(model), device, detector)
    if name is not None and name not in classifier.explained:
        raise UnknownName("class", name, classifier.explained)
    if not classifier.explained:
        raise UsageError(f"{model}: a map shows what speaks for an attribute or a class; this model predicts numbers")
    explainer = Explainer(classifier, method)
    if name is not None and not explainer.by_class:
        raise UsageError("attention rollout shows what the network looked at, whatever the class: leave the class out")
    note_uncropped(classifier, given, on_event)
    found = [_explained(explainer, path, name) for path in counted("explaining", given, on_event)]
    size = (classifier.spec.height, classifier.spec.width)
    explained = Explained(str(model), explainer.method, explainer.layer, explainer.points, size, tuple(found))
    return explained if out is None else _written(explained, Path(out))


def explain_pair(
    model: str | Path,
    a: ImageLike,
    b: ImageLike,
    *,
    detector: str | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> ExplainedPair:
    """Explain the similarity of two photos: how much it falls when a region is covered.

    Args:
        model: a run directory, a bundle file, architecture@weights or "built-in". detector: as `Recognizer`.
        out: a folder for two overlays and a page; None: nothing is written.
    Raises:
        BadImage: a photo cannot be read. DataError: no face was found in it.
    """
    recognizer = Recognizer.load(model, detector=detector, device=device)
    chosen = recognizer.threshold()
    first, second = images_in([a, b])
    seen = [_face(recognizer, path) for path in (first, second)]
    found = occlude(recognizer, seen[0][0], seen[1][0], lambda done, of: on_event(Progress("covering", done, of)))
    threshold = None if chosen is None else chosen.value
    pair = ExplainedPair(str(model), (str(first), str(second)), found, (seen[0][1], seen[1][1]), threshold)
    return pair if out is None else _pair_written(pair, Path(out))


def _face(recognizer: Recognizer, path: Path | MemoryImage) -> tuple[Pixels, Pixels]:
    """The face of a photo as the network is fed it, and as it is shown; DataError where there is none."""
    if recognizer.takes_photos_whole:
        return _seen(recognizer.spec, path)
    picked = recognizer.pick(recognizer.read(path))
    if picked.face is None:
        raise DataError(f"{path}: {picked.reason}")
    chip = picked.face.chip
    times = ceil(SHOWN_SIDE / max(chip.shape[:2]))
    return chip, np.asarray(Image.fromarray(chip).resize((times * chip.shape[1], times * chip.shape[0])))


def _seen(spec: InputSpec, path: Path | MemoryImage, cropper: FaceCropper | None = None) -> tuple[Pixels, Pixels]:
    """Return the network's input, and the same part of the photo with more pixels."""
    times = ceil(SHOWN_SIDE / max(spec.height, spec.width))
    finer = replace(spec, height=times * spec.height, width=times * spec.width)
    photo = images.read(path, at_least=smallest_side(finer) if cropper is None else READ_AT_LEAST)
    photo = photo if cropper is None else cropper.crop(photo, str(path))
    return spec.fit(photo), finer.fit(photo)


def _explained(explainer: Explainer, path: Path | MemoryImage, name: str | None) -> ExplainedPhoto:
    classifier = explainer.classifier
    predicted = classifier.of_files([path], top_k=len(classifier.classes))[0]
    if predicted.error is not None:
        return ExplainedPhoto(str(path), error=predicted.error)
    try:
        fed, shown = _seen(classifier.spec, path, classifier.cropper)
    except BadImage as error:
        return ExplainedPhoto(str(path), error=error.reason)
    found = predicted.by_name
    asked = next(iter(found)) if name is None else name
    index = classifier.classes.index(asked)
    heat = explainer.maps(torch.from_numpy(fed).permute(2, 0, 1)[None], [index])[0]
    first = asked if predicted.targets is not None else predicted.names[0]  # targets do not exclude each other
    return ExplainedPhoto(str(path), asked, found[asked], first, heat, shown)


def _written(explained: Explained, folder: Path) -> Explained:
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for photo, name in zip(explained.photos, _file_names([photo.path for photo in explained.photos]), strict=True):
        if photo.photo is not None and photo.heat is not None:
            write_atomic(folder / name, side_by_side(photo.photo, photo.heat))
            photos.append(replace(photo, overlay=str(folder / name)))
        else:
            photos.append(photo)
    written = replace(explained, photos=tuple(photos), page=str(folder / REPORT))
    write_atomic(folder / REPORT, explanations_page(written, origin(versions("torch", "numpy", "pillow"))))
    return written


def _pair_written(pair: ExplainedPair, folder: Path) -> ExplainedPair:
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / name for name in _file_names(pair.paths)]
    for target, photo, heat in zip(targets, pair.photos, (pair.occlusion.heat_a, pair.occlusion.heat_b), strict=True):
        write_atomic(target, side_by_side(photo, heat))
    written = replace(pair, overlays=tuple(map(str, targets)), page=str(folder / REPORT))
    write_atomic(folder / REPORT, explanations_page(written, origin(versions("torch", "numpy", "pillow"))))
    return written


def _file_names(paths: Sequence[str]) -> list[str]:
    """A PNG for each photo, no two of one name.

    >>> _file_names(["a/x.jpg", "b/x.png", "b/x~2.png", "b/y.png"])
    ['x.png', 'x~2.png', 'x~2~2.png', 'y.png']
    """
    names: dict[str, None] = {}
    for stem in (Path(path).stem for path in paths):
        tries = (stem if number == 1 else f"{stem}~{number}" for number in count(1))
        names[next(name for name in tries if name not in names)] = None
    return [f"{name}.png" for name in names]
