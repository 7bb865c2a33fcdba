"""Soft light on a synthetic face: a small map of factors, enlarged and multiplied in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .head import HeadPose

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
