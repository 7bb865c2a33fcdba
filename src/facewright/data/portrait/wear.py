"""Hair and beard of a person; clothes, glasses, hats and masks, sampled for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .head import Canvas, HeadPose, Points, closed_curve, disc, open_curve, ribbon
from .identity import Colour, HairStyle, RandomStream, palette

_LIGHT = Colour(255, 244, 224)
_TAPER = np.array([[0.004, 0.0], [0.012, 0.0], [0.004, 0.0]])
_ROWS = np.array([0.34, 0.2, 0.05, -0.1, -0.25, -0.4, -0.55, -0.7, -0.82, -0.91, -0.97, -1.0])  # heights of the edge
_CLOTH = palette(
    *("2f3e55", "b34a48", "4f7a5c", "d9a441", "e8e4da", "3a3a40", "7a5a86", "5a8fb0", "c98a9a", "8a6a4e", "1f5f66")
)
_FRAMES = palette("1c1c20", "4a2f22", "6b6f78", "8a2f35", "2b4370", "b08a4a")
_LENSES = {"round": (0.215, 0.205), "square": (0.235, 0.17), "oval": (0.235, 0.155), "shades": (0.25, 0.19)}
_KINDS = ("round", "square", "oval", "round", "square", "shades")  # one in six is dark
_FEET = 40.0  # below the lower edge of any image
_GLASS = Colour(235, 245, 250)
_MASKS = palette("a9cfe4", "f1f1ee", "2b2d33", "e6b9c4", "9cc5a8")


@dataclass(frozen=True)
class _Cut:
    """A hair cut."""

    sides: tuple[float, float]  # how far it stands off the head, without and with the person's full volume
    top: tuple[float, float]
    line: tuple[tuple[float, float], ...]  # where it meets the face: degrees from the forehead on, height
    curls: int = 0  # bumps of its edge
    back: tuple[tuple[float, float], ...] = ()  # what hangs behind: share of the cheek's width, height


COVERS_EARS: frozenset[HairStyle] = frozenset(("bob", "long", "curly", "afro"))
_BEHIND_EAR = ((98.0, 0.02), (112.0, 0.34))
_SHORT_SIDES = ((66.0, -0.3), (80.0, 0.04), *_BEHIND_EAR)
_LONGER_SIDES = ((62.0, -0.2), (80.0, 0.07), *_BEHIND_EAR)
_OVER_EARS = ((84.0, 0.15), (112.0, 0.35))
_CURTAIN = ((52.0, -0.22), (62.0, 0.12), (72.0, 0.5), (100.0, 0.62))
_CUTS: dict[HairStyle, _Cut] = {
    "cropped": _Cut((0.015, 0.04), (0.03, 0.08), ((0, -0.6), (28, -0.58), (50, -0.46), *_SHORT_SIDES)),
    "parted": _Cut((0.05, 0.1), (0.12, 0.2), ((0, -0.6), (26, -0.56), (50, -0.38), *_LONGER_SIDES)),
    "quiff": _Cut((0.01, 0.04), (0.24, 0.4), ((0, -0.66), (30, -0.62), (48, -0.5), *_SHORT_SIDES)),
    "receding": _Cut((0.02, 0.06), (0.02, 0.06), ((0, -0.76), (16, -0.78), (36, -0.86), (52, -0.6), *_SHORT_SIDES)),
    "fringe": _Cut((0.06, 0.12), (0.1, 0.18), ((0, -0.36), (22, -0.34), (44, -0.3), *_LONGER_SIDES)),
    "bun": _Cut((0.03, 0.05), (0.05, 0.09), ((0, -0.66), (28, -0.6), (52, -0.4), *_SHORT_SIDES)),
    "bob": _Cut((0.1, 0.2), (0.1, 0.18), ((0, -0.68), (24, -0.52), *_CURTAIN),
                back=((1.16, -0.3), (1.3, 0.3), (1.34, 0.7), (0.9, 0.86), (0.3, 0.8))),
    "long": _Cut((0.08, 0.16), (0.08, 0.16), ((0, -0.68), (24, -0.5), *_CURTAIN),
                 back=((1.14, -0.3), (1.26, 0.4), (1.36, 1.1), (1.3, 1.75), (0.7, 1.9), (0.3, 1.7))),
    "curly": _Cut((0.14, 0.24), (0.18, 0.3), ((0, -0.52), (26, -0.5), (50, -0.36), (66, -0.12), *_OVER_EARS),
                  curls=15, back=((1.2, -0.4), (1.36, 0.0), (1.3, 0.5), (0.8, 0.7), (0.3, 0.6))),
    "afro": _Cut((0.34, 0.46), (0.36, 0.5), ((0, -0.56), (28, -0.54), (50, -0.44), (66, -0.22), *_OVER_EARS),
                 curls=26, back=((1.5, -0.4), (1.5, 0.0), (1.2, 0.35), (0.5, 0.45))),
}  # fmt: skip


def _bumpy(shape: Points, bumps: int, height: float) -> Points:
    """A closed outline with round bumps, for curls."""
    middle = shape.mean(axis=0)
    fine = _resampled(np.concatenate([shape, shape[:1]]), 8 * bumps + 1)[:-1]
    phase = np.arange(8 * bumps) * (np.pi / 8)
    return np.asarray(middle + (fine - middle) * (1.0 + height * np.abs(np.sin(phase)))[:, None])


def draw_back_hair(canvas: Canvas, head: HeadPose, hat: bool) -> None:
    """Draw what lies behind neck and face: the back of the head, and hair that hangs down."""
    who = head.identity
    turn = -0.2 * np.sin(head.moment.yaw)
    skull = disc(turn, -0.28, 0.97 * who.cheek, 0.72, 32)
    colour = who.skin.times(0.92) if who.hair_style == "bald" else who.hair.times(0.78)
    canvas.fill(head.place(skull), colour)
    if who.hair_style == "bald":
        return
    cut = _CUTS[who.hair_style]
    if cut.back:
        top = -0.6 if hat else -0.95
        right = [((min(x, 1.3) if hat else x) * who.cheek, y) for x, y in cut.back]
        shape = closed_curve([(0.0, top), *right, *[(-x, y) for x, y in right[::-1]]], 10)
        if cut.curls:
            shape = _bumpy(shape, cut.curls, 0.055)
        canvas.fill(head.place(shape + np.array([turn, 0.0])), who.hair.times(0.78))
    if who.hair_style == "bun" and not hat:
        radius = 0.24 + 0.08 * who.hair_volume
        canvas.fill(head.place(disc(1.2 * turn, -1.12 - 0.5 * radius, 1.1 * radius, radius)), who.hair.times(0.86))


def draw_front_hair(canvas: Canvas, head: HeadPose, hat: bool) -> None:
    """The hair that frames the forehead, from behind one ear over the crown to behind the other."""
    who = head.identity
    if who.hair_style == "bald":
        return
    cut = _CUTS[who.hair_style]
    inner, outer = _hairline(head, cut), _edge(head, cut, hat)
    shape = np.concatenate([inner, outer[::-1]])
    canvas.fill(head.place(shape), who.hair)
    if cut.curls and not hat:
        _draw_curls(canvas, head, inner, outer)
    else:
        _draw_sheen(canvas, head, inner, outer)


def _hairline(head: HeadPose, cut: _Cut) -> Points:
    """(49, 2) flat: from behind the left ear along the forehead to behind the right ear."""
    who = head.identity
    right = np.array(cut.line)
    lower = who.hairline + 0.57  # the person's hairline against the usual one; it fades out towards the ears
    right[:, 1] += lower * np.clip((60.0 - right[:, 0]) / 60.0, 0.0, 1.0)
    line = np.concatenate([right[:0:-1] * [-1.0, 1.0], right])
    if who.hair_style in ("parted", "bob", "long", "quiff", "fringe"):
        # A parting on one side: the line is highest there and sweeps down on the other.
        sweep = np.clip(1.0 - np.abs(line[:, 0]) / 70.0, 0.0, 1.0) * np.clip(line[:, 0] / 60.0, -1.0, 1.0)
        line[:, 1] -= who.parting * 0.9 * sweep
        line[:, 0] += 40.0 * who.parting * np.clip(1.0 - np.abs(line[:, 0]) / 50.0, 0.0, 1.0)
    return _resampled(open_curve(head.around(line[:, 0], line[:, 1]), 5))


def _edge(head: HeadPose, cut: _Cut, hat: bool) -> Points:
    """(49, 2) flat: the outer edge, from left over the crown to the right."""
    who = head.identity
    volume = who.hair_volume
    sides = cut.sides[0] + (cut.sides[1] - cut.sides[0]) * volume
    top = cut.top[0] + (cut.top[1] - cut.top[0]) * volume
    if hat:
        sides, top = min(sides, 0.06), 0.0
    rows = np.clip(_ROWS, None, 0.62)
    grow = sides * np.clip((0.4 - rows) / 0.25, 0.3, 1.0)
    raised = top * np.clip(-rows, 0.0, 1.0) ** 1.5
    edges = []
    for side in (-1.0, 1.0):
        edge = head.silhouette(rows, side, grow, back=0.12)
        edge[:, 1] -= raised
        edges.append(edge)
    outer = _resampled(open_curve(np.concatenate([edges[0], edges[1][:-1][::-1]]), 4))
    if who.hair_style == "quiff" and not hat:
        peak = 0.3 * np.sign(who.parting)
        outer[:, 1] -= 0.55 * top * np.exp(-(((outer[:, 0] - peak) / 0.3) ** 2)) * (outer[:, 1] < -0.6)
    if cut.curls and not hat:
        middle = outer.mean(axis=0)
        phase = np.linspace(0.0, np.pi * cut.curls * 0.6, 97)
        fine = _resampled(outer, 97)
        outer = middle + (fine - middle) * (1.0 + 0.06 * np.abs(np.sin(phase)))[:, None]
    return outer


def _resampled(path: Points, count: int = 49) -> Points:
    """(count, 2) points evenly spaced along a path."""
    travelled = np.r_[0.0, np.cumsum(np.hypot(*np.diff(path, axis=0).T))]
    at = np.linspace(0.0, travelled[-1], count)
    return np.stack([np.interp(at, travelled, path[:, 0]), np.interp(at, travelled, path[:, 1])], axis=1)


def _between(inner: Points, outer: Points, share: float | NDArray[np.float64]) -> Points:
    return np.asarray(inner + (outer - inner) * np.asarray(share).reshape(-1, 1))


def _draw_sheen(canvas: Canvas, head: HeadPose, inner: Points, outer: Points) -> None:
    """A soft band of light over the crown, of four thin layers, and a few combed strands."""
    who = head.identity
    arch = np.sin(np.linspace(0.0, np.pi, 27))
    for width in (0.05, 0.09, 0.13, 0.17):
        low, high = (_between(inner[11:38], outer[11:38], 0.52 + side * width * arch) for side in (-1.0, 1.0))
        canvas.fill(head.place(np.concatenate([low, high[::-1]])), who.hair.mix(_LIGHT, 0.55), 0.085)
    for k in range(10, 40, 2):
        strand = _between(inner[[k] * 3], outer[[k, k + (24 - k) // 6, k + (24 - k) // 4]], np.array([0.04, 0.5, 0.93]))
        shape = np.concatenate([strand, (strand + _TAPER)[::-1]])
        canvas.fill(head.place(shape), who.hair.times(0.6 if k % 4 else 1.3), 0.3)


def _draw_curls(canvas: Canvas, head: HeadPose, inner: Points, outer: Points) -> None:
    """Rings of lighter and darker curls between hairline and edge."""
    who = head.identity
    fine = _resampled(inner, len(outer))
    for row, share in enumerate((0.2, 0.45, 0.72)):
        for k, (x, y) in enumerate(_between(fine, outer, share)[8 + 3 * row : -8 : 7]):
            colour = who.hair.mix(_LIGHT, 0.28) if (k + row) % 2 else who.hair.times(0.62)
            canvas.fill(head.place(disc(x, y, 0.075, 0.065, 12)), colour, 0.3)


def draw_beard(canvas: Canvas, head: HeadPose) -> None:
    """The person's kind of beard; the mouth is drawn over it."""
    who = head.identity
    style, mouth, wide = who.beard_style, who.mouth_height, who.mouth_width
    colour = who.hair.times(0.82).mix(who.skin, 0.14)
    lip = 0.55 * (who.eye_height + who.nose_length) + 0.45 * mouth  # between nose and mouth
    if style == "moustache":
        half = [(0.0, lip - 0.01), (0.5, lip - 0.02), (1.1, mouth), (1.22, mouth + 0.06), (0.6, mouth - 0.01)]
        canvas.fill(head.face(closed_curve(_mirrored(half) * (wide, 1.0)), 0.06), colour)
    elif style == "goatee":
        half = [(0.2 / wide, lip), (0.95, mouth + 0.03), (0.75, 0.9), (0.0, 1.02)]
        canvas.fill(head.face(closed_curve(_mirrored(half) * (wide, 1.0)), 0.05), colour)
    elif style == "chinstrap":
        half = [(0.0, mouth + 0.26), (0.7, mouth + 0.12), (0.84, 0.4), (0.97, 0.02)]
        _draw_on_jaw(canvas, head, _mirrored(half), 0.05, colour, 1.0)
    else:
        half = [(0.0, lip), (0.3, lip - 0.03), (wide / 0.55 + 0.02, lip + 0.06), (0.86, 0.3), (0.95, 0.06)]
        dense = style == "full"
        _draw_on_jaw(canvas, head, _mirrored(half), 0.08 if dense else 0.0, colour, 1.0 if dense else 0.5)


