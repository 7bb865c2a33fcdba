"""A photo → its faces, or the vector of one of them; two photos → the same person or not, with nothing trained.

The networks are dlib's, read by `faces`: its detector, its five points, its chip, its 128 numbers. The threshold is
shipped (`faces/threshold.json`); `benchmarks/stack_threshold.py` chose it and says on what.

>>> Recognizer().verify("a.jpg", "b.jpg").same                                         # doctest: +SKIP
True
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.decision import Decision, pick
from facewright.embedding import similarity
from facewright.errors import DataError, Undefined, UnknownName, UsageError
from facewright.faces.alignment import ARCFACE_CORNERS, DLIB, Template, chip
from facewright.faces.detector import MAX_MARGIN, MOST_PIXELS, WINDOW, FaceDetector
from facewright.faces.dlib_weights import RESNET, converted
from facewright.faces.landmarks import LANDMARKS, FivePoints
from facewright.faces.vectors import FaceVectors
from facewright.images import Pixels
from facewright.metrics.intervals import Rate

Policy = Literal["largest", "centre", "error"]
POLICIES: tuple[Policy, ...] = ("largest", "centre", "error")
DEFAULT_POLICY: Policy = (
    "centre"  # over LFW's pairs 99.2 % are told right, with the largest face 98.0 %: bystanders are near
)
DETECTORS = ("dlib", "none")
TEMPLATES = {"dlib": DLIB, "arcface": ARCFACE_CORNERS}

LEAST = 20  # px: a face of a shorter side is not looked for, and a photo of a shorter side shows none
EVERY = (40, LEAST)  # px: the smallest face that is looked for; the second only where the first finds nothing
LARGE = (80, *EVERY)  # where one person is asked for; looking for small faces at once takes four times as long
STEPS = "1"  # of what happens between the networks; a change makes other vectors
SHIPPED = "threshold.json"


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a photo."""

    box: tuple[float, float, float, float]  # x, y, width, height in px of the photo; may reach out of it
    score: float | None  # the detector's: above 0, 1 is sure; None where the whole photo was taken
    points: NDArray[np.float64]  # (5, 2) x, y, as `landmarks.FivePoints` orders them
    chip: Pixels = field(repr=False)  # (side, side, 3) uint8: the face upright, as the template has it

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


@dataclass(frozen=True)
class Matched:
    """What is said of two photos. None where a photo shows no face, or no threshold is known for these networks."""

    score: float | None  # cosine
    threshold: float | None
    same: bool | None  # score >= threshold
    far: Rate | None  # on the pairs that the threshold was chosen on: what to expect of others like them
    far_by_identity: Rate | None  # the same with its interval over resampled people
    far_target: float | None
    probability: float | None  # that it is one person, among pairs mixed as those
    data: str | None  # what those pairs were
    sides: tuple[Picked, Picked]
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """As `verify --json` prints it."""
        return {
            "task": "verify",
            "score": self.score,
            "threshold": self.threshold,
            "same": self.same,
            "far": None if self.far is None else self.far.to_dict(),
            "far_by_identity": None if self.far_by_identity is None else self.far_by_identity.to_dict(),
            "far_target": self.far_target,
            "probability": self.probability,
            "data": self.data,
            "model": "built-in",
            "fingerprint": self.fingerprint,
            "a": self.sides[0].to_dict(),
            "b": self.sides[1].to_dict(),
        }


