"""Photos of faces on their way into a gallery, and its answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, SerializerFunctionWrapHandler, model_serializer

from facewright import images
from facewright.data.records import Broken
from facewright.faces.quality import LOW, Quality
from facewright.gallery.entries import Match, ModelSignature
from facewright.metrics.thresholds import Threshold
from facewright.recognition import DEFAULT_SELECTION, Face, Picked, Recognizer, SelectFace
from facewright.records import Record


@dataclass(frozen=True)
class Photo:
    """A photo with a name, and the person it shows if it is to be enrolled."""

    name: str  # in results
    source: images.ImageLike
    person: str = ""  # to be enrolled as

    @classmethod
    def of(cls, image: Photo | images.ImageLike, person: str = "") -> Photo:
        """Return an image as a photo; a file is named by its path."""
        if isinstance(image, Photo):
            return image
        return cls(str(image) if isinstance(image, (str, Path, images.MemoryImage)) else "image", image, person)

    def read(self, at_least: int | None) -> NDArray[np.uint8] | str:
        """The pixels (H, W, 3), or why they cannot be read."""
        return images.try_read(self.source, name=self.name, at_least=at_least)


@dataclass(frozen=True, eq=False)
class EmbeddedPhoto:
    """A photo with the selected face and its vector."""

    vector: NDArray[np.float32]  # (D,)
    face: Face
    digest: str  # of the decoded pixels
    picked: Picked
    quality: Quality


def embed_photos(
    recognizer: Recognizer,
    photos: Sequence[Photo],
    select_face: SelectFace = DEFAULT_SELECTION,
    min_quality: float = 0.0,
) -> list[EmbeddedPhoto | str]:
    """Embed one face of each photo; a string says why a photo has none, or one below `min_quality`."""
    picked = [_pick(recognizer, photo, select_face) for photo in photos]
    embedded = recognizer.embed_with_quality([one[0] for one in picked if not isinstance(one, str)])
    measured = zip(*embedded, strict=True)
    results: list[EmbeddedPhoto | str] = []
    for one in picked:
        if isinstance(one, str):
            results.append(one)
            continue
        vector, quality = next(measured)
        poor = (
            f"quality {quality.describe()}, expected at least {min_quality:g}; use a larger, sharper or frontal photo"
        )
        results.append(poor if quality.value < min_quality else EmbeddedPhoto(vector, *one, quality))
    return results


def _pick(recognizer: Recognizer, photo: Photo, select_face: SelectFace) -> tuple[Face, str, Picked] | str:
    """The selected face and the photo's digest; the photo itself does not stay in memory."""
    pixels = photo.read(recognizer.at_least)
    if isinstance(pixels, str):
        return pixels
    picked = recognizer.pick(pixels, select_face)
    if picked.face is None:
        return picked.reason or "no face was selected"
    return picked.face, digest_of(pixels), picked


def digest_of(pixels: NDArray[np.uint8]) -> str:
    """A digest of size and pixels, 32 hex characters."""
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()


Box = Annotated[  # x, y, width, height in px; as {"x", "y", "w", "h"} in JSON
    tuple[float, float, float, float],
    PlainSerializer(lambda box: dict(zip("xywh", (round(value, 2) for value in box), strict=True))),
]


class EnrolledPhoto(Record):
    """A photo that is in the gallery."""

    person: str
    photo: str
    number: int | None  # of its entry; None: this photo of this person was there already
    message: str | None  # which face was selected, if there were several
    similar: Match | None = None  # another enrolled person who may be the same one
    quality: Quality | None = None  # of the face


class Enrollment(Record):
    """The photos enrolled, and those that could not be."""

    photos: tuple[EnrolledPhoto, ...]
    failed: tuple[Broken, ...]
    warnings: tuple[str, ...] = ()  # about names

    @property
    def new(self) -> int:
        """The number of photos that were not in the gallery before."""
        return sum(photo.number is not None for photo in self.photos)

    @model_serializer
    def _as_printed(self) -> dict[str, Any]:
        return {
            "task": "enroll",
            "enrolled": self.new,
            "already": len(self.photos) - self.new,
            "people": len({photo.person for photo in self.photos}),
            "photos": self.photos,
            "failed": [{"photo": broken.path, "reason": broken.reason} for broken in self.failed],
            "warnings": self.warnings,
        }


class Expired(Record):
    """The entries that `Gallery.expire` deleted."""

    entries: int
    unknown: int  # whose time of enrolment is not known; they stay


class SearchResult(Record):
    """The nearest people to one face of a photo, best first; or why the photo cannot be used."""

    photo: str
    matches: tuple[Match, ...] = ()
    error: str | None = None
    faces: int | None = None  # found in the photo; None: an error
    box: Box | None = None  # of the selected face
    message: str | None = None  # which face was selected, if there were several
    quality: Quality | None = None  # of the selected face

    def identified(self, threshold: float, poor: float | None = None) -> Identification:
        """The best match is the person, if its score reaches the threshold; `poor`: that of a face of low quality."""
        threshold = threshold_of(self.quality, threshold, poor)
        score = self.matches[0].score if self.matches else None
        person = self.matches[0].person if score is not None and score >= threshold else None
        reason = None
        if person is None and not self.error:
            reason = why_unknown(self.matches, threshold) + about_quality(self.quality)
        return Identification(**dict(self), person=person, score=score, threshold=threshold, reason=reason)


