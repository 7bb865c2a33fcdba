"""What a gallery answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from facewright.data.records import Broken
from facewright.gallery.calibration import GalleryThreshold
from facewright.gallery.store import Match, Pin


@dataclass(frozen=True)
class EnrolledPhoto:
    """A photo that is in the gallery."""

    person: str
    photo: str
    number: int | None  # of its entry; None: that photo of him was there already
    said: str | None  # which face was taken, where there were several

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Enrolled:
    """What became of photos that were to be enrolled."""

    photos: tuple[EnrolledPhoto, ...]
    failed: tuple[Broken, ...]  # photos that cannot be used

    @property
    def new(self) -> int:
        return sum(photo.number is not None for photo in self.photos)

    def to_dict(self) -> dict[str, Any]:
        """As `gallery enroll --json` prints it."""
        return {
            "task": "enroll",
            "enrolled": self.new,
            "already": len(self.photos) - self.new,
            "people": len({photo.person for photo in self.photos}),
            "photos": [photo.to_dict() for photo in self.photos],
            "failed": [{"photo": broken.path, "reason": broken.reason} for broken in self.failed],
        }


@dataclass(frozen=True)
class Taken:
    """Which face of a photo was looked up."""

    faces: int  # that were found
    box: tuple[float, float, float, float]  # x, y, width, height in px
    said: str | None  # where there were several

    def to_dict(self) -> dict[str, Any]:
        return {"faces": self.faces, "box": _box(self.box), "said": self.said}


@dataclass(frozen=True)
class Found:
    """The people most like a photo, best first; or why it cannot be used."""

    photo: str
    matches: tuple[Match, ...]
    error: str | None
    taken: Taken | None = None  # None: an error

    def to_dict(self) -> dict[str, Any]:
        matches = [match.to_dict() for match in self.matches]
        return {"photo": self.photo, "matches": matches, "error": self.error} | _taken(self.taken)


@dataclass(frozen=True)
class Identified:
    """Who is on a photo."""

    photo: str
    person: str | None  # None: unknown, or an error
    threshold: float
    matches: tuple[Match, ...]  # as in `Found`; the first decided
    error: str | None
    taken: Taken | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "photo": self.photo,
            "person": self.person,
            "score": self.matches[0].score if self.matches else None,
            "matches": [match.to_dict() for match in self.matches],
            "error": self.error,
        } | _taken(self.taken)


@dataclass(frozen=True)
class KnownFace:
    """One face of a photo, and who it is."""

    box: tuple[float, float, float, float]  # x, y, width, height in px
    score: float | None  # the detector's
    person: str | None  # None: unknown
    matches: tuple[Match, ...]  # best first; the first decided

    def to_dict(self) -> dict[str, Any]:
        matches = [match.to_dict() for match in self.matches]
        return _box(self.box) | {"score": self.score, "person": self.person, "matches": matches}


@dataclass(frozen=True)
class PeopleFound:
    """Every face of one photo."""

    photo: str
    width: int  # px of the photo, upright; 0 where it could not be read
    height: int
    threshold: float
    faces: tuple[KnownFace, ...]  # the surest first
    error: str | None  # why it cannot be read

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"faces": [face.to_dict() for face in self.faces]}


@dataclass(frozen=True)
class Stats:
    """What is in a gallery."""

    where: str
    pin: Pin
    people: int
    entries: int
    crops: int
    revision: int
    threshold: GalleryThreshold | None

    def to_dict(self) -> dict[str, Any]:
        """As `gallery stats --json` prints it."""
        facts = {"people": self.people, "entries": self.entries, "crops": self.crops, "revision": self.revision}
        threshold = None if self.threshold is None else self.threshold.to_dict()
        return {"task": "stats", "gallery": self.where, **facts, **self.pin.to_dict(), "calibrated": threshold}


def _box(box: tuple[float, float, float, float]) -> dict[str, float]:
    return dict(zip("xywh", (round(value, 2) for value in box), strict=True))


def _taken(taken: Taken | None) -> dict[str, Any]:
    return {"faces": None, "box": None, "said": None} if taken is None else taken.to_dict()
