"""The results of `facewright watch`: an event for each track, and the counts of a source."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from facewright.metrics.thresholds import Threshold
from facewright.records import Count, Record


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
