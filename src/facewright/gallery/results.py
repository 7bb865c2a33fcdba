"""What a gallery answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from facewright.data.records import Broken
from facewright.gallery.calibration import GalleryThreshold
from facewright.gallery.store import Match, Pin


@dataclass(frozen=True)
class Enrolled:
    """What became of photos that were to be enrolled."""

    photos: tuple[tuple[str, str, int | None], ...]  # person, photo, number; None: that photo of him was there already
    failed: tuple[Broken, ...]  # photos that cannot be used

    @property
    def new(self) -> int:
        return sum(number is not None for _, _, number in self.photos)

    def to_dict(self) -> dict[str, Any]:
        """As `gallery enroll --json` prints it."""
        return {
            "task": "enroll",
            "enrolled": self.new,
            "already": len(self.photos) - self.new,
            "people": len({person for person, _, _ in self.photos}),
            "photos": [{"person": p, "photo": photo, "number": number} for p, photo, number in self.photos],
            "failed": [{"photo": broken.path, "reason": broken.reason} for broken in self.failed],
        }


@dataclass(frozen=True)
class Found:
    """The people most like a photo, best first; or why it cannot be used."""

    photo: str
    matches: tuple[Match, ...]
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        return {"photo": self.photo, "matches": [match.to_dict() for match in self.matches], "error": self.error}


@dataclass(frozen=True)
class Identified:
    """Who is on a photo."""

    photo: str
    person: str | None  # None: unknown, or an error
    threshold: float
    matches: tuple[Match, ...]  # as in `Found`; the first decided
    error: str | None

    def to_dict(self) -> dict[str, Any]:
        return {
            "photo": self.photo,
            "person": self.person,
            "score": self.matches[0].score if self.matches else None,
            "matches": [match.to_dict() for match in self.matches],
            "error": self.error,
        }


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
