"""The aligned face crop of each image of a dataset, for training and for using what was trained on such crops.

Crops are cut at 256 px, or at the network's input if that is larger, and then resized: digests and splits depend on the
same pixels for every smaller input.
"""

from __future__ import annotations

import cmath
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from facewright.data.image_records import PixelSource, Record
from facewright.data.records import Dataset
from facewright.errors import BadImage, FacewrightError, UsageError
from facewright.faces.alignment import ARCFACE, ARCFACE_CORNERS, align_face
from facewright.faces.alignment import similarity as turn_and_shift
from facewright.faces.detectors import LARGE, Located, Whole, detector_of, missing
from facewright.faces.dlib.detection import LANDMARKS, FivePoints
from facewright.faces.selection import Face, Picked, find_turned, one_of, select_turned
from facewright.images import Pixels
from facewright.input_spec import FaceCrop, InputSpec

T = TypeVar("T")
SIDE = 256  # px
READ_AT_LEAST = 1600  # px: the shorter side that a large JPEG may be reduced to; a face of a tenth of it has 160 px
SAMPLE = 8  # images that are looked at to tell if a dataset is uncropped
SMALLEST_UNCROPPED = 160  # px: an image with a shorter side is taken for a crop
FILLS = 0.45  # of the shorter side: LFW's faces fill 0.38 (0.32 to 0.46), those of aligned crops 0.64 to 0.93
MOST_FACES = 500  # of one photo; more are an error, as their crops would fill the memory
VERSION = 2  # of what happens between image and crop


class FaceCropper:
    """Cuts the selected face out of images; may be used from several threads.

    Args:
        detector: "dlib", or the .onnx file of a detector. select_face: as of `selection.one_of`.
        side: px of the crops, at least 256. cache: the folder of dlib's converted networks; default: the user's.
        device: of the detector, as of `graphs.Session`.
    """

    def __init__(
        self,
        detector: str,
        select_face: Literal["largest", "centre", "error"] = "centre",
        side: int = SIDE,
        cache: Path | None = None,
        device: str | None = "cpu",
    ) -> None:
        if detector == Whole.name:
            raise UsageError(f"expected a detector that finds faces, got {detector}")
        self._detector = detector_of(detector, cache, device)
        self._select_face, self._side, self._cache = select_face, max(side, SIDE), cache
        self.spec = FaceCrop(detector=self._detector.name, digest=self._detector.digest, select_face=select_face)

    @cached_property
    def _landmarks(self) -> FivePoints:
        return FivePoints.load(cache=self._cache)

    @cached_property
    def key(self) -> str:
        """Stands for everything between image and crop."""
        facts = [VERSION, asdict(self.spec), LANDMARKS.digest(), self._side]
        return blake2b(json.dumps(facts).encode(), digest_size=12).hexdigest()

    def crop(self, image: Pixels, name: str) -> Pixels:
        """Return the aligned crop of the selected face, (side, side, 3) uint8; upright also where the photo is not.

        Args:
            image: (H, W, 3) uint8 RGB, upright. name: for the BadImage that is raised without a face, or with several.
        """
        limits = replace(self._detector.limits, sure=-math.inf)  # a doubtful face is still that image's
        picked = select_turned(self._pick(image, LARGE), image, limits, lambda turned: self._pick(turned, LARGE[:-1]))
        if picked.face is None:
            raise BadImage(name, picked.reason or "no face was found")
        return picked.face.chip

    def every(self, image: Pixels) -> tuple[list[Face], str]:
        """Return every face found in an image, from left to right, with its aligned crop; and why there is none.

        Raises:
            BadImage: more than `MOST_FACES`.
        """
        reasons = []

        def find(photo: Pixels, turned: bool) -> tuple[Face, ...]:
            located = self._detector.every(photo, None, turned)
            reasons.append(missing(located))
            faces = _uncut(located)
            if len(faces) > MOST_FACES:
                raise BadImage("image", f"expected at most {MOST_FACES} faces, found {len(faces):,}: give parts of it")
            return tuple(self._cut(photo, located, row, face) for row, face in enumerate(faces))

        found = find_turned(image, self._detector.limits, find)
        return sorted(found, key=lambda face: face.box[:2]), "" if found else reasons[0]

    def _pick(self, image: Pixels, sizes: Sequence[float | None]) -> Picked:
        """Select a face; with its points, its roll and its crop."""
        located = self._detector.locate(image, sizes)
        faces = _uncut(located)
        picked = one_of(faces, image.shape[:2], self._select_face, missing(located))
        if picked.face is None:
            return picked
        row = next(k for k, face in enumerate(faces) if face is picked.face)
        return replace(picked, face=self._cut(image, located, row, picked.face))

    def _cut(self, image: Pixels, located: Located, row: int, face: Face) -> Face:
        """Return a located face with its points, its roll and its crop."""
        if located.points is not None:
            points, template = located.points[row], ARCFACE
        else:
            (points,), template = self._landmarks.of(image, located.squares[row : row + 1]), ARCFACE_CORNERS
        roll = cmath.phase(turn_and_shift(template.points, points)[0])
        crop = align_face(image, points, self._side, template)
        return replace(face, points=points, chip=crop, roll=roll)


