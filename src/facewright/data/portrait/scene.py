"""Scenes: several synthetic people before a cluttered background, with the boxes of their faces."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError

from .face import backdrop, draw_person, photograph
from .head import Canvas, HeadPose, Points, closed_curve, disc
from .identity import Moment, RandomStream, attributes_of, identity_of, moment_of

_TRIES = 400


@dataclass(frozen=True)
class _Place:
    """The place of a face, in pixels: its middle and half its height."""

    x: float
    y: float
    half: float

    def covers(self, other: _Place) -> float:
        """The share of the other's face that this person, head and shoulders, may hide (an upper bound)."""
        box = (other.x - other.half, other.y - other.half, other.x + other.half, other.y + other.half)
        head = (self.x - 1.2 * self.half, self.y - 1.5 * self.half, self.x + 1.2 * self.half, self.y + 1.4 * self.half)
        body = (self.x - 1.5 * self.half, self.y + 1.3 * self.half, self.x + 1.5 * self.half, math.inf)
        return (_common(head, box) + _common(body, box)) / (4.0 * other.half**2)


def _common(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def scene(seed: int, index: int, width: int, height: int, faces: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a group of people at different distances, from the world of a seed.

    Args:
        width, height: of the image in px, 32 to 4096 each. faces: how many people, 0 to 40.
    Returns:
        (height, width, 3) uint8 RGB, and (faces, 4) boxes x, y, w, h in whole px: of each face from crown to chin and
        from cheek to cheek, inside the image, the nearest person first. A nearer one hides a fifth of a face at most.
    Raises:
        UsageError: a size or number out of range.
    >>> image, boxes = scene(seed=0, index=1, width=160, height=120, faces=3)
    >>> image.shape, boxes.shape
    ((120, 160, 3), (3, 4))
    """
    if not (32 <= width <= 4096 and 32 <= height <= 4096 and 0 <= faces <= 40):
        asked = f"{width}×{height} and {faces}"
        raise UsageError(f"a scene has sides of 32 to 4096 pixels and 0 to 40 faces, not {asked}")
    stream = RandomStream(seed, 5, index)
    image = _background(stream, width, height)
    light = moment_of(identity_of(seed, 0), seed, index, attributes_of(identity_of(seed, 0), seed, index))
    first = int(stream.unit() * 9_000)
    places = _places(stream, width, height, faces)
    boxes = [np.zeros(4, np.int64)] * faces
    for k in reversed(range(faces)):  # the farthest first, the nearer over it
        image, boxes[k] = _with_person(image, places[k], (seed, first + 7 * k, index), light)
    return photograph(image, replace(light, blur=0.0, noise=0.6 * light.noise), stream), np.array(boxes).reshape(-1, 4)


def _with_person(
    image: NDArray[np.float32], place: _Place, who: tuple[int, int, int], light: Moment
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The image with one more person in front, and the box of the face. `who` is (seed, person, index)."""
    height, width = image.shape[:2]
    side = max(height, width)
    seed, person, index = who
    identity = identity_of(seed, person)
    shown = attributes_of(identity, seed, index)
    moment = replace(
        moment_of(identity, seed, index, shown),
        x=place.x / side, y=place.y / side, half=place.half / side, tint=light.tint,
        light_x=light.light_x, light_y=light.light_y, ambient=light.ambient, diffuse=light.diffuse,
    )  # fmt: skip
    drawn, cover = draw_person(identity, moment, shown, RandomStream(seed, 7, person, index), side)
    head = HeadPose(identity, moment, side)
    outline = head.place(head.outline())
    low = np.floor(np.maximum(outline.min(axis=0), 0.0)).astype(np.int64)
    high = np.ceil(np.minimum(outline.max(axis=0), (width, height))).astype(np.int64)
    behind = image * (1.0 - cover[:height, :width, None])
    return drawn[:height, :width] + behind, np.concatenate([low, high - low])


def _places(stream: RandomStream, width: int, height: int, faces: int) -> list[_Place]:
    """Places for so many faces, largest first, each little hidden by the larger ones before it."""
    large = min(0.26 * height, 0.42 * width / math.sqrt(max(faces, 1)))
    small = max(0.3 * large, 5.0)
    halves = sorted((small * (large / small) ** stream.unit() for _ in range(faces)), reverse=True)
    places: list[_Place] = []
    for half in halves:
        places.append(_free_place(stream, (width, height), half, places))
    return places


def _free_place(stream: RandomStream, size: tuple[int, int], half: float, taken: list[_Place]) -> _Place:
    """The first place drawn that little hides, the face made smaller when it takes long; else the best one seen."""
    best, least = _Place(size[0] / 2, size[1] / 2, half), math.inf
    for attempt in range(_TRIES):
        now = half * 0.97 ** (attempt // 20)
        inset = 1.15 * now  # a tilted head stays inside
        place = _Place(stream.between(inset, size[0] - inset), stream.between(inset, size[1] - inset), now)
        hidden = max((other.covers(place) for other in taken), default=0.0)
        if hidden <= 0.2:
            return place
        if hidden < least:
            best, least = place, hidden
    return best


def _background(stream: RandomStream, width: int, height: int) -> NDArray[np.float32]:
    """A backdrop with things on it: boxes, balls, rings, leaves and poles, some of the colours of skin."""
    side = max(width, height)
    times = 2 if side <= 2048 else 1
    canvas = Canvas(side * times)
    for _ in range(14):
        x, y = stream.unit() * canvas.side * width / side, stream.unit() * canvas.side * height / side
        size = canvas.side * stream.between(0.03, 0.14)
        colour = tuple(stream.between(40.0, 225.0) for _ in range(3))
        shape = stream.pick(_THINGS)(stream, size) + np.array([x, y])
        canvas.fill(shape, colour)
        canvas.fill((shape - np.array([x, y])) * 0.7 + np.array([x, y]), (255, 255, 255), 0.12)
    drawn, cover = canvas.reduced(times)
    things, cover = drawn[:height, :width], cover[:height, :width, None]
    return np.asarray(0.85 * (things + (1.0 - cover) * backdrop(stream, width, height)), np.float32)


def _box(stream: RandomStream, size: float) -> Points:
    wide, tall, turn = size * stream.between(0.4, 1.2), size * stream.between(0.4, 1.6), stream.around(0.0, 0.3)
    corners = np.array([(-wide, -tall), (wide, -tall), (wide, tall), (-wide, tall)])
    cosine, sine = math.cos(turn), math.sin(turn)
    return np.asarray(corners @ np.array([[cosine, sine], [-sine, cosine]]))


_THINGS: tuple[Callable[[RandomStream, float], Points], ...] = (
    _box,
    lambda stream, size: disc(0.0, 0.0, size * stream.between(0.5, 0.9), size * stream.between(0.5, 1.0), 40),  # a ball
    lambda stream, size: closed_curve((stream.units(6, 2) - 0.5) * 2.2 * size, 8),  # a leaf
    lambda stream, size: _box(stream, size) * (0.2, 3.0),  # a pole
)
