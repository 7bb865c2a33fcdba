"""Pen and head: filled shapes, smooth at any size; points on the face → pixels, under yaw, pitch and roll.

Each level of the head is taken as a circle as wide as the face there, the lower ones moved forward towards the chin.
Turning the head moves a point along its circle, so that features near the edge narrow and vanish, and what stands
out (nose, glasses, visor) moves further than what lies flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from .identity import Colour, Identity, Moment

_FAR = 1.5  # radians: what has turned further than this lies on the silhouette
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
        """Fill an (n, 2) outline in pixels; what is not opaque tints what is there and adds nothing to the mask."""
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


class HeadPose:
    """A posed head on an image of side × side pixels."""

    def __init__(self, identity: Identity, moment: Moment, side: int) -> None:
        self.identity = identity
        self.moment = moment
        self.unit = moment.half * side  # pixels in half a face
        self._origin = np.array([moment.x * side, moment.y * side])
        self._sin_yaw, self._cos_yaw = math.sin(moment.yaw), math.cos(moment.yaw)
        self._sin_pitch, self._cos_pitch = math.sin(moment.pitch), math.cos(moment.pitch)
        cosine, sine = math.cos(moment.roll), math.sin(moment.roll)
        self._roll = np.array([[cosine, sine], [-sine, cosine]])
        right = _right_side(identity)
        self._levels, self._widths = right[:, 1], right[:, 0]

    def width(self, y: NDArray[np.float64]) -> NDArray[np.float64]:
        """Half the width of the face at these heights."""
        return np.asarray(np.interp(y, self._levels, self._widths), np.float64)

    def place(self, flat: Points) -> Points:
        """(n, 2) points of the turned head, still upright, in half heights → pixels."""
        return np.asarray(flat @ self._roll * self.unit + self._origin)

    def flat(self, points: ArrayLike, lift: ArrayLike = 0.0) -> Points:
        """(n, 2) points on the face, from the front, standing out by `lift` → where they lie once it has turned."""
        p: Points = np.asarray(points, np.float64)
        x, y = p[:, 0], p[:, 1]
        share = x / np.maximum(np.interp(y, self._levels, self._widths), 0.05)
        return self._turn(np.arcsin(np.minimum(np.maximum(share, -1.0), 1.0)), y, lift)

    def face(self, points: ArrayLike, lift: ArrayLike = 0.0) -> Points:
        """(n, 2) points on the face, seen from the front, → pixels."""
        return self.place(self.flat(points, lift))

    def around(self, degrees: ArrayLike, y: ArrayLike, lift: ArrayLike = 0.0) -> Points:
        """Points at an angle around the head (0 the nose, ±90 the ears, beyond: behind them) and a height → flat."""
        return self._turn(np.radians(np.asarray(degrees, np.float64)), np.asarray(y, np.float64), lift)

    def _turn(self, angle: NDArray[np.float64], y: NDArray[np.float64], lift: ArrayLike) -> Points:
        turned = np.minimum(np.maximum(angle + self.moment.yaw, -_FAR), _FAR)
        forward, width = _forward(y), np.interp(y, self._levels, self._widths)
        out = np.asarray(lift, np.float64)
        flat = np.empty((len(turned), 2))
        sideways, front = np.sin(angle), np.cos(angle)
        flat[:, 0] = (width + np.abs(sideways) * out) * np.sin(turned) + (forward + out * front) * self._sin_yaw
        flat[:, 1] = self._nod(y, width * np.cos(turned) + (forward + out) * self._cos_yaw)
        return flat

    def _nod(self, y: NDArray[np.float64], z: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(y * self._cos_pitch + (z - 0.3) * self._sin_pitch)

    def silhouette(self, y: ArrayLike, side: float, grow: ArrayLike = 0.0, back: float = 0.0) -> Points:
        """The edge of the head at heights, left (side −1) or right (+1), grown, `back` behind the ears, → flat."""
        level = np.asarray(y, np.float64)
        x = side * (self.width(level) + np.asarray(grow)) + (_forward(level) - back) * self._sin_yaw
        return np.stack([x, self._nod(level, _forward(level) * self._cos_yaw - back)], axis=1)

    def outline(self, grow: float = 0.0) -> Points:
        """The whole edge of the face, flat."""
        y = self._levels[::3]
        right, left = (self.silhouette(y, side, grow) for side in (1.0, -1.0))
        right[:, 1] += y * (1.0 + grow) - y
        left[:, 1] += y * (1.0 + grow) - y
        return np.concatenate([right, left[::-1]])

    def body(self, points: ArrayLike) -> Points:
        """(n, 2) points of neck and shoulders, which follow the head's turning a little, → pixels."""
        p = np.asarray(points, np.float64) + np.array([0.0, 0.3 * self._sin_pitch])
        lean = 0.35 * self.moment.roll
        cosine, sine = math.cos(lean), math.sin(lean)
        return np.asarray(p @ np.array([[cosine, sine], [-sine, cosine]]) * self.unit + self._origin)


def _forward(y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distance of the head's middle in front of the ears, at these heights: the chin well in front."""
    below = np.minimum(np.maximum(y - 0.05, 0.0), 0.95)
    return np.asarray(below * (0.12 + 0.21 * below))


def _right_side(i: Identity) -> Points:
    """(n, 2) the right edge of the face from crown to chin, heights rising."""
    right = np.array(
        [
            (0.4 * i.forehead, -0.945),
            (0.8 * i.forehead, -0.71),
            (i.forehead, -0.34),
            (i.cheek, 0.03),
            (0.5 * (i.cheek + i.jaw) + 0.02, 0.5 * (0.03 + i.jaw_height)),
            (i.jaw, i.jaw_height),
            (0.5 * (i.jaw + i.chin) + 0.035, 0.5 * (i.jaw_height + 0.95)),
            (i.chin, 0.95),
        ]
    )
    left = right[::-1] * [-1.0, 1.0]
    half = closed_curve(np.concatenate([[(0.0, -1.0)], right, [(0.0, 1.0)], left]), steps=6)[: 9 * 6 + 1]
    return np.stack([np.maximum(half[:, 0], 0.0), np.maximum.accumulate(half[:, 1])], axis=1)
