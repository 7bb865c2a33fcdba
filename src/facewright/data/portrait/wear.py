"""Clothes, glasses, hats and masks, sampled for each image."""

from __future__ import annotations

import numpy as np

from .hair import COVERS_EARS
from .head import Canvas, HeadPose, Points, closed_curve, disc, open_curve, ribbon
from .identity import Colour, RandomStream, palette

_CLOTH = palette(
    *("2f3e55", "b34a48", "4f7a5c", "d9a441", "e8e4da", "3a3a40", "7a5a86", "5a8fb0", "c98a9a", "8a6a4e", "1f5f66")
)
_FRAMES = palette("1c1c20", "4a2f22", "6b6f78", "8a2f35", "2b4370", "b08a4a")
_LENSES = {"round": (0.215, 0.205), "square": (0.235, 0.17), "oval": (0.235, 0.155), "shades": (0.25, 0.19)}
_KINDS = ("round", "square", "oval", "round", "square", "shades")  # one in six is dark
_FEET = 40.0  # below the lower edge of any image
_GLASS = Colour(235, 245, 250)
_MASKS = palette("a9cfe4", "f1f1ee", "2b2d33", "e6b9c4", "9cc5a8")


def draw_clothes(canvas: Canvas, head: HeadPose, stream: RandomStream) -> None:
    """Shoulders in a garment; the neck is drawn over it afterwards."""
    colour = stream.pick(_CLOTH).mix(stream.pick(_CLOTH), stream.between(0.0, 0.3))
    wide = stream.between(1.15, 1.4)
    drop = stream.between(1.42, 1.56)
    right = [
        (0.42, 1.28),
        (0.75, drop - 0.04),
        (wide, drop + 0.16),
        (wide + 0.16, 2.1),
        (wide + 0.2, 4.5),
    ]
    hem = [(wide + 0.2, _FEET), (-wide - 0.2, _FEET)]
    shape = np.concatenate([open_curve(right), hem, open_curve([(-x, y) for x, y in right[::-1]])])
    canvas.fill(head.body(shape), colour)
    pattern, other = stream.pick(("plain", "plain", "stripes", "open")), stream.pick(_CLOTH)
    if pattern == "stripes":
        for y in np.arange(1.75, 3.0, 0.22):
            edge = wide + 0.05 + 0.02 * y
            canvas.fill(head.body([(-edge, y), (edge, y), (edge, y + 0.09), (-edge, y + 0.09)]), other)
    if pattern == "open":
        canvas.fill(
            head.body([(-0.42, 1.25), (0.42, 1.25), (0.12, 2.6), (0.1, _FEET), (-0.1, _FEET), (-0.12, 2.6)]),
            other.mix(Colour(255, 255, 255), 0.5),
        )
    for side in (-1.0, 1.0):
        fold = open_curve([(side * (wide - 0.28), 1.95), (side * (wide - 0.3), 2.4), (side * (wide - 0.2), 3.4)])
        canvas.fill(head.body(ribbon(fold, 0.03)), colour.times(0.6), 0.5)


def draw_neck(canvas: Canvas, head: HeadPose, stream: RandomStream) -> None:
    """The neck, the chin's shade on it, and the collar."""
    who = head.identity
    half, depth = 0.68 * who.jaw + 0.02, stream.between(1.5, 1.85)
    turn = 0.1 * np.sin(head.moment.yaw)
    neck = [
        (-half + turn, 0.4),
        (-half + 0.02, 1.1),
        (-half - 0.12, 1.36),
        (0.0, depth),
        (half + 0.12, 1.36),
        (half - 0.02, 1.1),
        (half + turn, 0.4),
    ]
    skin = who.skin.times(0.88)
    scoop = open_curve(
        [
            (-half - 0.13, 1.33),
            (-0.6 * half, 1.33 + 0.72 * (depth - 1.33)),
            (0.0, depth),
            (0.6 * half, 1.33 + 0.72 * (depth - 1.33)),
            (half + 0.13, 1.33),
        ]
    )
    outline = np.concatenate([neck[:2], scoop, neck[-2:]])
    canvas.fill(head.body(outline), skin)
    across = np.linspace(-1.0, 1.0, 15)
    shade = np.stack([across * half + turn * (1 - np.abs(across)), 1.17 - 0.12 * across**2], axis=1)
    canvas.fill(head.body(np.concatenate([[neck[0]], shade, [neck[-1]]])), who.skin.times(0.5), 0.42)
    canvas.fill(head.body(ribbon(scoop, 0.085)), stream.pick(_CLOTH).times(0.9))


def draw_glasses(canvas: Canvas, head: HeadPose, stream: RandomStream) -> None:
    """Two lenses on a frame, standing off the face; now and then dark ones."""
    who = head.identity
    kind, frame = stream.pick(_KINDS), stream.pick(_FRAMES)
    thick = stream.between(0.026, 0.055)
    middle, apart = who.eye_height + 0.02, max(who.eye_spacing, 0.3)
    wide, tall = _LENSES[kind]
    wide = min(wide, apart - 0.045)
    power = 0.45 if kind in ("square", "shades") else 1.0
    turn = np.linspace(0.0, 2 * np.pi, 37)
    lens_x = wide * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
    lens_y = tall * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
    for side in (-1.0, 1.0):
        outer = np.array([(side * (apart + wide), middle - 0.04)])
        ear = head.around([side * (64.0 if who.hair_style in COVERS_EARS else 96.0)], [middle - 0.03], 0.03)
        arm = np.concatenate([head.flat(outer, 0.1), ear])
        if side * head.moment.yaw < 0.12:
            canvas.fill(head.place(ribbon(arm, thick * 0.9)), frame.times(0.85))
        rim = np.stack([lens_x + side * apart, lens_y + middle], axis=1)
        glass = head.face(rim, 0.12)
        dark = kind == "shades"
        canvas.fill(glass, frame.times(0.45) if dark else _GLASS, 0.94 if dark else 0.14)
        glare = [
            (side * apart + dx * wide, middle + dy * tall)
            for dx, dy in ((-0.55, 0.1), (-0.05, -0.75), (0.2, -0.75), (-0.3, 0.25))
        ]
        canvas.fill(head.face(glare, 0.12), (255, 255, 255), 0.24)
        canvas.fill(head.place(_loop(head.flat(rim[:-1], 0.12), thick)), frame)
    bridge = open_curve([(-(apart - wide), middle - 0.03), (0.0, middle - 0.07), (apart - wide, middle - 0.03)])
    canvas.fill(head.place(ribbon(head.flat(bridge, 0.14), thick)), frame)


