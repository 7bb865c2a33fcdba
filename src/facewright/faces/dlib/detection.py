"""Faces in photos as dlib finds them: the box by a small network, five points in it by regression trees.

Detector: seven convolutions give a score for a window of 80 px at every eighth pixel of every level of a pyramid;
scores above 0 are faces. Source: King 2015, "Max-margin object detection" (arXiv:1502.00046). The pyramid holds a photo
in every size, side by side in one image: each level has five sixths of the side of the one before, below it; once the
small ones fit beside them, the rest goes back up along the right edge. Source: dlib's
`input_rgb_image_pyramid<pyramid_down<6>>`, pixel by pixel.

Points: from the mean face, each of 15 steps reads some hundred pixels around where the points now are, asks 500 small
trees which of two pixels is brighter and by how much, and adds up what their leaves say. Source: Kazemi and Sullivan
2014, "One millisecond face alignment with an ensemble of regression trees" (doi:10.1109/CVPR.2014.241).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray

from facewright.errors import WeightsError
from facewright.faces.dlib.files import FIVE_POINTS, Reader
from facewright.faces.dlib.graphs import MAX_MARGIN, MEANS, WINDOW, Source
from facewright.faces.scaling import scaled
from facewright.graphs import Session
from facewright.images import Pixels
from facewright.metrics.detection import Floats, as_boxes

STRIDE, FIRST = 8, 14  # px: between two windows of a level, and of the middle of the first
OVERLAP = 0.3382761351109955  # share of the box around two windows from which on they show one face
RATE = 5 / 6  # a level's side over that of the level before
NUDGE = 0.3  # px that a place moves from level to level beside the rate
LEAST = 5  # px: lower levels are left out
MARGIN, OUTER = 10, 11  # px between levels, and around all
LEAST_IMAGE = 32  # px: dlib's network has no use for less

Place = tuple[int, int, int, int]  # left, top, width, height, px


@dataclass(frozen=True)
class Layout:
    """The places of the levels of a photo's pyramid in the image."""

    levels: tuple[Place, ...]
    height: int
    width: int

    def draw(self, photo: Pixels, between: tuple[float, float, float]) -> NDArray[np.float32]:
        """Draw the levels of a photo, (H, W, 3) uint8, each by bilinear interpolation of the one before: (h, w, 3)."""
        image = np.empty((self.height, self.width, 3), np.float32)
        image[:] = between
        level = photo.astype(np.float32)
        for left, top, width, height in self.levels:
            level = _interpolated(_interpolated(level, height).swapaxes(0, 1), width).swapaxes(0, 1)
            image[top : top + height, left : left + width] = level
        return image

    def in_photo(self, centres: Floats, size: float) -> Floats:
        """Convert squares of the image into boxes of the photo; a square belongs to the level nearest to its middle.

        Args:
            centres: (N, 2) x, y of their middles, px. size: their side, px, the first and the last pixel included.
        Returns:
            (N, 4) x, y, width, height in whole px of the photo.
        """
        level = self._nearest(centres)
        corner = np.array([place[:2] for place in self.levels], np.float64)[level]
        low = _up(centres - (size - 1) / 2 - corner, level)
        high = _up(centres + (size - 1) / 2 - corner, level)
        low, high = np.floor(low + 0.5), np.floor(high + 0.5)
        return np.hstack([low, high - low + 1])

    def _nearest(self, centres: Floats) -> NDArray[np.int64]:
        """(N,) the level whose pixels are nearest to each place; of equally near ones the larger."""
        places = np.array(self.levels, np.float64)
        low, high = places[:, :2], places[:, :2] + places[:, 2:] - 1
        away = np.maximum(low - centres[:, None], 0) + np.maximum(centres[:, None] - high, 0)  # (N, levels, 2)
        return np.asarray((away**2).sum(axis=2).argmin(axis=1))


