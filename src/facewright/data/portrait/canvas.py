"""Paper and pen: filled shapes, drawn large and reduced, so that edges are smooth at any size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from .identity import Colour

Points = NDArray[np.float64]  # (n, 2) x, y


@cache
def _weights(steps: int) -> NDArray[np.float64]:
    """(steps, 4) weights of the four points around a piece of a Catmull-Rom curve."""
    t = np.arange(steps) / steps
    return 0.5 * np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], axis=1)


def closed_curve(points: ArrayLike, steps: int = 6) -> Points:
    """A smooth closed curve through (n, 2) points: (n · steps, 2)."""
    p = np.asarray(points, np.float64)
    around = np.stack([np.roll(p, 1, axis=0), p, np.roll(p, -1, axis=0), np.roll(p, -2, axis=0)])
    return np.asarray(np.einsum("sk,knd->nsd", _weights(steps), around).reshape(-1, 2))


def open_curve(points: ArrayLike, steps: int = 6) -> Points:
    """A smooth curve from the first of (n, 2) points to the last: ((n − 1) · steps + 1, 2)."""
    p = np.asarray(points, np.float64)
    q = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    pieces = np.einsum("sk,knd->nsd", _weights(steps), np.stack([q[:-3], q[1:-2], q[2:-1], q[3:]]))
    return np.concatenate([pieces.reshape(-1, 2), p[-1:]])


def ribbon(path: Points, widths: ArrayLike) -> Points:
    """The outline of a stroke along (n, 2) points whose width at each is given: (2 · n, 2)."""
    ends = np.concatenate([path[:1], path, path[-1:]])
    along = ends[2:] - ends[:-2]
    across = along[:, ::-1] * (-1.0, 1.0)
    length = np.maximum(np.hypot(across[:, 0], across[:, 1]), 1e-9)
    half = across * (np.asarray(widths, np.float64) * 0.5 / length)[:, None]
    return np.concatenate([path + half, (path - half)[::-1]])


@cache
def _circle(corners: int) -> Points:
    turn = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def disc(x: float, y: float, across: float, down: float, corners: int = 28) -> Points:
    """An ellipse with these half axes: (corners, 2)."""
    return np.asarray(_circle(corners) * (across, down) + (x, y))


class Canvas:
    """Black paper of side × side pixels, and the mask of what has been drawn on it."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.image = Image.new("RGB", (side, side))
        self.mask = Image.new("L", (side, side))
        self._ink = ImageDraw.Draw(self.image, "RGBA")
        self._cover = ImageDraw.Draw(self.mask)

    def fill(self, shape: Points, colour: Sequence[float] | Colour, opacity: float = 1.0) -> None:
        """Fill an (n, 2) outline in pixels with a colour in [0, 255].

        What is not opaque (opacity below 1) tints what is there and adds nothing to the mask.
        """
        corners = shape.ravel().tolist()
        red, green, blue = colour
        if opacity >= 1.0:
            self._cover.polygon(corners, fill=255)
        self._ink.polygon(corners, fill=(int(red), int(green), int(blue), int(255 * opacity)))

    def reduced(self, times: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The drawing on black, (side / times, side / times, 3) in [0, 255], and the mask, (…) in [0, 1]."""
        # Tints that reach over the edge of what they tint are cut off there.
        drawn = Image.new("RGB", self.image.size)
        drawn.paste(self.image, mask=self.mask)
        cover = np.asarray(self.mask.reduce(times)).astype(np.float32) * np.float32(1 / 255)
        return np.asarray(drawn.reduce(times)).astype(np.float32), cover
