"""Scanning: whole photos in, a box for each face out; measured where the true boxes are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from facewright import bundle as bundles
from facewright import images
from facewright.data.boxes import TrueBoxes, read_boxes, splits_of
from facewright.errors import BadImage, DataError, Undefined, UnknownName, UsageError
from facewright.faces.frame import Frame, fit_frame
from facewright.faces.scan import Found, Scanner, Search
from facewright.files import write_atomic
from facewright.metrics.detection import DetectionResult, Floats, evaluate_detections
from facewright.report.boxes import draw_boxes
from facewright.training.events import Listener, Progressed
from facewright.workflows.material import silent
from facewright.workflows.predicting import pictures_in

FACE = "face"  # the class of the faces, where it has this name


@dataclass(frozen=True)
class ScannedPhoto:
    """The faces of one photo; or why there are none to tell of."""

    path: str
    found: Found | None  # None: the photo cannot be read
    truth: Floats | None = None  # (T, 4) px; None: not known
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "faces": [] if self.found is None else self.found.to_list(), "error": self.error}


@dataclass(frozen=True)
class Scanned:
    """What `facewright scan` says."""

    model: str
    photos: tuple[ScannedPhoto, ...]
    threshold: float
    frame: Frame
    frame_from: str  # where the frame comes from, in words
    why_windows: str | None  # why the network looked at patches one by one; None: one pass a level
    detection: Mapping[str, DetectionResult] = field(default_factory=dict)  # "all", and each split of the true boxes
    drawn: tuple[str, ...] = ()  # pictures written

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": "scan",
            "model": self.model,
            "threshold": self.threshold,
            "frame": self.frame.to_dict(),
            "frame_from": self.frame_from,
            "why_windows": self.why_windows,
            "photos": [photo.to_dict() for photo in self.photos],
            "detection": {name: result.to_dict() for name, result in self.detection.items()},
        }


def scan(
    model: Path,
    paths: Sequence[Path],
    *,
    boxes: Path | None = None,
    search: Search | None = None,
    frame: Frame | None = None,
    face: str | None = None,
    draw: Path | None = None,
    listen: Listener | None = None,
) -> Scanned:
    """Find the faces of photos with a trained classifier of patches.

    Args:
        model: a run directory or a bundle file; one of its classes is the face.
        paths: photos, and folders of photos.
        boxes: a table of true boxes (see `data.boxes`); what was found is measured against it.
        search: how photos are searched; its own frame is not used.
        frame: where in a patch the face box lies. None: fitted on the photos that the table of boxes says are not for
            testing, where there are such; else the patch itself.
        face: the name of the class; None: "face".
        draw: a folder for the photos with their boxes drawn in.
    Raises:
        UsageError: no photo, or no such class. DataError: the table of boxes cannot be understood, or knows no photo.
    """
    listen = silent if listen is None else listen
    pictures = pictures_in(paths)
    if not pictures:
        raise UsageError(f"{', '.join(map(str, paths))}: no picture below")
    table = None if boxes is None else read_boxes(boxes)
    search = replace(Search() if search is None else search, frame=Frame())  # patches first; their face boxes below
    scanner = _scanner(model, search, face)
    found = []
    for path in pictures:
        found.append(_scanned(scanner, path, table))
        listen(Progressed("scanning", len(found), len(pictures)))
    photos, judged = tuple(found), {} if table is None else _judged(found, table)
    if table is not None and not judged:
        raise DataError(f"{boxes}: knows none of the {len(pictures)} photos; its files must be how their paths end")
    frame, frame_from = _frame(photos, judged) if frame is None else (frame, "given")
    photos = tuple(_framed(photo, frame) for photo in photos)
    detection = {name: _measured([photos[index] for index in group], search) for name, group in judged.items()}
    drawn = () if draw is None else _draw(photos, draw)
    known = {name: result for name, result in detection.items() if result is not None}
    return Scanned(str(model), photos, search.threshold, frame, frame_from, scanner.why_windows, known, drawn)


def _scanner(path: Path, search: Search, face: str | None) -> Scanner:
    bundle = bundles.load(path / "model.safetensors" if path.is_dir() else path)
    name = FACE if face is None else face
    if name not in bundle.classes:
        raise UnknownName("class", name, bundle.classes)
    return Scanner(bundle.model(), bundle.spec, bundle.classes.index(name), search)


def _scanned(scanner: Scanner, path: Path, table: TrueBoxes | None) -> ScannedPhoto:
    entry = None if table is None else table.entry_of(path)
    truth = None if table is None or entry is None else table.boxes[entry]
    try:
        return ScannedPhoto(str(path), scanner.find(images.read(path)), truth)
    except BadImage as error:
        return ScannedPhoto(str(path), None, truth, error.reason)


def _judged(photos: Sequence[ScannedPhoto], table: TrueBoxes) -> dict[str, list[int]]:
    """Positions of the photos with known boxes: all of them, and those of each split. A broken photo is among them."""
    known = [index for index, photo in enumerate(photos) if photo.truth is not None]
    files = [table.entry_of(Path(photos[index].path)) or "" for index in known]
    groups = {name: [known[i] for i in group] for name, group in splits_of(files, table).items()}
    return {"all": known, **groups} if known else {}


def _frame(photos: Sequence[ScannedPhoto], judged: Mapping[str, list[int]]) -> tuple[Frame, str]:
    """The frame fitted on photos that are not for testing; the patch itself where there are none."""
    groups = [judged[name] for name in ("train", "validation") if name in judged]
    pairs = [(photo.found, photo.truth) for group in groups for photo in map(photos.__getitem__, group)]
    usable = [(found.boxes, truth) for found, truth in pairs if found is not None and truth is not None]
    try:
        frame = fit_frame([patches for patches, _ in usable], [truth for _, truth in usable])
    except Undefined:
        return Frame(), "the patch itself"
    return frame, f"fitted on {len(usable)} photos that are not for testing"


def _framed(photo: ScannedPhoto, frame: Frame) -> ScannedPhoto:
    if photo.found is None:
        return photo
    return replace(photo, found=replace(photo.found, boxes=frame.boxes(photo.found.boxes)))


def _measured(photos: Sequence[ScannedPhoto], search: Search) -> DetectionResult | None:
    """None where no photo shows a face, for then recall is undefined."""
    truth = [np.zeros((0, 4)) if photo.truth is None else photo.truth for photo in photos]
    nothing = (np.zeros((0, 4)), np.zeros(0))
    found = [nothing if photo.found is None else (photo.found.boxes, photo.found.scores) for photo in photos]
    return evaluate_detections(found, truth, search.threshold) if any(map(len, truth)) else None


def _draw(photos: Sequence[ScannedPhoto], folder: Path) -> tuple[str, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[str] = []
    for photo in photos:
        if photo.found is not None:
            name = Path(photo.path).stem
            same = sum(1 for path in drawn if Path(path).stem.partition("~")[0] == name)
            target = folder / (f"{name}~{same + 1}.png" if same else f"{name}.png")
            pixels = images.read(Path(photo.path))
            write_atomic(target, draw_boxes(pixels, photo.found.boxes, photo.found.scores.tolist(), photo.truth))
            drawn.append(str(target))
    return tuple(drawn)
