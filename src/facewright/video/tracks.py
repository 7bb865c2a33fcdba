"""Tracks: the faces of consecutive frames that are one person's.

Each face is assigned to the track with which overlap (at the place that the track's motion predicts) and similarity of
the vectors are highest in sum, over all pairs at once (Kuhn 1955), as DeepSORT does (Wojke, Bewley and Paulus, 2017),
without its Kalman filter. A face that was hidden is found again by its vector alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from facewright.faces.quality import Quality
from facewright.metrics.detection import iou
from facewright.metrics.thresholds import Threshold
from facewright.recognition import Face
from facewright.records import Count, Record

BEST = 8  # frames of a track that vote
RECENT = 0.5  # seconds for which the place of a lost face is predicted
OVERLAP = 0.2  # with the predicted place; less, and the vectors must be of one person
ENOUGH = 0.8  # overlap plus similarity


class TrackEvent(Record):
    """A face that is in a film for a time, and who it is."""

    event: Literal["seen", "ended"] = "ended"  # seen: of a camera or stream, while the face is still there
    source: str
    track: int
    person: str | None  # None: unknown
    score: float | None  # mean cosine of the best frames with `nearest`; None: the gallery is empty
    nearest: str | None  # the person; of an unknown face the nearest one
    threshold: float
    threshold_from: str
    reason: str | None = None  # why the person is unknown
    start: float  # seconds since the first frame
    end: float  # of the last frame so far
    frames: int  # with this face
    at: str | None = None  # the time of the start, UTC, of a camera or stream
    box: tuple[float, float, float, float]  # x, y, width, height in px, in the best frame
    quality: float  # in [0, 1], of the face in the best frame
    crop: str | None = None  # file of the best aligned face crop


class Watched(Record):
    """The counts of a film that was watched."""

    task: str = "watch"
    source: str
    gallery: str
    threshold: float
    threshold_from: str
    calibrated: Threshold | None  # None: the threshold was given
    decoded: Count  # frames
    searched: Count  # for faces
    dropped: Count = 0  # that came faster than they could be searched
    reconnects: Count = 0
    damaged: Count = 0  # packets that could not be decoded
    seconds: float  # of the film
    fps: float | None  # decoded frames a second of work; None: too short to tell
    events: Count = 0
    people: dict[str, int] = Field(default_factory=dict)  # events of each
    unknown: Count = 0
    short: Count = 0  # tracks of too few frames, for which there is no event
    broken: str | None = None  # why the source ended early


@dataclass(frozen=True, eq=False, order=False)
class Sighting:
    """A face in one frame."""

    face: Face
    vector: NDArray[np.float32]  # (D,) of length 1
    seconds: float
    quality: Quality


@dataclass(eq=False)
class Track:
    """One face over time; only its best sightings are kept."""

    number: int
    start: float  # seconds
    end: float = 0.0
    seen: int = 0  # frames
    box: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))  # the last, x, y, width, height in px
    speed: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))  # px a second
    last: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))  # vector
    beside: set[Track] = field(default_factory=set)  # seen in a frame with it, and not settled
    taken: set[str] = field(default_factory=set)  # people whom such tracks have turned out to be
    _best: list[tuple[float, int, Sighting]] = field(default_factory=list)

    @property
    def best(self) -> list[Sighting]:
        """Its sightings of the highest quality, best first."""
        return [one for _, _, one in sorted(self._best, key=lambda item: item[:2], reverse=True)]

    def vote(self) -> NDArray[np.float64]:
        """Compute the mean of the best sightings' vectors, (D,): its cosine with an entry, times its length, is the
        mean of their cosines, and the length is low where they do not agree."""
        mean: NDArray[np.float64] = np.mean([one.vector for one in self.best], axis=0, dtype=np.float64)
        return mean

    def add(self, sighting: Sighting) -> bool:
        """Add a sighting; return True if it is one of the best so far."""
        box = np.array(sighting.face.box)
        if self.seen and sighting.seconds > self.end:
            step = (box[:2] + box[2:] / 2) - (self.box[:2] + self.box[2:] / 2)
            self.speed = (self.speed + step / (sighting.seconds - self.end)) / 2
        self.box, self.end, self.seen, self.last = box, sighting.seconds, self.seen + 1, sighting.vector
        item = (sighting.quality.value, -self.seen, sighting)
        if len(self._best) < BEST:
            heapq.heappush(self._best, item)
            return True
        return heapq.heappushpop(self._best, item) is not item

    def settle(self, person: str | None) -> None:
        """Take leave of the tracks beside it, which are other people. None: it is unknown."""
        for other in self.beside:
            other.beside.discard(self)
            other.taken |= set() if person is None else {person}
        self.beside.clear()

    def predicted(self, seconds: float) -> NDArray[np.float64]:
        """Return the box that is expected at a time, (4,) px."""
        return np.concatenate([self.box[:2] + self.speed * min(seconds - self.end, RECENT), self.box[2:]])


class Tracker:
    """Assigns the faces of each frame to tracks.

    Args:
        same: cosine from which on two faces are one person's. linger: seconds without a face after which a track ends.
    """

    def __init__(self, same: float, linger: float = 2.0) -> None:
        self._same, self._linger = same, linger
        self._numbers = count(1)
        self.tracks: list[Track] = []

    def update(
        self,
        faces: Sequence[Face],
        vectors: NDArray[np.float32],
        qualities: Sequence[Quality],
        seconds: float,
        *,
        cut: bool = False,
    ) -> tuple[list[tuple[Track, bool]], list[Track]]:
        """Take the faces of the next frame.

        Args:
            faces: N. vectors: (N, D) of length 1. qualities: N. seconds: of the frame. cut: another shot has begun.
        Returns:
            The track of each face, and whether it is one of the track's best; and the tracks that have ended.
        """
        ended = self.finish() if cut else []
        ended += [track for track in self.tracks if seconds - track.end > self._linger]
        self.tracks = [track for track in self.tracks if seconds - track.end <= self._linger]
        assigned = self._assign(faces, vectors, seconds)
        results = []
        for place, (face, vector, quality) in enumerate(zip(faces, vectors, qualities, strict=True)):
            track = assigned.get(place)
            if track is None:
                track = Track(next(self._numbers), seconds)
                self.tracks.append(track)
            results.append((track, track.add(Sighting(face, vector, seconds, quality))))
        for track, _ in results:
            track.beside |= {other for other, _ in results if other is not track}
        return results, ended

    def finish(self) -> list[Track]:
        """End all tracks, and return them."""
        ended, self.tracks = self.tracks, []
        return ended

    def _assign(self, faces: Sequence[Face], vectors: NDArray[np.float32], seconds: float) -> dict[int, Track]:
        if not faces or not self.tracks:
            return {}
        from scipy.optimize import linear_sum_assignment

        means = np.stack([track.vote() / max(float(np.linalg.norm(track.vote())), 1e-9) for track in self.tracks])
        cosines = np.maximum(means @ vectors.T, np.stack([track.last for track in self.tracks]) @ vectors.T)  # (T, N)
        similar = np.clip(1 - (self._same - cosines) / max(1 - self._same, 1e-9), 0, 1)
        overlap = iou(
            np.stack([track.predicted(seconds) for track in self.tracks]), np.array([face.box for face in faces])
        )
        overlap[[seconds - track.end > RECENT for track in self.tracks]] = 0
        near = (overlap >= OVERLAP) & (overlap + similar >= ENOUGH)
        allowed = near | (cosines >= self._same)
        rows, columns = linear_sum_assignment(np.where(allowed, overlap + similar, 0), maximize=True)
        return {int(face): self.tracks[row] for row, face in zip(rows, columns, strict=True) if allowed[row, face]}