def lay_out(height: int, width: int) -> Layout:
    """Lay out the pyramid of a photo of this size, px.

    >>> lay_out(60, 60).levels[:2]
    ((11, 11, 60, 60), (11, 81, 50, 50))
    """
    sizes = _sizes(height, width)
    column = _first_column(sizes)
    levels: list[Place] = []
    y = OUTER
    for level_height, level_width in sizes:
        if y >= column + OUTER:
            break
        levels.append((OUTER, y, level_width, level_height))
        y += level_height + MARGIN
    y -= MARGIN
    for level_height, level_width in sizes[len(levels) :]:
        left, top = OUTER + width - level_width, y - level_height
        if top < OUTER + height:  # it would cover the photo itself
            break
        levels.append((left, top, level_width, level_height))
        y -= level_height + MARGIN
    return Layout(tuple(levels), max(column + 2 * OUTER, LEAST_IMAGE), max(width + 2 * OUTER, LEAST_IMAGE))


def _interpolated(image: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """An image (L, ..., 3) with `length` rows; the first and the last stay where they are."""
    if length == len(image):
        return image
    places = np.linspace(0, len(image) - 1, length)
    low = np.minimum(places.astype(np.int64), max(len(image) - 2, 0))
    share = (places - low).astype(np.float32)[:, None, None]
    above = image[low]
    return np.asarray(above + share * (image[np.minimum(low + 1, len(image) - 1)] - above), np.float32)


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    sizes = [(height, width)]
    while True:
        height, width = int(5 * height / 6), int(5 * width / 6)
        if height < LEAST or width == 0:
            return sizes
        sizes.append((height, width))


def _first_column(sizes: list[tuple[int, int]]) -> int:
    """Return the height of the levels below each other, px: until the next fits beside, past half of them all."""
    height, width = sizes[0]
    total = sum(level + MARGIN for level, _ in sizes) - 2 * MARGIN
    column = before = 0
    for level_height, level_width in sizes:
        if level_width <= width - before - MARGIN and (column - height) * 2 >= total - height:
            break
        column += level_height + MARGIN
        before = level_width
    return column - MARGIN


def _up(places: Floats, level: NDArray[np.int64]) -> Floats:
    """Places of a level in the photo: (N, 2), each time by 6 / 5 and a nudge."""
    growth = RATE ** -level.astype(np.float64)[:, None]
    return np.asarray(places * growth + NUDGE * (growth - 1) / (1 / RATE - 1))


class FaceDetector:
    """The network with its weights; `find` may be called from several threads."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def load(cls, *, cache: Path | None = None, device: str | None = "cpu") -> FaceDetector:
        """Load the network of the package's file, converted the first time; arguments and errors as `Source.load`."""
        return cls(MAX_MARGIN.session(cache=cache, device=device))

    def find(self, photo: Pixels, *, smallest: float | None = None, threshold: float = 0.0) -> tuple[Floats, Floats]:
        """Find the faces of a photo, (H, W, 3) uint8.

        Args:
            smallest: px of the photo: side of the smallest face that is looked for; half takes four times as long.
                None: 80, or as much more as a photo of more than four million pixels needs.
            threshold: a score above this is a face; the scale is that of the loss, 1 is sure.
        Returns:
            (N, 4) boxes x, y, width, height in px of the photo, square but for rounding, some reaching out of it; and
            their (N,) scores, highest first.
        Raises:
            UsageError: as `faces.scaling.scaled`.
        """
        level, back = scaled(photo, smallest, WINDOW)
        layout = lay_out(*level.shape[:2])
        (maps,) = self._session.run({"image": layout.draw(level, MEANS)[None]})
        scores = maps[0, 0]  # (rows, columns) of the pyramid's image
        rows, columns = np.nonzero(scores > threshold)
        found = scores[rows, columns].astype(np.float64)
        order = np.argsort(-found, kind="stable")
        centres = np.stack([columns, rows], axis=1)[order].astype(np.float64) * STRIDE + FIRST
        boxes = layout.in_photo(centres, WINDOW)
        kept = _highest(boxes)
        return boxes[kept] * np.tile(back, 2), found[order][kept]


def _highest(boxes: Floats) -> list[int]:
    """Return the boxes to keep, of those sorted by score; the overlap is a share of the box around both."""
    kept: list[int] = []
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    for index in range(len(boxes)):
        inner = np.minimum(high[kept], high[index]) - np.maximum(low[kept], low[index])
        outer = np.maximum(high[kept], high[index]) - np.minimum(low[kept], low[index])
        shared = np.maximum(inner, 0).prod(axis=1) / outer.prod(axis=1)
        if not (shared > OVERLAP).any():
            kept.append(index)
    return kept


POINTS = 5
MOST = 10_000  # of trees, pixels and nodes; the file has some hundred
Arrays = Mapping[str, NDArray[np.float32]]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Step:
    """One step of the cascade: where it looks, and its T trees of depth d, all levels full."""

    anchors: Indices  # (P,) which point of the face each pixel goes with
    offsets: NDArray[np.complex64]  # (P,) from that point to the pixel, x + iy in box sides, in the mean face
    first: Indices  # (T, 2**d - 1) the pixels that the nodes compare
    second: Indices  # (T, 2**d - 1)
    thresholds: NDArray[np.float32]  # (T, 2**d - 1) left where the first is brighter than the second by more
    leaves: NDArray[np.complex64]  # (T, 2**d, 5) how far the points move

    def moved(self, shape: NDArray[np.complex64], values: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Return the points (N, 5) after this step, of those before it and the brightness at the pixels (N, P), 0..255.

        The leaves are added one after the other in float32, as dlib does: a point that lies just between two pixels is
        then rounded the same way.
        """
        trees = np.arange(len(self.thresholds))
        node = np.zeros((len(values), len(trees)), np.int64)
        rows = np.arange(len(values))[:, None]
        inner = self.thresholds.shape[1]
        while node.size and node[0, 0] < inner:  # every tree has the same depth
            difference = values[rows, self.first[trees, node]] - values[rows, self.second[trees, node]]
            node = 2 * node + 2 - (difference > self.thresholds[trees, node])
        movements = self.leaves[trees, node - inner]  # (N, T, 5)
        return np.asarray(np.concatenate([shape[:, None], movements], axis=1).sum(axis=1))


@dataclass(frozen=True)
class FivePoints:
    """A predictor of the five points; created by `load`."""

    mean_face: NDArray[np.complex64]  # (5,) x + iy in box sides
    steps: tuple[Step, ...]

    @classmethod
    def load(cls, *, cache: Path | None = None) -> FivePoints:
        """Load the trees of the package's file, converted the first time; arguments and errors as `Source.load`."""
        return LANDMARKS.load(cls.from_bytes, cache=cache)

    @classmethod
    def from_bytes(cls, content: bytes) -> FivePoints:
        """Read what `LANDMARKS` converts to. Raises WeightsError: the content is damaged."""
        try:
            return cls.from_arrays(safetensors.numpy.load(content))
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise WeightsError(f"the trees for five points are damaged ({error})") from None

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> FivePoints:
        """Put the trees together from arrays by name. Raises WeightsError: the arrays do not fit each other."""
        try:
            steps = tuple(
                Step(anchors.astype(np.int64), offsets, first.astype(np.int64), second.astype(np.int64), least, leaves)
                for anchors, offsets, first, second, least, leaves in zip(
                    arrays["anchors"], _complex(arrays["offsets"]), arrays["first"], arrays["second"],
                    arrays["thresholds"], _complex(arrays["leaves"]), strict=True,
                )
            )  # fmt: skip
            predictor = cls(_complex(arrays["mean_face"]), steps)
            _check(predictor)
        except (KeyError, ValueError, IndexError) as error:
            raise WeightsError(f"these are no trees for five points ({error})") from None
        return predictor

    def of(self, photo: Pixels, boxes: ArrayLike) -> Floats:
        """Predict the points of faces in a photo, (H, W, 3) uint8.

        Args:
            boxes: (N, 4) x, y, width, height in pixels, as the detector gives them; they may reach out of the photo.
        Returns:
            (N, 5, 2) x, y in whole pixels, as the network was trained: outer and inner corner of the eye on the right
            of the image, outer and inner corner of the one on its left, the base of the nose.
        """
        found = as_boxes(boxes)
        corner = found[:, :1] + 1j * found[:, 1:2]  # (N, 1)
        reach = np.maximum(found[:, 2:] - 1, 0.0)  # from the first to the last pixel
        grey = photo.sum(axis=2, dtype=np.uint16) // 3
        shape = np.repeat(self.mean_face[None], len(found), axis=0)  # (N, 5)
        for step in self.steps:
            turn = _turn(self.mean_face, shape)  # (N, 1)
            places = turn * step.offsets + shape[:, step.anchors]  # (N, P), in box sides
            values = _brightness(grey, corner + places.real * reach[:, :1] + 1j * places.imag * reach[:, 1:])
            shape = step.moved(shape, values)
        points = corner + shape.real * reach[:, :1] + 1j * shape.imag * reach[:, 1:]
        return np.floor(np.stack([points.real, points.imag], axis=2) + 0.5)


def _turn(mean_face: NDArray[np.complex64], shape: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Compute the turn and scale, one complex number, that best bring the mean face onto each shape: (N, 1).

    Source: least squares over similarities, Umeyama 1991 (doi:10.1109/34.88573), for two dimensions.
    """
    source = mean_face - mean_face.mean(dtype=np.complex128)
    target = shape - shape.mean(axis=1, keepdims=True, dtype=np.complex128)
    turn = (source.conj() * target).sum(axis=1, keepdims=True) / (np.abs(source) ** 2).sum()
    return np.asarray(turn, np.complex64)


def _brightness(grey: NDArray[np.uint16], places: NDArray[np.complex128]) -> NDArray[np.float32]:
    """Return the photo's brightness at the nearest pixels, 0 outside of it: (N, P) x + iy -> (N, P)."""
    x, y = (np.floor(part + 0.5).astype(np.int64) for part in (places.real, places.imag))
    height, width = grey.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return np.where(inside, grey[np.where(inside, y, 0), np.where(inside, x, 0)], 0).astype(np.float32)


def _complex(pairs: NDArray[np.float32]) -> NDArray[np.complex64]:
    """(..., 2) -> (...), x + iy."""
    return np.asarray(pairs[..., 0] + 1j * pairs[..., 1], np.complex64)


def _check(predictor: FivePoints) -> None:
    """Raises ValueError where a tree would read what is not there."""
    if predictor.mean_face.shape != (POINTS,):
        raise ValueError(f"{predictor.mean_face.shape} points where {POINTS} were expected")
    for step in predictor.steps:
        pixels, (trees, inner) = len(step.anchors), step.thresholds.shape
        if step.leaves.shape != (trees, inner + 1, POINTS) or inner & (inner + 1):
            raise ValueError(f"leaves {step.leaves.shape} for {trees} trees of {inner} nodes")
        for indices, most in ((step.anchors, POINTS), (step.first, pixels), (step.second, pixels)):
            if indices.min(initial=0) < 0 or indices.max(initial=0) >= most:
                raise ValueError(f"an index beyond {most}")


def _trees(path: Path) -> bytes:
    """A cascade as safetensors: mean_face (5, 2); for each of S steps anchors (S, P), offsets (S, P, 2), first, second
    and thresholds (S, T, nodes), leaves (S, T, nodes + 1, 5, 2). Indices are whole numbers in float32."""
    reader = Reader.open(path)
    reader.expect(1)
    mean_face = reader.matrix().reshape(-1, 2)
    steps = [[_tree(reader) for _ in range(reader.count(MOST))] for _ in range(reader.count(MOST))]
    anchors = [[reader.count(POINTS) for _ in range(reader.count(MOST))] for _ in range(reader.count(MOST))]
    offsets = [[(reader.real(), reader.real()) for _ in range(reader.count(MOST))] for _ in range(reader.count(MOST))]
    try:
        nodes = np.array([[splits for splits, _ in trees] for trees in steps], np.float32)
        leaves = np.array([[values for _, values in trees] for trees in steps], np.float32)
        arrays = {
            "mean_face": mean_face,
            "anchors": np.array(anchors, np.float32),
            "offsets": np.array(offsets, np.float32),
            "first": nodes[..., 0],
            "second": nodes[..., 1],
            "thresholds": nodes[..., 2],
            "leaves": leaves.reshape(*leaves.shape[:3], POINTS, 2),
        }
    except (ValueError, IndexError) as error:
        raise WeightsError(f"{path}: no trees for five points that are all of one size ({error})") from None
    FivePoints.from_arrays(arrays)  # says what does not fit
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous, {"source": FIVE_POINTS, "licence": "CC0-1.0"})


def _tree(reader: Reader) -> tuple[list[tuple[int, int, float]], list[list[float]]]:
    splits = [(reader.count(MOST), reader.count(MOST), reader.real()) for _ in range(reader.count(MOST))]
    return splits, [reader.matrix().ravel().tolist() for _ in range(reader.count(MOST))]


LANDMARKS = Source("five_points", FIVE_POINTS, _trees, ".safetensors")
