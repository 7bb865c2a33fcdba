"""Other face detectors, and the evaluation of detections; for the benchmarks that compare detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.data.label_files import TrueBoxes, splits_of
from facewright.errors import Undefined
from facewright.faces.boxes import Frame, fit_frame
from facewright.images import images_at
from facewright.metrics.detection import DetectionResult, best_threshold, evaluate_detections

CASCADES = ("frontalface_default", "frontalface_alt", "frontalface_alt2")
NEIGHBOURS = 3  # OpenCV's default
STEP = 1.1  # likewise, from one size to the next
SMALLEST = 24  # px, of a face; below that of every true box of the group photos

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Detections = list[tuple[Floats, Floats]]  # boxes and scores of each photo


@dataclass(frozen=True)
class Annotated:
    """Photos with their true boxes."""

    paths: list[Path]
    photos: list[Pixels]
    truth: list[Floats]
    splits: dict[str, list[int]]  # train, validation, test -> positions


def annotated(paths: list[Path], table: TrueBoxes) -> Annotated:
    """Those of some photos that the table knows."""
    known = [(path, entry) for path in paths if (entry := table.entry_of(path)) is not None]
    return Annotated(
        paths=[path for path, _ in known],
        photos=[images.read(path) for path, _ in known],
        truth=[table.boxes[entry] for _, entry in known],
        splits=splits_of([entry for _, entry in known], table),
    )


def image_paths(folders: Sequence[Path]) -> list[Path]:
    """List image files, and those below folders, in order."""
    return [path for folder in folders for path in images_at(folder) if isinstance(path, Path)]


class Cascade:
    """One of OpenCV's cascades; its scores are the weights of the last stage."""

    def __init__(self, name: str) -> None:
        try:
            import cv2
        except ImportError:
            raise SystemExit('OpenCV is absent: pip install "opencv-python-headless>=4.10,<5"') from None
        self._finder = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_{name}.xml")  # type: ignore[attr-defined]
        self._grey = partial(cv2.cvtColor, code=cv2.COLOR_RGB2GRAY)

    def find(self, photo: Pixels) -> tuple[Floats, Floats]:
        boxes, _, weights = self._finder.detectMultiScale3(
            self._grey(photo), STEP, NEIGHBOURS, minSize=(SMALLEST, SMALLEST), outputRejectLevels=True
        )
        return np.array(boxes, np.float64).reshape(-1, 4), np.array(weights, np.float64).ravel()


class Hog:
    """dlib's detector of gradients; faces of 80 px, half of that for each doubling of the photo."""

    def __init__(self) -> None:
        import dlib

        self._detector = dlib.get_frontal_face_detector()

    def find(self, photo: Pixels, doublings: int = 0) -> tuple[Floats, Floats]:
        rectangles, scores, _ = self._detector.run(photo, doublings, 0.0)
        return as_array(rectangles), np.array(scores)


def as_array(rectangles: Any) -> Floats:
    """dlib's rectangles -> (N, 4) x, y, width, height."""
    rows = [[r.left(), r.top(), r.width(), r.height()] for r in rectangles]
    return np.array(rows, np.float64).reshape(-1, 4)


def frame_of(found: Detections, known: Annotated) -> Frame:
    """Return the position of true boxes within the detected ones, from the photos that are not for testing."""
    free = [index for name, group in known.splits.items() if name != "test" for index in group]
    try:
        return fit_frame([found[i][0] for i in free], [known.truth[i] for i in free])
    except Undefined:
        return Frame()


def evaluate(found: Detections, known: Annotated, *, frame: Frame, choose: bool = False) -> dict[str, Any]:
    """The numbers of all photos and of each split, the boxes brought to the true ones by a frame.

    Args:
        choose: the threshold is the best for the photos that are not for testing; all that was found counts else.
    """
    free = [index for name, group in known.splits.items() if name != "test" for index in group]
    framed = [(frame.boxes(boxes), scores) for boxes, scores in found]
    threshold = -1e9  # every box that the detector gives
    if choose and free:
        chosen_on = [framed[i] for i in free], [known.truth[i] for i in free]
        threshold = best_threshold(evaluate_detections(*chosen_on, 0.5).curve)
    groups = {"all": list(range(len(found))), **known.splits}
    results = {
        name: evaluate_detections([framed[i] for i in group], [known.truth[i] for i in group], threshold)
        for name, group in groups.items()
    }
    return {"frame": asdict(frame), **{name: numbers(result) for name, result in results.items()}}


def numbers(result: DetectionResult) -> dict[str, Any]:
    """Average precision, precision and recall, with their counts."""
    precision = None if result.precision is None else result.precision.to_dict()
    return {"ap": result.average_precision, "precision": precision, "recall": result.recall.to_dict()}
