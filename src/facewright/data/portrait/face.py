"""One synthetic face: everything in its order, lit, before a background, and photographed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from . import features, hair, wear
from .head import Canvas, HeadPose
from .identity import Attributes, Identity, Moment, RandomStream, attributes_of, moment_of

FloatImage = NDArray[np.float32]  # (H, W, 3), sRGB in [0, 255]


def backdrop(stream: RandomStream, width: int, height: int) -> FloatImage:
    """A background of one of five kinds: (height, width, 3) float32 in [0, 255]."""
    colours = 40.0 + 190.0 * stream.units(2, 3)
    first, second = colours.mean(axis=1, keepdims=True) + stream.between(0.25, 0.8) * (
        colours - colours.mean(axis=1, keepdims=True)
    )
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


_GRID = 48


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


def draw_face(
    identity: Identity, seed: int, index: int, size: int, attributes: Attributes | None = None
) -> tuple[NDArray[np.uint8], Attributes]:
    """Image number `index` of a person, (size, size, 3) uint8 RGB, and what it shows.

    Args:
        seed: of the world. size: side in px; the same image at any size. attributes: in place of the seed's.
    >>> from facewright.data.portrait.identity import identity_of
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
    """A person, lit, on black.

    Returns:
        (size, size, 3) in [0, 255], and how much of each pixel the person covers, (size, size) in [0, 1].
    """
    times = max(2, -(-256 // size))  # drawn this many times larger, then reduced
    canvas = Canvas(size * times)
    head = HeadPose(identity, moment, canvas.side)
    wear.draw_clothes(canvas, head, stream)
    hair.draw_back_hair(canvas, head, shown.hat)
    wear.draw_neck(canvas, head, stream)
    ears = () if identity.hair_style in hair.COVERS_EARS else (-1.0, 1.0)
    for side in ears:
        features.draw_ear(canvas, head, side)
    _draw_features(canvas, head, shown.beard)
    hair.draw_front_hair(canvas, head, shown.hat)
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
        hair.draw_beard(canvas, head)
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
