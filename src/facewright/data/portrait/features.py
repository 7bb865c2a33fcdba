"""Eyes, brows, nose, mouth, ears and skin marks, each a handful of filled shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .head import Canvas, HeadPose, Points, closed_curve, disc, open_curve, ribbon
from .identity import Colour, RandomStream

_DARK = Colour(38, 24, 24)
_WHITE = Colour(250, 247, 243)
_BLUSH = Colour(214, 70, 66)
_LIP = Colour(196, 74, 84)
_GLINT = Colour(255, 255, 255)
_THROAT = Colour(74, 22, 28)
_TEETH = Colour(246, 242, 234)
_ACROSS = np.linspace(-1.0, 1.0, 15)
_ARC = 1.0 - np.abs(_ACROSS) ** 2.2  # the height of a lid along the eye
_LASHES = 0.012 + 0.016 * _ARC**0.5


class Shape(NamedTuple):
    """A filled shape: its (n, 2) outline in half heights of the face, its colour and how opaque it is."""

    points: Points
    colour: Colour
    opacity: float = 1.0


def _fill_all(canvas: Canvas, head: HeadPose, shapes: Sequence[Shape], lift: float = 0.0) -> None:
    """Fill shapes on the face, the first undermost; turned together, which is many times faster than one by one."""
    pixels = head.face(np.concatenate([shape.points for shape in shapes]), lift)
    start = 0
    for shape in shapes:
        end = start + len(shape.points)
        canvas.fill(pixels[start:end], shape.colour, shape.opacity)
        start = end


def draw_eye(canvas: Canvas, head: HeadPose, side: float) -> None:
    """One eye, left (side −1) or right (+1) in the image: white, iris, lashes, lid."""
    who, now = head.identity, head.moment
    lid = (1.0 - now.blink) * (1.0 + 0.18 * now.brow_raise) * (1.0 - 0.18 * max(0.0, now.smile))
    x, opening = who.eye_width * _ACROSS, who.eye_width * who.eye_openness * lid
    upper, lower = -1.12 * opening * _ARC, 0.72 * opening * _ARC + 0.01

    def band(over: Points, under: Points, stretch: float = 1.0) -> Points:
        return np.stack([np.concatenate([x, x[::-1]]) * stretch, np.concatenate([over, under[::-1]])], axis=1)

    shapes = [Shape(band(upper - 0.06 * _ARC, lower + 0.045 * _ARC, 1.25), who.skin.times(0.8), 0.3)]
    if now.blink < 0.9:
        shapes.append(Shape(band(upper, lower), _WHITE.mix(who.skin, 0.1)))
        shapes += _iris(head, opening, x, upper, lower)
        shapes.append(Shape(band(upper, upper + 0.3 * opening * _ARC), _DARK, 0.22))
    shapes.append(Shape(band(upper - _LASHES, upper + 0.006, 1.05), _DARK.mix(who.skin, 0.12)))
    shapes.append(Shape(band(lower, lower + 0.012), who.skin.times(0.55), 0.55))
    crease = upper - 0.055 * (0.6 + _ARC)
    shapes.append(Shape(band(crease, crease + 0.014), who.skin.times(0.62), 0.5))
    tilt = np.array([[1.0, -side * who.eye_tilt], [0.0, 1.0]])
    middle = np.array([side * who.eye_spacing, who.eye_height])
    _fill_all(canvas, head, [shape._replace(points=shape.points @ tilt + middle) for shape in shapes])


def _iris(head: HeadPose, opening: float, x: Points, upper: Points, lower: Points) -> list[Shape]:
    """Ring, iris, pupil and glint, cut to the opening between the lids (heights at x)."""
    who, now = head.identity, head.moment
    shift = 0.3 * who.eye_width * now.gaze
    shapes = []
    for radius, colour in ((0.088, who.eye_colour.times(0.6)), (0.074, who.eye_colour), (0.036, _DARK)):
        round_ = disc(shift, -0.12 * opening, radius, radius, 20)
        round_[:, 0] = np.minimum(np.maximum(round_[:, 0], x[0]), x[-1])
        high, low = np.interp(round_[:, 0], x, upper), np.interp(round_[:, 0], x, lower)
        round_[:, 1] = np.minimum(np.maximum(round_[:, 1], high), low)
        shapes.append(Shape(round_, colour))
    if opening > 0.04:
        toward = 0.03 if now.light_x > 0 else -0.03
        shapes.append(Shape(disc(shift + toward, -0.3 * opening - 0.012, 0.019, 0.019, 12), _GLINT, 0.95))
    return shapes


def draw_brow(canvas: Canvas, head: HeadPose, side: float) -> None:
    """One eyebrow: a tapered stroke in the colour of the hair."""
    who, now = head.identity, head.moment
    t = np.linspace(0.0, 1.0, 11)
    x = who.eye_spacing + who.eye_width * (-1.05 + 2.45 * t)
    height = who.brow_arch * np.sin(np.pi * np.clip(t * 0.92, 0, 1)) + who.brow_tilt * (t - 0.5) * 0.35
    y = who.eye_height - who.brow_gap - 0.05 * now.brow_raise - height
    thickness = who.brow_thickness * np.interp(t, [0.0, 0.12, 0.5, 1.0], [0.55, 1.0, 0.95, 0.15])
    shape = ribbon(np.stack([side * x, y], axis=1), thickness)
    canvas.fill(head.face(shape), who.hair.times(0.72).mix(_DARK, 0.25), 0.92)


def draw_nose(canvas: Canvas, head: HeadPose) -> None:
    """Bridge, tip, wings and nostrils; the tip stands out, so it moves most when the head turns."""
    who, now = head.identity, head.moment
    top, bottom, wide = who.eye_height + 0.02, who.eye_height + who.nose_length, who.nose_width
    shade, side = who.skin.times(0.7), -1.0 if now.light_x > 0 else 1.0
    bridge = [
        (0.25 * who.nose_bridge, top),
        (who.nose_bridge, 0.5 * (top + bottom)),
        (0.85 * wide, bottom - 0.06),
        (0.3 * wide, bottom),
    ]
    flank = open_curve([(side * x, y) for x, y in bridge])
    shape = np.concatenate([flank, [(side * 0.1 * who.nose_bridge, top)]])
    lift = 0.04 + 0.16 * np.clip((shape[:, 1] - top) / (bottom - top), 0, 1) * (1 - np.abs(shape[:, 0]) / 0.3)
    canvas.fill(head.face(shape, lift), shade, 0.28)
    wing = [(0.42, 0.02), (0.72, 0.012), (0.97, -0.025), (0.99, -0.065), (0.86, -0.1)]
    base = open_curve(
        [
            *((-x * wide, bottom + y) for x, y in wing[::-1]),
            (0.0, bottom + 0.04),
            *((x * wide, bottom + y) for x, y in wing),
        ],
        4,
    )
    out = 0.17 - 0.12 * np.abs(base[:, 0]) / wide
    thickness = 0.02 * np.sin(np.linspace(0.1, np.pi - 0.1, len(base))) ** 0.6
    canvas.fill(head.place(ribbon(head.flat(base, out), thickness)), who.skin.times(0.52), 0.62)
    for one in (-1.0, 1.0):
        hole = disc(one * 0.45 * wide, bottom - 0.006, 0.22 * wide, 0.017 + 0.03 * max(0.0, -now.pitch), 14)
        canvas.fill(head.face(hole, 0.12), who.skin.times(0.36), 0.72)


def draw_mouth(canvas: Canvas, head: HeadPose) -> None:
    """Lips and what is between them: a line, teeth, or dark."""
    who, now = head.identity, head.moment
    smile, middle = now.smile, who.mouth_height
    half = who.mouth_width * (1.0 + 0.22 * max(0.0, smile))
    gap = 0.1 * now.parted + 0.03 * max(0.0, smile - 0.6)
    corner, sag = middle - 0.085 * smile, middle + 0.028 * smile
    up, low = who.upper_lip * (1 - 0.2 * max(0.0, smile)), who.lower_lip * (1 - 0.15 * max(0.0, smile))

    def row(heights: list[tuple[float, float]]) -> Points:
        right = [(x * half, y) for x, y in heights]
        return open_curve([(-x, y) for x, y in right[::-1]] + right[1:], 4)

    bend = 0.35 * (corner - sag)
    upper_edge = row(
        [
            (0.0, sag - gap * 0.35 - up * 0.8),
            (0.2, sag - gap * 0.35 - up * 1.15),
            (0.6, sag + bend - up * 0.75 - 0.2 * gap),
            (1.0, corner),
        ]
    )
    upper_seam = row([(0.0, sag - gap * 0.35), (0.5, sag + bend - gap * 0.25), (1.0, corner)])
    lower_seam = row([(0.0, sag + gap), (0.5, sag + bend + gap * 0.7), (1.0, corner)])
    lower_edge = row([(0.0, sag + gap + low), (0.45, sag + bend * 0.8 + gap * 0.8 + low * 0.9), (1.0, corner)])
    red = who.skin.times(0.86).mix(_LIP, 0.4 + 0.4 * who.lip_red)
    shapes = [
        Shape(np.concatenate([upper_edge, lower_edge[::-1]]), red),
        Shape(np.concatenate([upper_edge, upper_seam[::-1]]), _DARK, 0.16),
    ]
    seam = 0.5 * (upper_seam + lower_seam)
    if gap > 0.015:
        seam, inside = upper_seam, upper_seam[2:-2]
        shapes.append(Shape(np.concatenate([upper_seam, lower_seam[::-1]]), _THROAT))
        shapes.append(Shape(np.concatenate([inside, inside[::-1] + np.array([0.0, 0.5 * gap + 0.008])]), _TEETH))
    shapes.append(Shape(ribbon(seam, 0.016), who.skin.times(0.34), 0.8))
    shapes.append(Shape(disc(0.0, sag + gap + 0.45 * low, 0.4 * half, 0.18 * low, 14), _GLINT, 0.26))
    _fill_all(canvas, head, shapes, 0.05)


def draw_smile_lines(canvas: Canvas, head: HeadPose) -> None:
    """The folds from nose to mouth that a smile deepens."""
    who, now = head.identity, head.moment
    if now.smile < 0.3:
        return
    top, wide = who.eye_height + who.nose_length - 0.02, who.mouth_width * 1.35
    for side in (-1.0, 1.0):
        fold = open_curve(
            [
                (side * (who.nose_width + 0.05), top),
                (side * (0.5 * wide + 0.16), 0.5 * (top + who.mouth_height)),
                (side * (wide + 0.04), who.mouth_height - 0.02),
            ]
        )
        canvas.fill(
            head.face(ribbon(fold, 0.02 * np.sin(np.linspace(0.1, 3.0, len(fold))))),
            who.skin.times(0.6),
            0.4 * now.smile,
        )


def draw_ear(canvas: Canvas, head: HeadPose, side: float) -> None:
    """One ear, an oval with a darker hollow, level with the nose."""
    who = head.identity
    middle = who.eye_height + 0.12
    root = head.around([side * 92.0], [middle])[0]
    tall, wide = who.ear_size, 0.5 * who.ear_size
    away = 2.6 * np.sin(max(0.0, side * head.moment.yaw))  # turned away, it goes behind the head
    x = root[0] + side * wide * (0.35 - away)
    shape = closed_curve(
        [
            (x - wide * side * 0.4, root[1] - 0.5 * tall),
            (x + wide * side * 0.35, root[1] - tall),
            (x + wide * side, root[1] - 0.55 * tall),
            (x + wide * side * 0.7, root[1] + 0.3 * tall),
            (x + side * wide * 0.1, root[1] + tall),
            (x - wide * side * 0.4, root[1] + 0.6 * tall),
        ]
    )
    canvas.fill(head.place(shape), who.skin.times(0.93))
    hollow = disc(x + 0.2 * side * wide, root[1] - 0.12 * tall, 0.5 * wide, 0.58 * tall, 18)
    canvas.fill(head.place(hollow), who.skin.times(0.68), 0.55)


def draw_skin(canvas: Canvas, head: HeadPose) -> None:
    """The face, its red cheeks, and freckles and mole: the same spots on each image of the person."""
    who = head.identity
    canvas.fill(head.place(head.outline()), who.skin)
    level = who.eye_height + 0.75 * who.nose_length
    x, red = 0.62 * who.cheek, who.skin.mix(_BLUSH, 0.4)
    cheeks = [disc(side * x, level, r, 0.8 * r, 20) for r in (0.1, 0.15, 0.2, 0.24) for side in (-1.0, 1.0)]
    _fill_all(canvas, head, [Shape(cheek, red, 0.05 + 0.1 * who.blush) for cheek in cheeks])
    stream = RandomStream(who.marks)
    if who.freckles:
        spread = stream.units(who.freckles, 2) + stream.units(who.freckles, 2) - 1.0
        spots = head.face(spread * (0.5, 0.2) + (0.0, who.eye_height + 0.25))
        for x, y in spots.tolist():
            canvas.fill(disc(x, y, 0.013 * head.unit, 0.013 * head.unit, 8), who.skin.times(0.62), 0.5)
    if who.mole is not None:
        canvas.fill(head.face(disc(*who.mole, 0.026, 0.026, 12)), who.skin.times(0.35), 0.9)