def _loop(path: Points, width: float) -> Points:
    """The outline of a stroke along a closed path: out along one edge, back along the other."""
    closed = np.concatenate([path[-1:], path, path[:2]])
    stroke = ribbon(closed, width)
    half = len(closed)
    return np.concatenate([stroke[1 : half - 1], stroke[half + 1 : -1]])


def draw_mask(canvas: Canvas, head: HeadPose, stream: RandomStream) -> None:
    """A cloth mask from the bridge of the nose to below the chin, with its straps."""
    who, colour = head.identity, stream.pick(_MASKS)
    top, nose = who.eye_height + 0.2, who.eye_height + 0.14
    for side in (-1.0, 1.0):
        for y, ear_y in ((top + 0.12, who.eye_height - 0.02), (0.72, who.eye_height + 0.3)):
            strap = np.concatenate([head.around([side * 62.0], [y], 0.03), head.around([side * 94.0], [ear_y], 0.02)])
            canvas.fill(head.place(ribbon(strap, 0.025)), colour.times(0.9))
    degrees = np.array([-66, -45, -20, 0, 20, 45, 66.0])
    upper = head.around(
        degrees,
        [top + 0.12, top + 0.04, nose + 0.04, nose, nose + 0.04, top + 0.04, top + 0.12],
        [0.02, 0.04, 0.1, 0.16, 0.1, 0.04, 0.02],
    )
    heights = np.array([0.55, 0.75, 0.93])
    right = np.concatenate([head.around([64.0], [0.42], 0.03), head.silhouette(heights, 1.0, 0.02)])
    left = np.concatenate([head.around([-64.0], [0.42], 0.03), head.silhouette(heights, -1.0, 0.02)])
    chin = head.silhouette([1.0], 1.0) + np.array([0.0, 0.05])
    shape = closed_curve(np.concatenate([upper, right, chin, left[::-1]]), 5)
    canvas.fill(head.place(shape), colour)
    for y in (0.42, 0.56, 0.7):
        fold = head.around(degrees[1:-1], y - 0.04 * np.cos(np.radians(degrees[1:-1] * 1.6)), 0.06)
        canvas.fill(head.place(ribbon(open_curve(fold), 0.016)), colour.times(0.7), 0.5)


def draw_hat(canvas: Canvas, head: HeadPose, stream: RandomStream) -> None:
    """A beanie, a cap with a visor, or a hat with a brim."""
    kind, colour, band = stream.pick(("beanie", "cap", "brim")), stream.pick(_CLOTH), stream.pick(_CLOTH)
    degrees = np.linspace(-90.0, 90.0, 13)
    level = -0.5 + 0.06 * np.abs(degrees) / 90
    rim = head.around(degrees, level, 0.07)
    dome = _dome(head, {"beanie": 0.2, "cap": 0.14, "brim": 0.3}[kind], 0.07 if kind == "brim" else 0.0)
    if kind == "beanie" and stream.chance(0.5):
        top = dome[len(dome) // 2]
        canvas.fill(head.place(disc(top[0], top[1] - 0.08, 0.17, 0.15)), band)
    canvas.fill(head.place(np.concatenate([rim, dome])), colour)
    if kind in ("beanie", "brim"):
        strip = head.around(degrees, level - 0.16, 0.1)
        canvas.fill(head.place(np.concatenate([rim, strip[::-1]])), band if kind == "brim" else colour.times(0.78))
    if kind == "cap":
        visor = np.concatenate([rim[2:-2], head.around(degrees[2:-2], -0.34, 0.42)[::-1]])
        canvas.fill(head.place(closed_curve(visor, 3)), colour.times(0.7))
    if kind == "brim":
        x, y = rim[6]
        wide, flat = 1.22 * head.identity.cheek + 0.32, 0.16 + 0.25 * abs(head.moment.pitch)
        canvas.fill(head.place(disc(0.55 * x, y - 0.02, wide, flat, 36)), colour.times(0.82))


def _dome(head: HeadPose, rise: float, grow: float) -> Points:
    """The upper edge of a hat, flat: from its right over the top to its left."""
    rows = np.array([-0.5, -0.62, -0.74, -0.85, -0.94, -0.99])
    out = np.array([0.1, 0.11, 0.12, 0.12, 0.09, 0.03]) + grow * np.array([1.0, 1.0, 1.0, 1.0, 0.9, 0.6])
    up = np.stack([np.zeros(6), -rise * np.array([0.0, 0.3, 0.55, 0.8, 0.95, 1.05])], axis=1)
    right, left = head.silhouette(rows, 1.0, out, 0.1) + up, head.silhouette(rows, -1.0, out, 0.1) + up
    return open_curve(np.concatenate([right, left[::-1]]), 4)
