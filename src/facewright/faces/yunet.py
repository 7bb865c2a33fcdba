"""Faces in photos with five points each, by YuNet: a small public network, run by OpenCV from its ONNX file.

At every eighth, sixteenth and thirty-second pixel it says whether a face lies there, and where its box and points are.
It knows faces of 16 to 300 px, so a photo is also searched at an eighth of its side where a face could be larger.

Source: Wu, Peng and Yu 2023, "YuNet: a tiny millisecond-level face detector" (doi:10.1007/s11633-023-1423-y); the
decoding is that of OpenCV's `FaceDetectorYN`. That class itself is not used: it believes a file that its outputs have
the right sizes and reads beyond their end where they do not, and what it finds in photos of up to 32 px is noise.

>>> boxes, scores, points = YuNet.load(path).find(photo)                               # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from facewright.errors import WeightsError
from facewright.faces.boxes import keep_best
from facewright.faces.dlib.detector import scaled
from facewright.images import Pixels
from facewright.metrics.detection import Floats, as_boxes

WINDOW = 32  # px: what the smallest face is scaled to; of 16 px they are found too, but their points lie rough
NEAR = (
    0.75  # of the smallest side asked for: faces from here on are given; dlib, asked for 40 px, also finds those of 33
)
LARGEST = 300  # px: of larger faces boxes shrink and scores fall
COARSER = 8  # times shorter: the side of the next level
THRESHOLD = 0.8  # of 1,722 faces of LFW none scores less while it has 32 px; two dogs score 0.65 and 0.77
OVERLAP = 0.3  # intersection over union above which two boxes are one face; OpenCV's
MOST_BYTES = 4 * 2**20  # of a file; the network has 0.2 MB
STRIDES = (8, 16, 32)  # px between two places
UNIT, LEAST = 32, 64  # px: sides are multiples of the one; OpenCV fills maps of a single row or column with noise
KINDS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}  # outputs, and numbers a place in each
FARTHEST = 500  # strides; a thing that lies farther from its place was not found by YuNet
OUTPUTS = tuple(f"{kind}_{stride}" for kind in KINDS for stride in STRIDES)

Found = tuple[Floats, Floats, Floats]
"""(N, 4) boxes x, y, width, height; (N,) scores; (N, 5, 2) points x, y."""


class YuNet:
    """The network; `find` may be called from several threads, and they take turns: OpenCV uses all cores by itself.

    digest: SHA-256 of the file, 64 hexadecimal digits.
    """

    def __init__(self, network: Any, digest: str) -> None:
        self._network = network  # a cv2.dnn.Net
        self.digest = digest
        self._turn = Lock()

    @classmethod
    def load(cls, path: Path) -> YuNet:
        """The network of an ONNX file, tried once on an empty picture.

        Raises:
            WeightsError: the file cannot be read or is not YuNet's, or OpenCV is not installed.
        """
        content = _content(path)
        try:
            import cv2
        except ImportError:
            raise WeightsError("YuNet needs OpenCV, which is not installed: pip install 'facewright[opencv]'") from None
        try:
            network = cv2.dnn.readNetFromONNX(np.frombuffer(content, np.uint8))
            loaded = cls(network, hashlib.sha256(content).hexdigest())
            loaded.find(np.zeros((LEAST, 3 * UNIT, 3), np.uint8))
        except (cv2.error, WeightsError) as error:
            said = _in_a_line(error)
            raise WeightsError(f"{path}: expected YuNet's ONNX file (2023mar or later), got another ({said})") from None
        return loaded

    def find(self, photo: Pixels, *, smallest: float | None = None, threshold: float = THRESHOLD) -> Found:
        """The faces of a photo.

        Args:
            photo: (H, W, 3) uint8 RGB.
            smallest: px of the photo: side of the smallest face that is looked for; half of it takes four times as
                long. None: whatever the network sees in the photo as it is, or reduced to four million pixels.
            threshold: a score of at least this is a face; scores lie in (0, 1).
        Returns:
            (N, 4) boxes x, y, width, height in px of the photo, higher than wide, some reaching out of it; their (N,)
            scores, the surest first; and (N, 5, 2) points x, y in the order of `alignment.ARCFACE`.
        Raises:
            UsageError: `smallest` is not above 0, or so small that the photo enlarged has over four million pixels.
            WeightsError: the network cannot be run, or answers in other shapes than YuNet does.
        """
        level, back = scaled(photo, smallest, WINDOW)
        parts = [self._in_level(level, back, threshold)]
        while min(level.shape[:2]) > LARGEST:
            level, step = _coarser(level)
            back = back * step
            parts.append(self._in_level(level, back, threshold))
        boxes, scores, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        large = np.flatnonzero(dlib_squares(boxes)[:, 2] >= NEAR * (0 if smallest is None else smallest))
        kept = large[keep_best(boxes[large], scores[large], OVERLAP)]
        return boxes[kept], scores[kept], points[kept]

    def _in_level(self, level: Pixels, back: Floats, threshold: float) -> Found:
        """What is found in a level, in px of the photo; `back` are those for one of the level, x and y."""
        answers, columns = self._answers(level)
        parts = [_decoded(answers[place :: len(STRIDES)], stride, columns // stride, threshold)
                 for place, stride in enumerate(STRIDES)]  # fmt: skip
        boxes, scores, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        return boxes * np.tile(back, 2), scores, points * back

    def _answers(self, level: Pixels) -> tuple[list[Floats], int]:
        """The outputs for a picture, (places, numbers) each in the order of `OUTPUTS`; and the width that was fed."""
        height, width = (max(LEAST, -(-side // UNIT) * UNIT) for side in level.shape[:2])
        fed = np.zeros((1, 3, height, width), np.float32)
        fed[0, :, : level.shape[0], : level.shape[1]] = level[..., ::-1].transpose(2, 0, 1)  # blue first, 0..255
        try:
            with self._turn:
                self._network.setInput(fed)
                answers = [np.array(answer, np.float64) for answer in self._network.forward(OUTPUTS)]
        except Exception as error:  # cv2.error, a type that is only there with OpenCV
            raise WeightsError(f"OpenCV cannot run the network ({_in_a_line(error)})") from None
        for name, answer in zip(OUTPUTS, answers, strict=True):
            kind, stride = name.split("_")
            wanted = (1, (height // int(stride)) * (width // int(stride)), KINDS[kind])
            if answer.shape != wanted:
                raise WeightsError(f"expected the output {name} to be {wanted}, got {answer.shape}")
        return [answer[0] for answer in answers], width


def dlib_squares(boxes: ArrayLike) -> Floats:
    """The boxes that dlib's detector would have given for faces that YuNet found, for `landmarks.FivePoints`.

    Args:
        boxes: (N, 4) x, y, width, height, as `YuNet.find` gives them.
    Returns:
        (N, 4) squares.
    """
    found = as_boxes(boxes)
    side = found[:, 2:] @ _SIDE
    centre = found[:, :2] + found[:, 2:] / 2 + np.outer(side, (0.0, _DOWN))
    return np.hstack([centre - side[:, None] / 2, side[:, None], side[:, None]])


# Least squares over faces of LFW that both find. On the 218 faces held out the squares overlap dlib's boxes by 0.78,
# and the five points move by 0.24 % of a side: as much as between dlib's boxes of one face at two sizes of the photo.
# python benchmarks/yunet_frame.py --photos lfw/ --yunet FILE.onnx --count 600
_SIDE, _DOWN = (0.571, 0.348), -0.011  # of the width and the height; of the side


def _decoded(answers: Sequence[Floats], stride: int, columns: int, threshold: float) -> Found:
    """The faces of one stride, in px of what was fed.

    Args:
        answers: (P, 1) and (P, 1) how likely a face and a thing at all, the score being the root of their product;
            (P, 4) the middle of the box from the place on and the logarithms of its sides, (P, 10) x and y of the
            points from the place on, all in strides.
        columns: places in a row.
    Raises:
        WeightsError: what is found lies nowhere.
    """
    is_face, is_thing, box, shape = answers
    scores = np.sqrt(np.clip(is_face, 0, 1) * np.clip(is_thing, 0, 1))[:, 0]
    rows = np.flatnonzero(scores >= threshold)
    box, shape = box[rows], shape[rows].reshape(-1, 5, 2)
    if not ((np.abs(box) < FARTHEST).all() and (np.abs(shape) < FARTHEST).all()):
        raise WeightsError(f"expected boxes and points within {FARTHEST} strides, got NaN, infinity or more")
    place = np.stack([rows % columns, rows // columns], axis=1).astype(np.float64)
    size = np.exp(box[:, 2:])
    corner = place + box[:, :2] - size / 2
    return np.hstack([corner, size]) * stride, scores[rows], (place[:, None] + shape) * stride


def _coarser(level: Pixels) -> tuple[Pixels, Floats]:
    """A level with sides an eighth as long; and its px for one of the new, x and y."""
    height, width = level.shape[:2]
    size = max(1, round(width / COARSER)), max(1, round(height / COARSER))
    smaller = Image.fromarray(level).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(smaller), np.array([width / size[0], height / size[1]])


def _in_a_line(error: Exception) -> str:
    """What OpenCV says, without its version and the place in its source."""
    return str(error).strip().splitlines()[0].split("error: ", 1)[-1]


def _content(path: Path) -> bytes:
    """The file. Raises WeightsError: it cannot be read, or is far larger than YuNet's."""
    try:
        if not path.is_file():  # a pipe would block
            raise WeightsError(f"{path}: no such file; expected YuNet's ONNX file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(content) > MOST_BYTES:
        raise WeightsError(f"{path}: expected YuNet's ONNX file of at most {MOST_BYTES:,} bytes; it has more")
    return content
