"""Synthetic photos: one person, or a group before a cluttered background with the boxes of their faces."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from facewright.errors import UsageError

from . import features, wear
from .head import Canvas, HeadPose, Points, closed_curve, disc
from .identity import Attributes, Identity, Moment, RandomStream, attributes_of, identity_of, moment_of

FloatImage = NDArray[np.float32]  # (H, W, 3), sRGB in [0, 255]
_TRIES = 400
_GRID = 48


def draw_face(
    identity: Identity, seed: int, index: int, size: int, attributes: Attributes | None = None
) -> tuple[NDArray[np.uint8], Attributes]:
    """Image number `index` of a person, (size, size, 3) uint8 RGB, and what it shows.

    Args:
        seed: of the world. size: side in px; the same image at any size. attributes: in place of the seed's.
    >>> draw_face(identity_of(0, 3), seed=0, index=12, size=64)[0].shape
    (64, 64, 3)
    """
    shown = attributes_of(identity, seed, index) if attributes is None else attributes
    moment = moment_of(identity, seed, index, shown)
    surroundings = RandomStream(seed, 7, identity.number, index)
    person, cover = draw_person(identity, moment, shown, surroundings, size)
    image = person + (1.0 - cover[..., None]) * backdrop(surroundings, size, size) * np.array(moment.tint, np.float32)
    return photograph(image, moment, surroundings), shown


def draw_person(
    identity: Identity, moment: Moment, shown: Attributes, stream: RandomStream, size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A person, lit, on black, (size, size, 3) in [0, 255], and the covered share of each pixel, (size, size)."""
    times = max(2, -(-256 // size))  # drawn this many times larger, then reduced
    canvas = Canvas(size * times)
    head = HeadPose(identity, moment, canvas.side)
    wear.draw_clothes(canvas, head, stream)
    wear.draw_back_hair(canvas, head, shown.hat)
    wear.draw_neck(canvas, head, stream)
    ears = () if identity.hair_style in wear.COVERS_EARS else (-1.0, 1.0)
    for side in ears:
        features.draw_ear(canvas, head, side)
    _draw_features(canvas, head, shown.beard)
    wear.draw_front_hair(canvas, head, shown.hat)
    for side in ears:
        if side * moment.yaw < 0.1:  # the other one has turned away
            features.draw_ear(canvas, head, side)
    if shown.mask:
        wear.draw_mask(canvas, head, stream)
    if shown.glasses:
        wear.draw_glasses(canvas, head, stream)
    if shown.hat:
        wear.draw_hat(canvas, head, stream)
    drawn, cover = canvas.reduced(times)
    light = light_map(head, size)[..., None] * np.array(moment.tint, np.float32)
    return _held(drawn * light), cover


def _draw_features(canvas: Canvas, head: HeadPose, beard: bool) -> None:
    features.draw_skin(canvas, head)
    for side in (-1.0, 1.0):
        features.draw_eye(canvas, head, side)
        features.draw_brow(canvas, head, side)
    features.draw_nose(canvas, head)
    if beard:
        wear.draw_beard(canvas, head)
    features.draw_smile_lines(canvas, head)
    features.draw_mouth(canvas, head)


def _held(bright: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours that stay up to 170 and approach 255 above it, hue kept: no burnt-out cheeks."""
    peak = np.maximum(np.maximum(bright[..., 0], bright[..., 1]), bright[..., 2])
    above = np.maximum(peak - 170.0, 0.0)
    return np.asarray(bright * (1.0 - above * (above / (above + 85.0)) / np.maximum(peak, 1.0))[..., None])


def photograph(image: NDArray[np.float32], moment: Moment, stream: RandomStream) -> NDArray[np.uint8]:
    """Blur and noise of a camera: (H, W, 3) in [0, 255] or over → uint8."""
    if moment.blur > 0:
        sharp = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
        image = np.asarray(sharp.filter(ImageFilter.GaussianBlur(moment.blur * len(image)))).astype(np.float32)
    grain = stream.bell(image.size).reshape(image.shape) * np.float32(moment.noise)
    return np.clip(image + grain + 0.5, 0, 255).astype(np.uint8)


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


def backdrop(stream: RandomStream, width: int, height: int) -> FloatImage:
    """A background of one of five kinds: (height, width, 3) float32 in [0, 255]."""
    colours = 40.0 + 190.0 * stream.units(2, 3)
    grey = colours.mean(axis=1, keepdims=True)
    first, second = grey + stream.between(0.25, 0.8) * (colours - grey)
    kind = stream.pick(("gradient", "lights", "stripes", "wall", "cloth"))
    # Soft kinds are drawn on few points and enlarged; lengths are in shares of the longer side.
    longer = max(width, height)
    fine = kind in ("stripes", "wall")
    columns, rows = (width, height) if fine else (max(2, 48 * width // longer), max(2, 48 * height // longer))
    x = ((np.arange(columns) + 0.5) / columns * (width / longer)).astype(np.float32)[None, :]
    y = ((np.arange(rows) + 0.5) / rows * (height / longer)).astype(np.float32)[:, None]
    share = _SHARES[kind](stream, x, y, 1.0 / longer)[..., None].astype(np.float32)
    image = first.astype(np.float32) * (1 - share) + second.astype(np.float32) * share
    if kind == "lights":
        image = _with_lights(stream, image, x, y)
    if not fine:
        image = enlarged(image, width, height)
    return np.asarray(image, np.float32)


def enlarged(image: FloatImage, width: int, height: int) -> FloatImage:
    """(h, w, 3) → (height, width, 3), smoothly."""
    small = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)


def _gradient(stream: RandomStream, x: FloatImage, y: FloatImage, pixel: float) -> FloatImage:
    turn = stream.between(0.0, 6.28)
    return np.asarray(np.clip(0.5 + 0.8 * ((x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)), 0.0, 1.0))


def _cloth(stream: RandomStream, x: FloatImage, y: FloatImage, pixel: float) -> FloatImage:
    total = np.zeros((y.size, x.size), np.float32)
    for _ in range(5):
        across, down, phase = stream.around(0.0, 18.0), stream.around(0.0, 18.0), stream.between(0.0, 6.28)
        total += np.sin(across * x + down * y + phase)
    return 0.5 + 0.16 * total


def _stripes(stream: RandomStream, x: FloatImage, y: FloatImage, pixel: float) -> FloatImage:
    turn, count = stream.between(0.0, 3.14), stream.between(3.0, 11.0)
    place = (x * np.cos(turn) + y * np.sin(turn) + stream.unit()) * count
    distance = np.abs(place % 1.0 - 0.5) - 0.25
    return np.asarray(np.clip(0.5 + distance / (count * pixel), 0.0, 1.0) * stream.between(0.3, 0.8))


def _wall(stream: RandomStream, x: FloatImage, y: FloatImage, pixel: float) -> FloatImage:
    """A window or an image frame on a wall, and the edge of a floor or a shelf."""
    share = np.zeros((y.size, x.size), np.float32) + 0.08 * y
    for _ in range(3):
        left, top = stream.between(-0.2, 0.8), stream.between(-0.2, 0.8)
        right, bottom = left + stream.between(0.15, 0.5), top + stream.between(0.15, 0.5)
        inside = np.minimum(np.minimum(x - left, right - x), np.minimum(y - top, bottom - y))
        cover = np.clip(0.5 + inside / (2 * pixel), 0.0, 1.0)
        share = np.asarray(share * (1 - cover) + cover * stream.between(0.2, 1.0), np.float32)
    return share


def _with_lights(stream: RandomStream, image: FloatImage, x: FloatImage, y: FloatImage) -> FloatImage:
    for _ in range(7):
        cx, cy, radius = stream.unit(), stream.unit(), stream.between(0.06, 0.22)
        colour = (90.0 + 165.0 * stream.units(3)).astype(np.float32)
        distance = np.sqrt((x - cx) ** 2 + (y - cy) ** 2)
        cover = (stream.between(0.3, 0.8) * np.clip((radius - distance) / 0.04 + 0.5, 0.0, 1.0))[..., None]
        image = np.asarray(image * (1 - cover) + colour * cover, np.float32)
    return image


_SHARES = {"gradient": _gradient, "lights": _gradient, "stripes": _stripes, "wall": _wall, "cloth": _cloth}


def light_map(head: HeadPose, size: int) -> NDArray[np.float32]:
    """(size, size) factors by which the light changes the person's colours: 1 leaves them.

    The head is lit as an egg is (Lambert's cosine law plus an even ambient part); sockets, nostrils' shade, the
    hollow under the lip and the shade of chin on neck are soft spots.
    """
    now, who = head.moment, head.identity
    step = (np.arange(_GRID, dtype=np.float32) + np.float32(0.5)) / np.float32(_GRID)
    dx, dy = (step - now.x)[None, :] / now.half, (step - now.y)[:, None] / now.half
    cosine, sine = np.float32(np.cos(now.roll)), np.float32(np.sin(now.roll))
    x, y = dx * cosine + dy * sine, dy * cosine - dx * sine
    u, v = (x - 0.05 * now.yaw) / np.float32(1.02 * who.cheek), (y - 0.02) / np.float32(1.12)
    radius = np.sqrt(u * u + v * v)
    inside = np.minimum(radius, 0.98)
    scale = inside / np.maximum(radius, 1e-3)
    z = np.sqrt(1.0 - inside * inside)
    across, down = now.light_x, now.light_y
    front = np.sqrt(max(0.2, 1.35 - across * across - down * down))
    length = np.sqrt(across**2 + down**2 + front**2)
    cosine_law = np.maximum(0.0, (u * scale * across + v * scale * down + z * front) / length)
    flat = 0.62 + 0.12 * np.clip(x * across, -1.5, 1.5)
    weight = np.clip((1.5 - radius) / 0.5, 0.0, 1.0)
    shade = now.ambient + now.diffuse * (flat + (1.25 * cosine_law - flat) * weight)
    shade *= _soft_spots(head, x, y)
    image = Image.fromarray(shade.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _soft_spots(head: HeadPose, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    who, now = head.identity, head.moment
    eye, tip, mouth = who.eye_height, who.eye_height + who.nose_length, who.mouth_height
    gleam = 0.16 * now.diffuse
    spots = (  # x, y, across, down, strength, how far it stands out
        (-who.eye_spacing, eye - 0.06, 0.2, 0.12, -0.16, 0.0),
        (who.eye_spacing, eye - 0.06, 0.2, 0.12, -0.16, 0.0),
        (0.0, tip + 0.08, 0.15, 0.06, -0.16, 0.08),
        (0.0, mouth + 0.2, 0.2, 0.06, -0.12, 0.03),
        (0.0, tip - 0.16, 0.06, 0.2, 0.12, 0.16),
        (-0.4, tip - 0.1, 0.16, 0.13, 0.08, 0.0),
        (0.4, tip - 0.1, 0.16, 0.13, 0.08, 0.0),
        (0.3 * now.light_x, -0.42, 0.26, 0.16, gleam, 0.0),
    )
    result = np.ones_like(x)
    for px, py, across, down, strength, lift in spots:
        ((cx, cy),) = head.flat([(px, py)], lift)
        result += np.float32(strength) * np.exp(-(((x - cx) / across) ** 2) - ((y - cy) / down) ** 2)
    return result