class Identification(SearchResult):
    """The person on a photo."""

    person: str | None  # None: unknown, or an error
    score: float | None  # of the best match
    threshold: float
    reason: str | None = None  # why the person is unknown


class IdentifiedFace(Record):
    """One face of a photo, and the person."""

    box: Box
    score: float | None  # the detector's
    person: str | None  # None: unknown
    matches: tuple[Match, ...]  # best first
    reason: str | None = None  # why the person is unknown
    quality: Quality | None = None
    threshold: float | None = None  # that decided; higher for a face of low quality

    @model_serializer(mode="wrap")
    def _flattened(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The box flattened to x, y, w and h."""
        facts = serialize(self)
        return {**facts.pop("box"), **facts}


class PhotoIdentification(Record):
    """Every face of one photo, the highest detection score first."""

    photo: str
    width: int = 0  # px of the photo, upright; 0: it could not be read
    height: int = 0
    searched: float | None = None  # px: side of the smallest face that a photo this large was searched for
    threshold: float
    faces: tuple[IdentifiedFace, ...] = ()
    error: str | None = None  # why it cannot be read


class GalleryStats(Record):
    """The contents of a gallery."""

    location: str
    signature: ModelSignature
    people: int
    entries: int
    crops: int
    revision: int
    threshold: Threshold | None
    advice: tuple[str, ...] = ()  # what would make the answers better

    @model_serializer
    def _as_printed(self) -> dict[str, Any]:
        counts = {"people": self.people, "entries": self.entries, "crops": self.crops, "revision": self.revision}
        facts = {"task": "stats", "gallery": self.location, **counts, **dict(self.signature)}
        return facts | {"calibrated": self.threshold, "advice": self.advice}


def why_unknown(matches: Sequence[Match], threshold: float) -> str:
    """The reason that a face is unknown."""
    if not matches:
        return "the gallery is empty, or no entry passes the filter"
    best = matches[0]
    return f"similarity {best.score:.4f} to the nearest match, {best.person}, is below the threshold {threshold:.4f}"


def threshold_of(quality: Quality | None, threshold: float, poor: float | None) -> float:
    """The threshold that decides about a face: the one for low quality where there is one."""
    return poor if poor is not None and quality is not None and quality.value < LOW else threshold


def about_quality(quality: Quality | None) -> str:
    """An addition to the reason that a face is unknown, where its quality is low; else nothing."""
    return f"; the face is of low quality, {quality.describe()}" if quality is not None and quality.value < LOW else ""


def assign_nearest(
    nearest: Callable[[Sequence[int], int], list[list[Match]]], limits: Sequence[float], k: int
) -> tuple[list[list[Match]], list[tuple[str | None, str | None]]]:
    """Find at least the k nearest people to each face of a photo, and assign as `assign` does from all people.

    A face whose people so far are all taken, though each reaches its threshold, is searched again for twice as many,
    unless everybody is assigned already by higher scores.

    Args:
        nearest: the given number of people nearest to some faces, best first. limits: the threshold of each face.
    """
    matches = nearest(range(len(limits)), k) if limits else []
    searched, people = [k] * len(limits), 0
    while True:
        answers = assign(matches, limits)
        again = [
            face
            for face, found in enumerate(matches)
            if answers[face][0] is None and len(found) == searched[face] and found[-1].score >= limits[face]
        ]
        if again:  # no more people than faces are all found by one search
            people = people or len(nearest(again[:1], len(limits) + 1)[0])
            chosen = [
                next(one.score for one in found if one.person == person)
                for found, (person, _) in zip(matches, answers, strict=True)
                if person is not None
            ]
            lowest = min(chosen) if len(chosen) == people else -math.inf
            again = [face for face in again if matches[face][-1].score >= lowest]
        if not again:
            return matches, answers
        k *= 2
        for face, found in zip(again, nearest(again, k), strict=True):
            matches[face], searched[face] = found, k


def assign(
    matches: Sequence[Sequence[Match]], threshold: float | Sequence[float], taken: Sequence[Collection[str]] = ()
) -> list[tuple[str | None, str | None]]:
    """Give each face of one photo or frame a person, each at most once, the highest similarity first.

    Args:
        threshold: of all faces, or one a face. taken: people whom each face cannot be.
    Returns:
        For each face the person, or None and the reason.
    """
    limits = [threshold] * len(matches) if isinstance(threshold, (int, float)) else threshold
    pairs = [(one.score, face, one.person) for face, found in enumerate(matches) for one in found]
    barred = taken or [()] * len(matches)
    people, held = dict[int, str](), set[str]()
    for score, face, person in sorted(pairs, key=lambda pair: (-pair[0], pair[1])):
        if score >= limits[face] and face not in people and person not in held and person not in barred[face]:
            people[face] = person
            held.add(person)
    answers: list[tuple[str | None, str | None]] = []
    for face, found in enumerate(matches):
        reason = why_unknown(found, limits[face])
        if found and found[0].score >= limits[face]:
            reason = f"{found[0].person} matches another face beside it better"
        answers.append((people[face], None) if face in people else (None, reason))
    return answers
