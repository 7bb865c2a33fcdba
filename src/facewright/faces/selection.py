"""The faces of a photo, and the selection of one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UnknownName
from facewright.images import Pixels

SelectFace = Literal["largest", "center", "centre", "error"]
SELECTIONS: tuple[SelectFace, ...] = ("largest", "center", "error")
DEFAULT_SELECTION: SelectFace = (
    "centre"  # over LFW's pairs 99.2 % are verified correctly, with the largest face 98.0 %: bystanders are near
)
Vector = NDArray[np.float32]
"""(D,) of length 1."""


def stored_selection(select_face: SelectFace) -> SelectFace:
    """Return the value as recipes, results and stored files hold it: "centre" for "center". Raises UnknownName."""
    if select_face not in (*SELECTIONS, "centre"):
        raise UnknownName("select_face", select_face, SELECTIONS)
    return "centre" if select_face == "center" else select_face


Detected = TypeVar("Detected")


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo."""

    box: tuple[float, float, float, float]  # x, y, width, height in px of the photo; may reach out of it
    score: float | None  # the detector's, higher is more certain; None where the whole photo was taken
    points: NDArray[np.float64]  # (5, 2) x, y, in the order of the crop's template; (0, 2) where none were needed
    chip: Pixels = field(repr=False)  # (H, W, 3) uint8: what the network sees, upright where there are points
    roll: float = 0.0  # radians by which the points are turned against the template; 0 without points
    layout: Literal["centres", "corners"] | None = None  # points as of `alignment.ARCFACE`, or as of `FivePoints`

    @property
    def upright_score(self) -> float | None:
        """The score times the cosine of the roll: detectors and points mistake some sideways faces for tilted ones."""
        return None if self.score is None else self.score * math.cos(self.roll)

    def to_dict(self) -> dict[str, Any]:
        """Box and points, without the pixels."""
        box = dict(zip("xywh", (round(value, 2) for value in self.box), strict=True))
        return box | {"score": self.score, "points": self.points.tolist()}


@dataclass(frozen=True, eq=False)
class Picked:
    """The selected face of a photo; or the reason why none was selected."""

    face: Face | None
    faces: int  # detected
    select_face: SelectFace
    reason: str | None  # where there is no face
    turned: int = 0  # degrees, counterclockwise, by which the photo was turned to find the face

    @property
    def said(self) -> str | None:
        """The selected face, where there were several or the photo had to be turned; None otherwise."""
        turned = f"found with the photo turned by {self.turned} degrees" if self.turned else None
        if self.face is None or self.faces < 2:
            return turned
        x, y, width, height = (round(value) for value in self.face.box)
        which = "largest" if self.select_face == "largest" else "one nearest to the centre"
        place = f"{self.faces} faces; took the {which}, {width} x {height} px at {x}, {y}"
        return place if turned is None else f"{place}; {turned}"

    def to_dict(self) -> dict[str, Any]:
        """As `verify --json` prints a side."""
        face = None if self.face is None else self.face.to_dict()
        return {"faces": self.faces, "face": face, "policy": self.select_face, "reason": self.reason}


def one_of(
    found: Sequence[Face], size: tuple[int, ...], select_face: SelectFace, missing: str = "no face was found"
) -> Picked:
    """Select one of the faces of a photo.

    Args:
        found: highest score first. size: height and width of the photo, px.
        select_face: of several faces the "largest", the one nearest to the "centre", or none: "error".
        missing: the reason where there is no face, see `detectors.missing`.
    """
    if not found:
        return Picked(None, 0, select_face, missing)
    if select_face == "error" and len(found) > 1:
        return Picked(None, len(found), select_face, f"{len(found)} faces were found where one was expected")
    return Picked(_taken(found, size, select_face), len(found), select_face, None)


def _taken(found: Sequence[Face], size: tuple[int, ...], select_face: SelectFace) -> Face:
    if select_face == "largest":
        return max(found, key=lambda face: face.box[2] * face.box[3])
    height, width = size

    def away(face: Face) -> float:
        x, y, across, down = face.box
        return (x + across / 2 - width / 2) ** 2 + (y + down / 2 - height / 2) ** 2

    return min(found, key=away)


