"""Alignment of faces: an upright crop, turned, scaled and shifted so that its points lie best on a template's.

A crop is sampled bilinearly; where it would take less than every second pixel, from a photo halved as often as needed
(a binomial filter of 5x5 points). What lies outside of the photo is black. Source: Umeyama 1991 (doi:10.1109/34.88573)
for the least-squares similarity; dlib's `extract_image_chips`, pixel by pixel; insightface's `arcface_dst`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import UnknownName, UsageError
from facewright.images import Pixels
from facewright.input_spec import Template

Points = NDArray[np.complex128]
"""x + iy: a turn and scale is then a multiplication."""

MOST_MARGIN = 2  # of a crop, in shares of the template's side
_BINOMIAL = (1, 4, 6, 4, 1)
_HALVED = 1.25 + 0.75j  # dlib's: where the middle of a halved photo's first pixel is taken to lie, times two


def _padded(points: tuple[tuple[float, float], ...], padding: float) -> tuple[tuple[float, float], ...]:
    whole = 1 + 2 * padding
    return tuple(((x + padding) / whole, (y + padding) / whole) for x, y in points)


# The mean face of `dlib.detection.FivePoints`, in shares of the side from brow to chin. Source: get_face_chip_details.
_CORNERS = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)
# The two eyes, the tip of the nose, the two corners of the mouth, in px of 112.
_ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))

DLIB = Template("dlib", 150, _padded(_CORNERS, 0.25), "corners")
"""The aligned crops of `dlib_resnet29`, for the points of `dlib.detection.FivePoints`."""

ARCFACE = Template("arcface", 112, tuple((x / 112, y / 112) for x, y in _ARCFACE))
"""For the middle of the eyes, the tip of the nose and the corners of the mouth (left before right in the image)."""

# `_CORNERS` in ArcFace's 112 px: the mean face of 68 points that they belong to was brought onto `_ARCFACE` by its
# eyes, nose and mouth (least squares; 0.9 to 2.0 px remain), and its five points with it.
_CORNERS_112 = ((81.2985, 51.9651), (66.6355, 53.1093), (30.5266, 52.2626), (45.2015, 53.2349), (56.0733, 80.5701))

ARCFACE_CORNERS = Template("arcface-corners", 112, tuple((x / 112, y / 112) for x, y in _CORNERS_112))
"""ArcFace's aligned crops for the points of `dlib.detection.FivePoints`."""


FFHQ = Template(
    "ffhq",
    512,
    tuple((x / 512, y / 512) for x, y in ((192.981, 239.947), (318.903, 240.194), (256.635, 314.014),
                                          (201.261, 371.410), (313.089, 371.151))),
)  # fmt: skip
"""Looser crops, for the points of `ARCFACE`. Source: facexlib's `face_restoration_helper.py`."""


def box_template(name: str, side: int, margin: float) -> Template:
    """Return the template of a detector's box, not turned, with a margin: both sides together, in shares of the box."""
    low = margin / (1 + margin) / 2
    corners = ((low, low), (1 - low, low), (1 - low, 1 - low), (low, 1 - low))
    return Template(name, side, corners, "box")


MTCNN = box_template("mtcnn", 160, 44 / 116)
"""FaceNet's crops: 44 px of margin in 160. Boxes keep their shape here; facenet-pytorch stretches them to squares."""

NAMED = {template.name: template for template in (ARCFACE, FFHQ, MTCNN, DLIB)}


def parse_template(text: str, side: int) -> Template:
    """Read a template: a name of `NAMED`, "box:MARGIN", or five points "x1,y1,...,x5,y5" in px of the side.

    Raises:
        UnknownName: another name. UsageError: another count of numbers, or numbers out of range.
    >>> parse_template("box:0.5", 160).rule
    'box'
    """
    if text in NAMED:
        return replace(NAMED[text], side=side)
    try:
        if text.startswith("box:"):
            return box_template("box", side, float(text.removeprefix("box:")))
        numbers = [float(part) / side for part in text.split(",")]
    except ValueError:
        raise UnknownName("template", text, (*NAMED, "box:MARGIN", "x1,y1,...,x5,y5")) from None
    if len(numbers) != 10:
        raise UsageError(f"expected five points x1,y1,...,x5,y5 as a template, got {len(numbers)} numbers")
    return Template("points", side, tuple(zip(numbers[::2], numbers[1::2], strict=True)))