def _mirrored(right: list[tuple[float, float]]) -> Points:
    """Points from the far left over the middle, which stands once, to the far right."""
    return np.array([(-x, y) for x, y in right[::-1] if x > 0] + right)


def _draw_on_jaw(canvas: Canvas, head: HeadPose, upper: Points, grow: float, colour: Colour, opacity: float) -> None:
    """Fill from an upper line (shares of the face's width, heights) down to the jaw, grown by so much."""
    heights = np.linspace(0.06, 1.0, 16)
    swell = grow * np.clip((heights - 0.1) / 0.5, 0.0, 1.0) * (1.0 - 0.55 * heights**6)
    right, left = head.silhouette(heights, 1.0, swell), head.silhouette(heights, -1.0, swell)
    drop = np.stack([np.zeros(16), swell * heights], axis=1)
    line = open_curve(upper, 4)
    top = head.flat(np.stack([line[:, 0] * head.width(line[:, 1]), line[:, 1]], axis=1))
    canvas.fill(head.place(np.concatenate([top, right + drop, (left + drop)[::-1]])), colour, opacity)


def draw_clothes(canvas: Canvas, head: HeadPose, stream: RandomStream) -> None:
    """Shoulders in a garment; the neck is drawn over it afterwards."""
    colour = stream.pick(_CLOTH).mix(stream.pick(_CLOTH), stream.between(0.0, 0.3))
    wide = stream.between(1.15, 1.4)
    drop = stream.between(1.42, 1.56)
    right = [(0.42, 1.28), (0.75, drop - 0.04), (wide, drop + 0.16), (wide + 0.16, 2.1), (wide + 0.2, 4.5)]
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
    left, right = [(-half + turn, 0.4), (-half + 0.02, 1.1)], [(half - 0.02, 1.1), (half + turn, 0.4)]
    scoop = open_curve(
        [
            (-half - 0.13, 1.33),
            (-0.6 * half, 1.33 + 0.72 * (depth - 1.33)),
            (0.0, depth),
            (0.6 * half, 1.33 + 0.72 * (depth - 1.33)),
            (half + 0.13, 1.33),
        ]
    )
    canvas.fill(head.body(np.concatenate([left, scoop, right])), who.skin.times(0.88))
    across = np.linspace(-1.0, 1.0, 15)
    shade = np.stack([across * half + turn * (1 - np.abs(across)), 1.17 - 0.12 * across**2], axis=1)
    canvas.fill(head.body(np.concatenate([left[:1], shade, right[1:]])), who.skin.times(0.5), 0.42)
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