@dataclass(frozen=True)
class ScoreLimits:
    """Upright scores below which a selected face is doubtful; measured, see `detectors.SCORE_LIMITS`."""

    upright: float  # below it, the three other orientations of the photo are tried
    sure: float  # below it in every orientation, no face is selected
    turned: float = 0.0  # below it, a face in the turned photo does not count


NO_LIMITS = ScoreLimits(-math.inf, -math.inf)


def select_turned(upright: Picked, photo: Pixels, limits: ScoreLimits, select: Callable[[Pixels], Picked]) -> Picked:
    """Select the face in the orientation of the photo in which it scores highest.

    Args:
        upright: the selection in the photo as it is; returned where its score reaches `limits.upright`.
        select: selects a face in a turned photo.
    Returns:
        Box and points are in px of the photo as it is.
    """
    if upright.face is None and upright.faces:
        return upright
    best, quarters = _best_turn(upright, photo, limits, select, _score)
    if quarters and best.face is not None:
        best = replace(best, face=_turned_back(best.face, photo.shape[:2], quarters), turned=90 * quarters)
    score = _score(best)
    if best.face is None or score is None or score >= limits.sure:
        return best
    reason = f"not sure: the face scores {score:.2f}, expected {limits.sure:g}; turn the photo upright or use another"
    return Picked(None, best.faces, best.select_face, reason)


def find_turned(
    photo: Pixels, limits: ScoreLimits, find: Callable[[Pixels, bool], tuple[Face, ...]]
) -> tuple[Face, ...]:
    """Find every face, highest score first, in the orientation of the photo in which the best of them scores highest.

    Args:
        find: finds the faces of a photo; the second argument tells if the photo was turned.
    Returns:
        Box and points in px of the photo as it is.
    """
    faces, quarters = _best_turn(find(photo, False), photo, limits, lambda turned: find(turned, True), _best_score)
    return tuple(_turned_back(face, photo.shape[:2], quarters) for face in faces) if quarters else faces


def _best_turn(
    upright: Detected, photo: Pixels, limits: ScoreLimits, find: Callable[[Pixels], Detected],
    score_of: Callable[[Detected], float | None],
) -> tuple[Detected, int]:  # fmt: skip
    """Return what is found in the best orientation, and by how many quarters the photo was turned for it."""
    best, best_score, best_turn = upright, score_of(upright), 0
    if best_score is None or best_score >= limits.upright:
        return best, 0
    for quarters in (1, 2, 3):
        turned = find(np.ascontiguousarray(np.rot90(photo, quarters)))
        score = score_of(turned)
        if score is not None and score > max(best_score, limits.turned):
            best, best_score, best_turn = turned, score, quarters
    return best, best_turn


def _best_score(faces: Sequence[Face]) -> float | None:
    scores = [face.upright_score for face in faces]
    return None if None in scores else max((score for score in scores if score is not None), default=-math.inf)


def _score(picked: Picked) -> float | None:
    """Return the upright score of the selected face, -inf without a face; None: the detector gives no scores."""
    return -math.inf if picked.face is None else picked.face.upright_score


def _turned_back(face: Face, size: tuple[int, ...], quarters: int) -> Face:
    """Move box and points from a photo turned counterclockwise into the photo as it is; (height, width) is its size."""
    (height, width), (x, y, across, down) = size, face.box
    box, points = face.box, face.points[:, ::-1]
    if quarters == 1:
        box, points = (width - y - down, x, down, across), np.array([width - 1, 0]) - points * [1, -1]
    elif quarters == 2:
        box, points = (width - x - across, height - y - down, across, down), [width - 1, height - 1] - face.points
    elif quarters == 3:
        box, points = (y, height - x - across, down, across), np.array([0, height - 1]) - points * [-1, 1]
    return replace(face, box=box, points=points)