def _uncut(located: Located) -> list[Face]:
    """Return the located faces, without points and pixels."""
    no_points, no_pixels = np.zeros((0, 2)), np.zeros((0, 0, 3), np.uint8)
    return [
        Face((x, y, width, height), score, no_points, no_pixels)
        for (x, y, width, height), score in zip(located.boxes.tolist(), located.scores, strict=True)
    ]


@dataclass(frozen=True)
class CropSource:
    """A pixel source: the face crop of each image of another source."""

    source: PixelSource
    cropper: FaceCropper

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`; an image without a face is a BadImage."""
        return self.cropper.crop(self.source.read(record, READ_AT_LEAST), record.path)

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`."""
        return f"{self.source.content_key(record)}-{self.cropper.key}"

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`."""
        return f"{self.source.stamp(record)}-{self.cropper.key}"


def with_face_crops(dataset: Dataset, cropper: FaceCropper | None) -> Dataset:
    """Return the dataset of the face crops; the dataset itself without a cropper."""
    return dataset if cropper is None else replace(dataset, source=CropSource(dataset.source, cropper))


def cropper_for(spec: InputSpec, detector: str | None = None, device: str | None = "cpu") -> FaceCropper | None:
    """Return the cropper of a model's input; None where the model takes images whole.

    Args:
        detector: the file of the detector that the model was trained with, where that is not dlib's.
    Raises:
        UsageError: it takes images whole and a detector is given; or the file is not given, or is another one.
    """
    wanted = spec.faces
    if wanted is None:
        if detector not in (None, Whole.name):
            raise UsageError(f"the model takes images whole, without --detector {detector}; train it with --detector")
        return None
    if detector is None and wanted.detector != "dlib":
        raise UsageError(f"the model was trained on faces found by {wanted.detector}: give its file, --detector FILE")
    cropper = FaceCropper(detector or "dlib", wanted.select_face, max(spec.height, spec.width), device=device)
    if cropper.spec != wanted:
        raise UsageError(
            f"--detector {detector}: the model was trained on faces found by {wanted.detector} "
            f"({wanted.digest[:8]}), this is {cropper.spec.detector} ({cropper.spec.digest[:8]})"
        )
    return cropper


def uncropped_share(images: Sequence[Pixels]) -> float | None:
    """Measure how much of uncropped images, (H, W, 3) uint8 each, their faces fill.

    Returns:
        The median share of the shorter side that the largest face fills, if that is small enough to matter; None for
        crops, for images too small to tell, where most show no face, or where the detector is not installed.
    """
    large = [image for image in images if min(image.shape[:2]) >= SMALLEST_UNCROPPED]
    if not large or 2 * len(large) < len(images):
        return None
    try:
        detector = detector_of("dlib")
        located = [detector.locate(image, LARGE) for image in large]
    except FacewrightError:
        return None
    shares = [
        float(faces.boxes[:, 2:].max() / min(image.shape[:2]))
        for image, faces in zip(large, located, strict=True)
        if len(faces.boxes)
    ]
    if 2 * len(shares) < len(large):
        return None
    share = float(np.median(shares))
    return share if share < FILLS else None


def share_in_sample(items: Sequence[T], read: Callable[[T], Pixels]) -> float | None:
    """Return `uncropped_share` of a few images spread over all; unreadable ones are passed over."""
    images = []
    for row in np.linspace(0, len(items) - 1, min(SAMPLE, len(items))).astype(int):
        try:
            images.append(read(items[row]))
        except (BadImage, OSError):
            continue
    return uncropped_share(images)


def sample_share(dataset: Dataset) -> float | None:
    """Return `share_in_sample` of a dataset; None of face crops."""
    if isinstance(dataset.source, CropSource):
        return None
    return share_in_sample(dataset.records, lambda record: dataset.source.read(record, SIDE * 2))


def advice(share: float) -> str:
    """Say what to do about uncropped images."""
    return f"faces fill {100 * share:.0f} % of the images' shorter side: add --detector dlib to train on face crops"


def model_advice(share: float) -> str:
    """Say what to do about uncropped images given to a model without a detector."""
    return (
        f"faces fill {100 * share:.0f} % of the images' shorter side and the model has no detector: if it was trained "
        "on face crops, crop these too (facewright faces PHOTOS --out CROPS)"
    )
