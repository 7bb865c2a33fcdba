"""Faces in photos with five points each, by public networks run from their ONNX files by ONNX Runtime.

YuNet, SCRFD and RetinaFace say at every eighth, sixteenth and thirty-second pixel whether a face lies there, and where
its box and points are. A file is recognized by the shapes of what it gives. A graph of open height and width is run on
the photo; one of fixed size, on tiles of it. A photo is searched at the scale at which the smallest face has the size
that the network knows best, and at an eighth of that where a face could be larger.

Source: Wu, Peng and Yu 2023, "YuNet: a tiny millisecond-level face detector" (doi:10.1007/s11633-023-1423-y); Guo et
al. 2021, "Sample and computation redistribution for efficient face detection" (arXiv:2105.04714); Deng et al. 2019,
"RetinaFace" (arXiv:1905.00641); the decodings of OpenCV's `FaceDetectorYN`, insightface's `scrfd.py`, and biubug6's
`Pytorch_Retinaface`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from facewright.errors import BundleError, WeightsError
from facewright.faces.boxes import keep_best
from facewright.faces.scaling import scaled
from facewright.files import read_limited
from facewright.graphs import KEY, Session, open_sides, parse
from facewright.images import Pixels
from facewright.metrics.detection import Floats, as_boxes

STRIDES = (8, 16, 32)  # px between two places
UNIT, LEAST = 32, 64  # px: sides are multiples of the one; maps of a single row or column are noise to YuNet
OVERLAP = 0.3  # intersection over union above which two boxes are one face
NEAR = 0.75  # of the smallest side asked for: faces from here on are returned; dlib, for 40 px, finds those of 33
COARSER = 8  # times shorter: the side of the next level
MOST_BYTES = 256 * 2**20  # of a file
FARTHEST = 500  # strides; a thing that lies farther from its place is not from these networks
PROBE = (LEAST, 3 * UNIT)  # px: height and width of the image that a graph is tried on
MARGIN, GREY = 32, 128  # px around a level, and its colour: of 172 faces cut by the border YuNet finds 161, else 147

Detections = tuple[Floats, Floats, Floats]
"""(N, 4) boxes x, y, width, height; (N,) scores; (N, 5, 2) points x, y."""
Run = Callable[[NDArray[np.float32]], list[Any]]  # (1, 3, H, W) as the network is fed -> its outputs
Place = tuple[Floats, Floats]
"""(P, 2) x, y of places in px of what was fed; and (P,) side of the anchor at each, px: its stride, for anchor-free."""


def _yunet(values: Sequence[Floats], place: Place) -> tuple[Floats, Floats]:
    """Boxes by their middle and the logarithms of their sides, points from the place on; in strides."""
    (corner, unit), (box, shape) = place, values
    side = np.exp(box[:, 2:])
    low = corner / unit[:, None] + box[:, :2] - side / 2
    return np.hstack([low, side]) * unit[:, None], corner[:, None] + shape.reshape(-1, 5, 2) * unit[:, None, None]


def _scrfd(values: Sequence[Floats], place: Place) -> tuple[Floats, Floats]:
    """Boxes by how far their sides are to the left, above, to the right and below; in strides."""
    (corner, unit), (box, shape) = place, values
    low, high = corner - box[:, :2] * unit[:, None], corner + box[:, 2:] * unit[:, None]
    return np.hstack([low, high - low]), corner[:, None] + shape.reshape(-1, 5, 2) * unit[:, None, None]


def _retinaface(values: Sequence[Floats], place: Place) -> tuple[Floats, Floats]:
    """Boxes and points as SSD's: a tenth of the anchor's side for places, a fifth for the logarithms of sides."""
    (corner, unit), (box, shape) = place, values
    middle = corner + 0.1 * box[:, :2] * unit[:, None]
    side = unit[:, None] * np.exp(0.2 * box[:, 2:])
    points = corner[:, None] + 0.1 * shape.reshape(-1, 5, 2) * unit[:, None, None]
    return np.hstack([middle - side / 2, side]), points


@dataclass(frozen=True)
class Family:
    """Networks that are fed and decoded alike."""

    name: str
    outputs: tuple[int, ...]  # numbers a place in each output, sorted
    joined: bool  # an output holds all strides, one behind the other; else there is one for each
    anchors: tuple[tuple[float, ...], ...]  # for each stride, the sides of the anchors at a place, px
    middle: float  # strides from the corner of a place to its anchor
    bgr: bool
    mean: tuple[float, float, float]  # subtracted from 0..255, in the network's order
    scale: float  # then divided by
    decode: Callable[[Sequence[Floats], Place], tuple[Floats, Floats]]
    threshold: float  # a score of at least this is a face
    window: float  # px: what the smallest face is scaled to
    largest: float  # px: larger faces are searched for at a coarser level

    def places(self, height: int, width: int) -> list[Place]:
        """Return the places of each stride in an image of this size, px."""
        found = []
        for stride, sides in zip(STRIDES, self.anchors, strict=True):
            y, x = np.mgrid[0 : height // stride, 0 : width // stride].reshape(2, -1)
            corner = (np.stack([x, y], axis=1) + self.middle) * stride
            units = np.tile(np.array(sides), len(corner))
            found.append((np.repeat(corner, len(sides), axis=0), units))
        return found


FREE = tuple((float(stride),) for stride in STRIDES)
# Thresholds: of 1,722 faces of LFW none scores less with YuNet while it has 32 px; two dogs score 0.65 and 0.77.
FAMILIES = (
    Family("yunet", (1, 1, 4, 10), False, FREE, 0.0, True, (0, 0, 0), 1, _yunet, 0.8, 32, 300),
    Family("scrfd", (1, 4, 10), False, tuple(2 * s for s in FREE), 0.0, False, (127.5,) * 3, 128, _scrfd, 0.5, 32, 400),
    Family("retinaface", (2, 4, 10), True, ((16, 32), (64, 128), (256, 512)), 0.5, True, (104, 117, 123), 1,
           _retinaface, 0.8, 32, 500),
)  # fmt: skip


def detector_family(path: Path) -> str | None:
    """Return the family of the face detector in an ONNX file; None where it holds none."""
    if path.suffix.lower() != ".onnx":
        return None
    try:
        return OnnxDetector.load(path).family.name
    except WeightsError:
        return None


class OnnxDetector:
    """A network of one of `FAMILIES`; `find` may be called from several threads.

    family: which. digest: SHA-256 of the file, 64 hexadecimal digits.
    """

    def __init__(self, run: Run, digest: str, fixed: tuple[int, int] | None = None) -> None:
        self._run = run
        self._fixed = fixed  # height and width, px, that the graph takes; None: any
        self.digest = digest
        height, width = PROBE if fixed is None else fixed
        answers = [np.asarray(a) for a in run(np.zeros((1, 3, height, width), np.float32))]
        shapes = [a.reshape(-1, a.shape[-1]).shape if a.ndim > 1 else (0, 0) for a in answers]
        self.family = _family(shapes, height, width)
        self._order = sorted(range(len(shapes)), key=lambda i: (-shapes[i][0], shapes[i][1], i))
        self.find(np.zeros((LEAST, 3 * UNIT, 3), np.uint8))

    @classmethod
    def load(cls, path: Path, device: str | None = "cpu") -> OnnxDetector:
        """Read the network of an ONNX file and try it on an empty image; `device` as of `graphs.Session`.

        Raises:
            WeightsError: the file cannot be read, is not plain ONNX, or gives what none of `FAMILIES` gives.
        """
        try:
            content = read_limited(path, error=WeightsError, limit=MOST_BYTES)
            if any(entry.key == KEY for entry in parse(content).metadata_props):
                raise WeightsError("it is a model of Facewright: give it as MODEL")
            opened, closed = open_sides(content)
            digest = hashlib.sha256(content).hexdigest()
            try:
                return cls(_runner(Session(opened, device)), digest, None)
            except BundleError:
                if closed is None:
                    raise
                return cls(_runner(Session(content, device)), digest, closed)
        except (BundleError, WeightsError) as error:
            names = ", ".join(family.name for family in FAMILIES)
            raise WeightsError(f"{path}: expected the ONNX file of a face detector ({names}); {error}") from None

    def find(self, photo: Pixels, smallest: float | None = None, *, threshold: float | None = None) -> Detections:
        """Find the faces of a photo, (H, W, 3) uint8 RGB.

        Args:
            smallest: px of the photo: side of the smallest face that is looked for; half of it takes four times as
                long. None: whatever the network sees in the photo as it is, or reduced to four million pixels.
            threshold: a score of at least this is a face, in (0, 1); None: the family's.
        Returns:
            (N, 4) boxes x, y, width, height in px of the photo, higher than wide, some reaching out of it; their (N,)
            scores, highest first; and (N, 5, 2) points x, y in the order of `alignment.ARCFACE`.
        Raises:
            WeightsError: the network answers in other shapes than its family does. UsageError: as `scaled`.
        """
        least = self.family.threshold if threshold is None else threshold
        level, back = scaled(photo, smallest, int(self.family.window))
        parts = [self._in_level(level, back, least)]
        while min(level.shape[:2]) > self.family.largest:
            level, step = _coarser(level)
            back = back * step
            parts.append(self._in_level(level, back, least))
        boxes, scores, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        large = np.flatnonzero(dlib_squares(boxes)[:, 2] >= NEAR * (0 if smallest is None else smallest))
        kept = large[keep_best(boxes[large], scores[large], OVERLAP)]
        return boxes[kept], scores[kept], points[kept]

    def _in_level(self, level: Pixels, back: Floats, threshold: float) -> Detections:
        """Find the faces of a level, in px of the photo; `back` are those for one of the level, x and y."""
        parts = []
        for left, top, image in _tiles(level, self._fixed):
            boxes, scores, points = self._in_image(image, threshold)
            shift = np.array([left, top])
            parts.append((boxes + np.tile(shift, 2) * [1, 1, 0, 0], scores, points + shift))
        boxes, scores, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        return boxes * np.tile(back, 2), scores, points * back

    def _in_image(self, image: Pixels, threshold: float) -> Detections:
        """Find the faces of an image of a size that the network takes, in its px."""
        height, width = image.shape[:2]
        fed = (image[..., ::-1] if self.family.bgr else image).astype(np.float32)
        fed = (fed - np.array(self.family.mean, np.float32)) / np.float32(self.family.scale)
        answers = self._run(np.ascontiguousarray(fed.transpose(2, 0, 1))[None])
        places = self.family.places(height, width)
        if self.family.joined:
            places = [(np.concatenate([p[0] for p in places]), np.concatenate([p[1] for p in places]))]
        parts = []
        for number, place in enumerate(places):
            kinds = len(self.family.outputs)
            group = [np.asarray(answers[i]) for i in self._order[number * kinds : (number + 1) * kinds]]
            group = [np.asarray(values.reshape(-1, values.shape[-1]), np.float64) for values in group]
            if any(len(values) != len(place[0]) for values in group):
                rows = [len(values) for values in group]
                raise WeightsError(f"expected outputs of {len(place[0]):,} rows, got {rows}")
            parts.append(self._decoded(group, place, threshold))
        boxes, scores, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        return boxes, scores, points

    def _decoded(self, group: list[Floats], place: Place, threshold: float) -> Detections:
        *likely, box, shape = group
        if not all(((one >= -1e-3) & (one <= 1 + 1e-3)).all() for one in likely):
            raise WeightsError("expected scores between 0 and 1")
        scores = np.clip(np.prod([one[:, -1] for one in likely], axis=0), 0, 1) ** (1 / len(likely))
        rows = np.flatnonzero(scores >= threshold)
        box, shape, corner, unit = box[rows], shape[rows], place[0][rows], place[1][rows]
        if not ((np.abs(box) < FARTHEST).all() and (np.abs(shape) < FARTHEST).all()):
            raise WeightsError(f"expected boxes and points within {FARTHEST} strides, got NaN, infinity or more")
        boxes, points = self.family.decode((box, shape), (corner, unit))
        return boxes, scores[rows], points


def dlib_squares(boxes: ArrayLike) -> Floats:
    """Return the squares (N, 4) that dlib's detector would have given, for dlib's five points, of boxes (N, 4)."""
    found = as_boxes(boxes)
    side = found[:, 2:] @ _SIDE
    centre = found[:, :2] + found[:, 2:] / 2 + np.outer(side, (0.0, _DOWN))
    return np.hstack([centre - side[:, None] / 2, side[:, None], side[:, None]])


# Least squares over faces of LFW that YuNet and dlib find. On the 218 faces held out the squares overlap dlib's boxes
# by 0.78, and the five points move by 0.24 % of a side: as much as between dlib's boxes of one face at two sizes.
# python benchmarks/yunet_frame.py --photos lfw/ --yunet FILE.onnx --count 600
_SIDE, _DOWN = (0.571, 0.348), -0.011  # of the width and the height; of the side


def _family(shapes: list[tuple[int, int]], height: int, width: int) -> Family:
    """Return the family that gives outputs of these shapes, (rows, numbers), for an image of this size, px."""
    for family in FAMILIES:
        rows = [len(corner) for corner, _ in family.places(height, width)]
        rows = [sum(rows)] if family.joined else rows
        if Counter(shapes) == Counter((count, numbers) for count in rows for numbers in family.outputs):
            return family
    if len(shapes) == 1 and shapes[0][0] == 1:
        raise WeightsError(f"it is a face recognizer (a vector of {shapes[0][1]} numbers an image): give it as MODEL")
    raise WeightsError(f"for an image of {width} x {height} it gives {sorted(shapes)[:12]}")


def _tiles(level: Pixels, fixed: tuple[int, int] | None) -> Iterator[tuple[int, int, Pixels]]:
    """Parts of a level and its margin that a network takes, filled up with grey: left, top, pixels."""
    height, width = (side + 2 * MARGIN for side in level.shape[:2])
    tall, wide = fixed or (max(LEAST, -(-side // UNIT) * UNIT) for side in (height, width))
    for top in _starts(height, tall):
        for left in _starts(width, wide):
            image = np.full((tall, wide, 3), GREY, np.uint8)
            part = level[max(top, 0) : top + tall, max(left, 0) : left + wide]
            y, x = max(-top, 0), max(-left, 0)
            image[y : y + part.shape[0], x : x + part.shape[1]] = part
            yield left, top, image


def _starts(length: int, tile: int) -> list[int]:
    """Return where tiles begin so that they cover a length, margins included, and overlap by a quarter at least."""
    count = 1 if length <= tile else -(-(length - tile) // (tile * 3 // 4)) + 1
    return [round(start) - MARGIN for start in np.linspace(0, max(length - tile, 0), count)]


def _runner(session: Session) -> Run:
    (name,) = session.inputs
    return lambda fed: session.run({name: fed})


def _coarser(level: Pixels) -> tuple[Pixels, Floats]:
    """A level with sides an eighth as long; and its px for one of the new, x and y."""
    height, width = level.shape[:2]
    size = max(1, round(width / COARSER)), max(1, round(height / COARSER))
    smaller = Image.fromarray(level).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(smaller), np.array([width / size[0], height / size[1]])