def for_corners(template: Template) -> Template:
    """Return the template for the points of `dlib.detection.FivePoints` of one for the points of `ARCFACE`."""
    if template.rule != "centres" or template.points == ARCFACE.points:
        return replace(ARCFACE_CORNERS, side=template.side) if template.rule == "centres" else template
    turn, shift = similarity(ARCFACE.points, template.points)
    points = [turn * complex(x, y) + shift for x, y in ARCFACE_CORNERS.points]
    name = f"{template.name}-corners"
    return Template(name, template.side, tuple((point.real, point.imag) for point in points))


def for_centres(template: Template) -> Template:
    """Return the template for the points of `ARCFACE` of one made of `ARCFACE_CORNERS`; inverts `for_corners`."""
    turn, shift = similarity(ARCFACE_CORNERS.points, template.points)
    if template.points == ARCFACE_CORNERS.points:
        turn, shift = 1 + 0j, 0j
    points = [turn * complex(x, y) + shift for x, y in ARCFACE.points]
    return Template(ARCFACE.name, template.side, tuple((point.real, point.imag) for point in points))


def framed(template: Template, side: int | None, margin: float) -> Template:
    """Return the template with another side and more around the face.

    Args:
        side: px; None: the template's. margin: to add on every side, in shares of the template's side; at least 0.
    >>> wide = framed(ARCFACE, 224, 0.5)
    >>> wide.side, [round(value, 2) for value in wide.points[2]], [round(value, 2) for value in ARCFACE.points[2]]
    (224, [0.5, 0.57], [0.5, 0.64])
    """
    if not 0 <= margin <= MOST_MARGIN:
        raise UsageError(f"expected a margin of 0 to {MOST_MARGIN} of the crop's side, got {margin:g}")
    points = _padded(template.points, margin) if margin else template.points
    return replace(template, side=template.side if side is None else side, points=points)


def align_face(photo: Pixels, points: ArrayLike, size: int | None = None, template: Template = DLIB) -> Pixels:
    """Cut one face out of a photo, (H, W, 3) uint8, upright.

    Args:
        points: (K, 2) x, y in pixels of the photo, in the order of the template.
        size: side of the crop, px; default: the template's.
    Returns:
        (size, size, 3) uint8, contiguous.
    Raises:
        UsageError: not the template's number of points, points that all fall onto one, or no size.
    """
    side = template.side if size is None else size
    given = np.asarray(points, np.float64)
    if given.shape != (len(template.points), 2) or not np.isfinite(given).all():
        raise UsageError(f"expected {len(template.points)} points x, y for the template {template.name}, got {given}")
    if side < 2:
        raise UsageError(f"expected a crop of at least 2 pixels a side, got {side}")
    turn, shift = similarity(np.array(template.points) * side, given)
    if abs(turn) * side < 2:
        raise UsageError("the points of the face all but fall onto one; expected a face of at least 2 pixels a side")
    centre = turn * (side / 2) * (1 + 1j) + shift
    first, step = shift, turn
    if template.rule == "corners":
        reach = abs(turn) * side - 1  # px of the photo from the middle of the first pixel to that of the last
        step = turn / abs(turn) * reach / (side - 1)
        first = centre - step * (side - 1) / 2 * (1 + 1j)
    part, first, step = _halved(photo, first, step, side)
    return _sampled(part, first, step, side)


