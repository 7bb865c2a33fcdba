"""Scanning: whole photos in, a box for each face out; measured where the true boxes are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from facewright import bundle as bundles
from facewright import devices, images
from facewright.data.label_files import TrueBoxes, read_boxes, splits_of
from facewright.errors import DataError, Undefined, UnknownName, UsageError
from facewright.events import EventHandler, counted, ignore_event
from facewright.faces.boxes import Frame, fit_frame
from facewright.faces.scan import FaceBoxes, Scanner, Search
from facewright.files import model_file, write_atomic
from facewright.images import ImageLike, MemoryImage, images_in
from facewright.metrics.detection import DetectionResult, Floats, best_threshold, evaluate_detections
from facewright.records import notebook_display
from facewright.report.faces import draw_boxes

FACE = "face"  # the class of the faces, where it has this name
THRESHOLD = 0.9  # where none is given and there are no photos to choose one on


@dataclass(frozen=True)
class ScannedPhoto:
    """The faces of one photo; or why there are none to tell of."""

    path: str
    found: FaceBoxes | None  # None: the photo cannot be read
    truth: Floats | None = None  # (T, 4) px; None: not known
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "faces": [] if self.found is None else self.found.to_list(), "error": self.error}


@dataclass(frozen=True)
class Scanned:
    """The result of `facewright scan`."""

    model: str
    photos: tuple[ScannedPhoto, ...]  # with the faces whose score reaches the threshold
    threshold: float
    threshold_from: str  # where the threshold comes from, in words
    frame: Frame
    frame_from: str
    why_windows: str | None  # why the network looked at patches one by one; None: one pass a level
    detection: Mapping[str, DetectionResult] = field(default_factory=dict)  # "all", and each split of the true boxes
    drawn: tuple[str, ...] = ()  # images written

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": "scan",
            "model": self.model,
            "threshold": self.threshold,
            "threshold_from": self.threshold_from,
            "frame": asdict(self.frame),
            "frame_from": self.frame_from,
            "why_windows": self.why_windows,
            "photos": [photo.to_dict() for photo in self.photos],
            "detection": {name: result.to_dict() for name, result in self.detection.items()},
        }

    _repr_html_ = notebook_display


def scan(
    model: str | Path,
    paths: ImageLike | Sequence[ImageLike],
    *,
    boxes: str | Path | None = None,
    threshold: float | None = None,
    search: Search | None = None,
    frame: Frame | None = None,
    face: str | None = None,
    draw: str | Path | None = None,
    device: str | None = None,
    on_event: EventHandler = ignore_event,
) -> Scanned:
    """Find the faces of photos with a trained classifier of patches.

    Args:
        model: a run directory or a bundle file; one of its classes is the face.
        paths: photos, and folders of photos.
        boxes: a table of true boxes (see `data.label_files`); what was found is measured against it.
        threshold: least score of a face. None: the one with the best F1 on the photos that the table of boxes says
            are not for testing; 0.9 where there are none.
        search: how photos are searched; its own frame is not used.
        frame: where in a patch the face box lies. None: fitted on the same photos; the patch itself where there are
            none.
        face: the name of the class; None: "face".
        draw: a folder for the photos with their boxes drawn in.
    Raises:
        UsageError: no photo, no such class, or a model trained on face crops.
        DataError: the table of boxes cannot be understood, or knows no photo.
    """
    given = images_in(paths)
    table = None if boxes is None else read_boxes(Path(boxes))
    search = _candidates(Search() if search is None else search, threshold)
    scanner = _scanner(Path(model), search, face, device)
    found = [_scanned(scanner, path, table) for path in counted("scanning", given, on_event)]
    evaluated = {} if table is None else _by_split(found, table)
    if table is not None and not evaluated:
        raise DataError(f"{boxes}: knows none of the {len(given)} photos; its files must be how their paths end")
    free = [found[index] for name in ("train", "validation") for index in evaluated.get(name, ())]
    frame, frame_from = _frame(free) if frame is None else (frame, "given")
    framed = [_framed(photo, frame) for photo in found]
    free = [_framed(photo, frame) for photo in free]
    threshold, threshold_from = _threshold(free, search) if threshold is None else (threshold, "given")
    detection = {name: _measured([framed[index] for index in group], threshold) for name, group in evaluated.items()}
    photos = tuple(
        photo if photo.found is None else replace(photo, found=photo.found.above(threshold)) for photo in framed
    )
    return Scanned(
        str(model),
        photos,
        threshold,
        threshold_from,
        frame,
        frame_from,
        scanner.why_windows,
        {name: result for name, result in detection.items() if result is not None},
        () if draw is None else _draw(photos, Path(draw)),
    )


def _candidates(search: Search, threshold: float | None) -> Search:
    """The search that finds patches, not yet face boxes, down to the threshold at least."""
    if threshold is not None and not 0 < threshold < 1:
        raise UsageError(f"expected a threshold between 0 and 1, the probability of a face, got {threshold:g}")
    least = search.threshold if threshold is None else min(search.threshold, threshold)
    return replace(search, threshold=least, frame=Frame())


def _scanner(path: Path, search: Search, face: str | None, device: str | None) -> Scanner:
    bundle = bundles.load(model_file(path))
    if bundle.spec.faces is not None:
        raise UsageError(
            f"{path}: expected a model of patches as they are; this one was trained on face crops found by "
            f"{bundle.spec.faces.detector} (predict --every-face)"
        )
    name = FACE if face is None else face
    if name not in bundle.classes:
        raise UnknownName("class", name, bundle.classes)
    model = bundle.model().to(devices.choose(device)) if bundle.exported is None else bundle.exported.graph
    return Scanner(model, bundle.spec, bundle.classes.index(name), search, device)


def _scanned(scanner: Scanner, path: Path | MemoryImage, table: TrueBoxes | None) -> ScannedPhoto:
    entry = None if table is None else table.entry_of(Path(str(path)))
    truth = None if table is None or entry is None else table.boxes[entry]
    photo = images.try_read(path)
    if isinstance(photo, str):
        return ScannedPhoto(str(path), None, truth, photo)
    return ScannedPhoto(str(path), scanner.find(photo), truth)


def _by_split(photos: Sequence[ScannedPhoto], table: TrueBoxes) -> dict[str, list[int]]:
    """Positions of the photos with known boxes: all of them, and those of each split. A broken photo is among them."""
    known = [index for index, photo in enumerate(photos) if photo.truth is not None]
    files = [table.entry_of(Path(photos[index].path)) or "" for index in known]
    groups = {name: [known[i] for i in group] for name, group in splits_of(files, table).items()}
    return {"all": known, **groups} if known else {}


def _frame(photos: Sequence[ScannedPhoto]) -> tuple[Frame, str]:
    """The frame fitted on photos that are not for testing; the patch itself where there are none."""
    pairs = [(photo.found.boxes, photo.truth) for photo in photos if photo.found is not None]
    try:
        frame = fit_frame([boxes for boxes, _ in pairs], [truth for _, truth in pairs if truth is not None])
    except Undefined:
        return Frame(), "the patch itself"
    return frame, f"fitted on {len(pairs)} photos that are not for testing"


def _threshold(photos: Sequence[ScannedPhoto], search: Search) -> tuple[float, str]:
    """The threshold chosen on photos that are not for testing; a fixed one where there are none."""
    measured = _measured(photos, search.threshold)
    try:
        chosen = THRESHOLD if measured is None else best_threshold(measured.curve)
    except Undefined:
        measured, chosen = None, THRESHOLD
    return chosen, "fixed" if measured is None else f"best F1 on {len(photos)} photos that are not for testing"


def _framed(photo: ScannedPhoto, frame: Frame) -> ScannedPhoto:
    if photo.found is None:
        return photo
    return replace(photo, found=replace(photo.found, boxes=frame.boxes(photo.found.boxes)))


def _measured(photos: Sequence[ScannedPhoto], threshold: float) -> DetectionResult | None:
    """None where no photo shows a face, for then recall is undefined."""
    truth = [np.zeros((0, 4)) if photo.truth is None else photo.truth for photo in photos]
    nothing = (np.zeros((0, 4)), np.zeros(0))
    found = [nothing if photo.found is None else (photo.found.boxes, photo.found.scores) for photo in photos]
    return evaluate_detections(found, truth, threshold) if any(map(len, truth)) else None


def _draw(photos: Sequence[ScannedPhoto], folder: Path) -> tuple[str, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[str] = []
    for photo in photos:
        if photo.found is not None:
            name = Path(photo.path).stem
            same = sum(1 for path in drawn if Path(path).stem.partition("~")[0] == name)
            target = folder / (f"{name}~{same + 1}.png" if same else f"{name}.png")
            pixels = images.read(Path(photo.path))
            shown = draw_boxes(pixels, photo.found.boxes, photo.found.scores.tolist(), photo.truth)
            write_atomic(target, images.png_of(shown))
            drawn.append(str(target))
    return tuple(drawn)
