"""The faces of a photo, and which of them is taken for the person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facewright.images import Pixels

Policy = Literal["largest", "centre", "error"]
POLICIES: tuple[Policy, ...] = ("largest", "centre", "error")
DEFAULT_POLICY: Policy = (
    "centre"  # over LFW's pairs 99.2 % are told right, with the largest face 98.0 %: bystanders are near
)
Vector = NDArray[np.float32]
"""(D,) of length 1."""


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo."""

    box: tuple[float, float, float, float]  # x, y, width, height in px of the photo; may reach out of it
    score: float | None  # the detector's, higher is surer; None where the whole photo was taken
    points: NDArray[np.float64]  # (5, 2) x, y, in the order of the chip's template; (0, 2) where none were needed
    chip: Pixels = field(repr=False)  # (H, W, 3) uint8: what the network sees, upright where there are points

    def to_dict(self) -> dict[str, Any]:
        """Box and points, without the pixels."""
        box = dict(zip("xywh", (round(value, 2) for value in self.box), strict=True))
        return box | {"score": self.score, "points": self.points.tolist()}


@dataclass(frozen=True, eq=False)
class Picked:
    """The face of a photo that was taken for the person; or why none was."""

    face: Face | None
    faces: int  # that were found
    policy: Policy
    reason: str | None  # where there is no face

    @property
    def said(self) -> str | None:
        """Which face was taken, where there were several."""
        if self.face is None or self.faces < 2:
            return None
        x, y, width, height = (round(value) for value in self.face.box)
        which = "largest" if self.policy == "largest" else "one nearest to the centre"
        return f"{self.faces} faces; took the {which}, {width} x {height} px at {x}, {y}"

    def to_dict(self) -> dict[str, Any]:
        """As `verify --json` prints a side."""
        face = None if self.face is None else self.face.to_dict()
        return {"faces": self.faces, "face": face, "policy": self.policy, "reason": self.reason}


def one_of(found: Sequence[Face], size: tuple[int, ...], policy: Policy) -> Picked:
    """What a policy makes of the faces of a photo.

    Args:
        found: the faces, the surest first. size: height and width of the photo, px.
        policy: of several faces the "largest", the one nearest to the "centre", or none: "error".
    """
    if not found:
        return Picked(None, 0, policy, "no face was found")
    if policy == "error" and len(found) > 1:
        return Picked(None, len(found), policy, f"{len(found)} faces were found where one was expected")
    return Picked(_taken(found, size, policy), len(found), policy, None)


def _taken(found: Sequence[Face], size: tuple[int, ...], policy: Policy) -> Face:
    """One of several faces; of equals the surer."""
    if policy == "largest":
        return max(found, key=lambda face: face.box[2] * face.box[3])
    height, width = size

    def away(face: Face) -> float:
        x, y, across, down = face.box
        return (x + across / 2 - width / 2) ** 2 + (y + down / 2 - height / 2) ** 2

    return min(found, key=away)