def similarity(source: ArrayLike, target: ArrayLike) -> tuple[complex, complex]:
    """Compute the turn and scale, and the shift, that best bring points onto others: target = turn * source + shift.

    Args:
        source, target: (K, 2) x, y; K at least 2.
    Returns:
        Two complex numbers, x + iy; least squares, never a mirror image.
    >>> similarity([[0, 0], [1, 0]], [[5, 5], [6, 7]])
    ((1+2j), (5+5j))
    """
    origin, goal = (np.asarray(points, np.float64) @ np.array([1, 1j]) for points in (source, target))
    spread = origin - origin.mean()
    extent = float((np.abs(spread) ** 2).sum())
    turn = complex((spread.conj() * (goal - goal.mean())).sum() / extent) if extent else 0j
    return turn, complex(goal.mean() - turn * origin.mean())


def _halved(photo: Pixels, first: complex, step: complex, side: int) -> tuple[Pixels, complex, complex]:
    """The part of the photo that a crop needs, halved as often as it skips pixels; its first pixel and step there."""
    corners = first + step * (side - 1) * np.array([0, 1, 1j, 1 + 1j])
    reach = abs(step) * (side - 1)
    times, margin, length = 0, 2.0, reach / 2
    while (length + 1) ** 2 > side * side:  # dlib counts the pixels of a square by its side and one more
        times, margin, length = times + 1, margin * 2 + 2, length / 2
    height, width = photo.shape[:2]
    left, right = _span(corners.real, margin, width)
    top, bottom = _span(corners.imag, margin, height)
    if left >= right or top >= bottom:
        return photo[:0, :0], first, step
    part, middle = photo[top:bottom, left:right], complex(corners.mean()) - complex(left, top)
    for _ in range(times):
        part, step = halve(part), step / 2
        middle = middle / 2 - _HALVED
    return part, middle - step * (side - 1) / 2 * (1 + 1j), step


def _span(places: NDArray[np.float64], margin: float, length: int) -> tuple[int, int]:
    """Return the first pixel, and the one behind the last, that lie within a margin of some places."""
    low, high = max(places.min() - margin, 0.0), min(places.max() + margin, length - 1.0)
    return int(np.floor(low + 0.5)), int(np.floor(high + 0.5)) + 1


def halve(photo: Pixels) -> Pixels:
    """Halve a photo's sides: binomial filter of 5x5 points, every second pixel; two pixels of the edge are lost.

    Returns:
        ((H - 3) // 2, (W - 3) // 2, 3) uint8, rounded down; nothing of photos of at most 8 pixels.
    """
    height, width = photo.shape[:2]
    if height <= 8 or width <= 8:
        return photo[:0, :0]
    rows, columns = (height - 3) // 2, (width - 3) // 2
    wide = photo.astype(np.uint16)
    across = sum(weight * wide[:, k : k + 2 * columns : 2] for k, weight in enumerate(_BINOMIAL))
    both = sum(weight * np.asarray(across)[k : k + 2 * rows : 2] for k, weight in enumerate(_BINOMIAL))
    return (np.asarray(both) >> 8).astype(np.uint8)


def _sampled(photo: Pixels, first: complex, step: complex, side: int) -> Pixels:
    """Sample (side, side, 3) uint8, rounded down: the photo at first + step * (column + i row), black outside of it."""
    grid = np.arange(side)
    places = first + step * (grid[None, :] + 1j * grid[:, None])
    x, y = np.floor(places.real), np.floor(places.imag)
    height, width = photo.shape[:2]
    inside = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1)
    if not inside.any():
        return np.zeros((side, side, 3), np.uint8)
    across, down = ((part - whole)[..., None] for part, whole in ((places.real, x), (places.imag, y)))
    corner = np.where(inside, y * width + x, 0).astype(np.int64)
    pixels = photo.reshape(-1, 3)
    above = (1 - across) * pixels[corner] + across * pixels[corner + 1]
    below = (1 - across) * pixels[corner + width] + across * pixels[corner + width + 1]
    values = (1 - down) * above + down * below
    return np.where(inside[..., None], values, 0.0).astype(np.uint8)
