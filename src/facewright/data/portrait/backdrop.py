"""Backgrounds of the portraits: gradients, blurred lights, stripes, walls and grain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .stream import RandomStream

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
