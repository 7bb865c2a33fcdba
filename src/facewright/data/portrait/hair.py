"""Hair on the head and on the chin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .head import Canvas, HeadPose, Points, closed_curve, disc, open_curve
from .identity import Colour, HairStyle

_LIGHT = Colour(255, 244, 224)
_TAPER = np.array([[0.004, 0.0], [0.012, 0.0], [0.004, 0.0]])
_ROWS = np.array([0.34, 0.2, 0.05, -0.1, -0.25, -0.4, -0.55, -0.7, -0.82, -0.91, -0.97, -1.0])  # heights of the edge


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
        low, high = (
            _between(inner[11:38], outer[11:38], 0.52 - width * arch),
            _between(inner[11:38], outer[11:38], 0.52 + width * arch),
        )
        canvas.fill(head.place(np.concatenate([low, high[::-1]])), who.hair.mix(_LIGHT, 0.55), 0.085)
    for k in range(10, 40, 2):
        strand = _between(
            inner[[k, k, k]], outer[[k, k + (24 - k) // 6, k + (24 - k) // 4]], np.array([0.04, 0.5, 0.93])
        )
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