class Recognizer:
    """The built-in networks, each loaded when it is first needed; may be used from several threads once loaded."""

    def __init__(self, *, detector: str = "dlib", cache: Path | None = None) -> None:
        """Choose how faces are found.

        Args:
            detector: "dlib"; or "none" for pre-cropped photos: the whole photo is the box of its one face.
            cache: the folder of the converted networks; the user's own where None.
        Raises:
            UnknownName: another detector.
        """
        if detector not in DETECTORS:
            raise UnknownName("detector", detector, DETECTORS)
        self.detector = detector
        self._cache = cache

    @cached_property
    def _finder(self) -> FaceDetector:
        return FaceDetector.load(cache=self._cache)

    @cached_property
    def _points(self) -> FivePoints:
        return FivePoints.load(cache=self._cache)

    @cached_property
    def _vectors(self) -> FaceVectors:
        return FaceVectors.load(cache=self._cache)

    @cached_property
    def fingerprint(self) -> str:
        """32 hex characters that stand for the networks and the steps between them: thresholds hold for these alone."""
        names = [converted(source, cache=self._cache).name for source in (MAX_MARGIN, LANDMARKS, RESNET)]
        return hashlib.blake2b(json.dumps([STEPS, self.detector, *names]).encode(), digest_size=16).hexdigest()

    def faces(self, photo: Pixels, *, smallest: float | None = None, template: Template = DLIB) -> tuple[Face, ...]:
        """The faces of a photo, the surest first; none is an answer.

        Args:
            photo: (H, W, 3) uint8, upright, as `images.read` gives it.
            smallest: px: side of the smallest face that is looked for. None: 40, and 20 where nothing was found. In
                photos so large that this would take too much memory it is `searchable(photo, smallest)`.
            template: of the chips.
        Raises:
            UsageError: `smallest` is under 20. WeightsError: the package of the networks is not installed.
        """
        return self._found(photo, EVERY if smallest is None else (smallest,), template)

    def pick(self, photo: Pixels, policy: Policy = DEFAULT_POLICY) -> Picked:
        """The face of a photo that is taken for the person.

        Args:
            photo: (H, W, 3) uint8, upright.
            policy: of several faces the "largest", the one nearest to the "centre", or none: "error". For the first two
                faces from 80 px up are looked for, and smaller ones only where there are none: a small face in the
                background is not the person. For "error" every face from 40 px up counts.
        Raises:
            UnknownName: another policy. WeightsError: the package of the networks is not installed.
        """
        if policy not in POLICIES:
            raise UnknownName("policy", policy, POLICIES)
        found = self._found(photo, EVERY if policy == "error" else LARGE, DLIB)
        if not found:
            return Picked(None, 0, policy, "no face was found")
        if policy == "error" and len(found) > 1:
            return Picked(None, len(found), policy, f"{len(found)} faces were found where one was expected")
        return Picked(_taken(found, photo.shape[:2], policy), len(found), policy, None)

    def vector(self, photo: Pixels, policy: Policy = DEFAULT_POLICY) -> tuple[NDArray[np.float32] | None, Picked]:
        """The 128 numbers of a photo's face; None where none was taken, and `reason` says why.

        Args, Raises: as `pick`.
        Returns:
            (128,) float32 of length about 1.4, dlib's; and which face it is.
        """
        picked = self.pick(photo, policy)
        return None if picked.face is None else self.vectors([picked.face])[0], picked

    def vectors(self, faces: Sequence[Face]) -> NDArray[np.float32]:
        """The vectors of faces with dlib's chips: N -> (N, 128)."""
        chips = [face.chip for face in faces]
        return self._vectors.of(np.stack(chips) if chips else np.zeros((0, DLIB.side, DLIB.side, 3), np.uint8))

    def verify(
        self, a: str | Path, b: str | Path, *, policy: Policy = DEFAULT_POLICY, far: float | None = None
    ) -> Matched:
        """Say whether two photos show the same person.

        Args:
            far: which of the shipped thresholds; the last one where left out.
        Raises:
            BadImage: a photo cannot be read. Undefined: no threshold is shipped for that rate. UnknownName,
            WeightsError: as `pick`.
        """
        held = shipped(self.fingerprint)
        known = [one.threshold.far_target for one in held]
        if far is not None and held and far not in known:
            raise Undefined(f"no threshold is shipped for a false-accept rate of {far:g}; there is one for {known}")
        decision = pick(held, far)
        (one, first), (other, second) = (self.vector(images.read(Path(path)), policy) for path in (a, b))
        score = None if one is None or other is None else similarity(_unit(one), _unit(other))
        chosen = None if decision is None else decision.threshold
        calibration = None if decision is None else decision.calibration
        return Matched(
            score=score,
            threshold=None if chosen is None else chosen.value,
            same=None if chosen is None or score is None else score >= chosen.value,
            far=None if chosen is None else chosen.far,
            far_by_identity=None if decision is None else decision.far_by_identity,
            far_target=None if chosen is None else chosen.far_target,
            probability=None if calibration is None or score is None else calibration.probability(score),
            data=None if chosen is None else chosen.data,
            sides=(first, second),
            fingerprint=self.fingerprint,
        )

    def _found(self, photo: Pixels, sizes: Sequence[float], template: Template) -> tuple[Face, ...]:
        """The faces at the first of some smallest sizes that has any."""
        if min(sizes) < LEAST:
            raise UsageError(f"expected a smallest face of at least {LEAST} px, got {min(sizes):g}")
        height, width = photo.shape[:2]
        if min(height, width) < LEAST:
            return ()
        if self.detector == "none":
            return self._faces_in(photo, np.array([[0.0, 0.0, width, height]]), [None], template)
        for size in dict.fromkeys(searchable(photo, size) for size in sizes):
            boxes, scores = self._finder.find(photo, smallest=size)
            if len(boxes):
                return self._faces_in(photo, boxes, scores.tolist(), template)
        return ()

    def _faces_in(
        self, photo: Pixels, boxes: NDArray[np.float64], scores: Sequence[float | None], template: Template
    ) -> tuple[Face, ...]:
        every = self._points.of(photo, boxes)
        return tuple(
            Face((x, y, width, height), score, points, chip(photo, points, template=template))
            for (x, y, width, height), score, points in zip(boxes.tolist(), scores, every, strict=True)
        )


def searchable(photo: Pixels, smallest: float) -> float:
    """The smallest face that can be looked for in a photo: as asked, or larger in photos of millions of pixels.

    >>> searchable(np.zeros((250, 250, 3), np.uint8), 40)
    40
    >>> searchable(np.zeros((3000, 4000, 3), np.uint8), 40)
    139
    """
    height, width = photo.shape[:2]
    least = WINDOW * (height * width / MOST_PIXELS) ** 0.5
    return smallest if smallest >= least else int(least) + 1


def shipped(fingerprint: str) -> tuple[Decision, ...]:
    """The thresholds that come with the package, those for other networks left out.

    Raises:
        DataError: the package's file is damaged.
    """
    try:
        text = resources.files("facewright.faces").joinpath(SHIPPED).read_text("utf-8")
        held = [Decision.from_dict(facts) for facts in json.loads(text)["decisions"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{SHIPPED} of the package is damaged ({error}); install facewright anew") from None
    return tuple(one for one in held if one.fingerprint == fingerprint)


def _taken(found: Sequence[Face], size: tuple[int, ...], policy: Policy) -> Face:
    """One of several faces; of equals the surer."""
    if policy == "largest":
        return max(found, key=lambda face: face.box[2] * face.box[3])
    height, width = size

    def away(face: Face) -> float:
        x, y, across, down = face.box
        return (x + across / 2 - width / 2) ** 2 + (y + down / 2 - height / 2) ** 2

    return min(found, key=away)


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)
