"""The people in a film or before a camera: an event for each track of a face.

film → frames → faces → tracks → the best frames of a track vote → who, or unknown

A track's score with a person is the mean cosine of its best frames with that person's nearest photo: a search with the
mean of their vectors, times the length of the mean. A track whose best frame is of low quality needs the gallery's
threshold for such faces, where there is one, as in `gallery identify`. Of the tracks that share a frame each is another
person. Frames are not kept, and of a track only its best faces are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np

from facewright.errors import UsageError
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.files import write_atomic
from facewright.gallery.entries import Match
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import about_quality, assign, threshold_of
from facewright.images import png_of
from facewright.metrics.thresholds import Threshold
from facewright.video.frames import FilmWriter, Frame, Live, Reading, is_live, opener, read, shown, writing
from facewright.video.tracks import Track, Tracker, TrackEvent, Watched

SMALLEST = 30.0  # px: side of a face
LINGER = 2.0  # seconds
MIN_FRAMES = 3  # of a track; a wrong detection seldom lasts longer
PRIVATE = 0o600


OnTrack = Callable[[TrackEvent], None]


def watch(
    source: str | Path,
    gallery: Gallery,
    *,
    threshold: float | None = None,
    every: int = 1,
    smallest: float = SMALLEST,
    linger: float = LINGER,
    min_frames: int = MIN_FRAMES,
    duration: float | None = None,
    crops: str | Path | None = None,
    draw: str | Path | None = None,
    on_track: OnTrack = lambda event: None,
    on_event: EventHandler = ignore_event,
) -> Watched:
    """Track the faces of a film and identify each track.

    Args:
        source: a film, "camera" or "camera:N", rtsp://…, tcp://… or http(s)://… of MPEG-TS or MJPEG. A camera or stream
            is watched until Ctrl-C or `duration`.
        gallery: the enrolled people; its model needs a detector.
        threshold: mean cosine from which on a track is a person; None: the gallery's, see `Gallery.decision_threshold`.
        every: search each N-th frame only.
        smallest: px: side of the smallest face.
        linger: seconds that a face may be hidden.
        min_frames: of a track that counts.
        duration: seconds after which to stop; None: the whole film.
        crops: folder for the best face crop of each track; None: none is written.
        draw: the film to write, .mp4: the searched frames with a box and the name at each face.
        on_track: receives each track's event when the track has ended; of a camera or stream also one when the face has
            been seen in `min_frames` frames, and one when an unknown face becomes a person.
        on_event: receives the progress.
    Raises:
        DataError: the source cannot be opened, or holds no frame. UsageError: no such source, or the gallery's model
        takes photos whole. Undefined: no threshold is given, and the gallery has none.
    """
    if gallery.recognizer.takes_photos_whole:
        raise UsageError(
            f"{gallery.store.location}: its model takes each photo as one face, so it cannot find faces in a film; "
            "enroll the people again with --detector"
        )
    reading = Reading()
    calibrated = None if threshold is not None else gallery.decision_threshold()
    value = calibrated.value if calibrated is not None else threshold
    assert value is not None
    watcher = _Watcher(
        shown(source), gallery, value, calibrated, Tracker(value, linger), smallest, min_frames,
        None if crops is None else Path(crops), on_track, datetime.now(UTC) if is_live(source) else None,
    )  # fmt: skip
    with (
        closing(_frames(source, reading, every, duration, on_event)) as frames,
        writing(None if draw is None else Path(draw)) as film,
    ):
        watcher.film = film
        return watcher.run(frames, reading, duration, on_event)


def _frames(
    source: str | Path, reading: Reading, every: int, duration: float | None, on_event: EventHandler
) -> Generator[Frame]:
    if not is_live(source):
        return read(source, reading, every=every)
    connect = opener(source)
    name = f"{shown(source)}: "
    say = lambda line: on_event(Message(name + line.replace(name, "")))  # noqa: E731
    return Live(lambda: read(source, reading, every=every, open_=connect), reading, say, duration=duration).frames()


@dataclass
class _Watcher:
    """The state while one source is watched."""

    source: str  # as it is shown
    gallery: Gallery
    value: float  # the threshold
    calibrated: Threshold | None  # None: the threshold was given
    tracker: Tracker
    smallest: float
    min_frames: int
    crops: Path | None
    on_track: OnTrack
    begun: datetime | None  # None: a film
    film: FilmWriter | None = None
    events: int = 0
    short: int = 0
    searched: int = 0
    seconds: float = 0.0
    people: Counter[str] = field(default_factory=Counter)
    names: dict[int, str] = field(default_factory=dict)  # of the tracks that are drawn
    seen: dict[int, str | None] = field(default_factory=dict)  # the person told of a track that has not ended, live

    @property
    def origin(self) -> str:
        """The origin of the threshold."""
        return "given" if self.calibrated is None else _origin_of(self.calibrated)

    def run(self, frames: Iterable[Frame], reading: Reading, duration: float | None, on_event: EventHandler) -> Watched:
        begun = time.monotonic()
        try:
            for frame in frames:
                if duration is not None and frame.seconds > duration:
                    break
                self.take(frame)
                on_event(Progress("watching", frame.number, max(reading.frames, frame.number + 1)))
        except KeyboardInterrupt:
            reading.broken = "stopped"
        self.tell(self.tracker.finish())
        took = time.monotonic() - begun
        return Watched(
            source=self.source,
            gallery=self.gallery.store.location,
            threshold=self.value,
            threshold_from=self.origin,
            calibrated=self.calibrated,
            decoded=reading.decoded,
            searched=self.searched,
            dropped=reading.dropped,
            reconnects=reading.reconnects,
            damaged=reading.damaged,
            seconds=self.seconds,
            fps=reading.decoded / took if took > 0 else None,
            events=self.events,
            people=dict(self.people.most_common()),
            unknown=self.events - self.people.total(),
            short=self.short,
            broken=reading.broken,
        )

    def take(self, frame: Frame) -> None:
        """Find the faces of a frame, and give them to the tracks."""
        self.searched, self.seconds = self.searched + 1, frame.seconds
        faces = self.gallery.recognizer.faces(frame.pixels, smallest=self.smallest)
        vectors, qualities = self.gallery.recognizer.embed_with_quality(faces)
        tracked, ended = self.tracker.update(faces, vectors, qualities, frame.seconds, cut=frame.cut)
        self.tell(ended)
        if self.begun is not None:
            self.tell_seen(tracked)
        if self.film is not None:
            self.draw(self.film, frame, tracked)

    def draw(self, film: FilmWriter, frame: Frame, tracked: Sequence[tuple[Track, bool]]) -> None:
        """Add a frame with the names that the tracks have so far."""
        from facewright.report.faces import draw_boxes

        for track, changed in tracked:
            if changed:
                self.names[track.number] = self.decide(track)[0] or "unknown"
        alive = {track.number for track in self.tracker.tracks}
        self.names = {number: name for number, name in self.names.items() if number in alive}
        labels = [self.names[track.number] for track, _ in tracked]
        film.add(draw_boxes(frame.pixels, [track.box for track, _ in tracked], labels), frame.seconds)

    def tell(self, ended: Iterable[Track]) -> None:
        """Identify tracks that have ended."""
        for track in ended:
            self.seen.pop(track.number, None)
            if track.seen < self.min_frames:
                self.short += 1
                track.settle(None)
                continue
            event = self.identify(track, "ended")
            track.settle(event.person)
            self.events += 1
            if event.person is not None:
                self.people[event.person] += 1
            self.on_track(event)

    def tell_seen(self, tracked: Iterable[tuple[Track, bool]]) -> None:
        """Tell who is there: when a face has been seen in enough frames, and when an unknown one becomes a person."""
        for track, changed in tracked:
            new = track.number not in self.seen
            if track.seen < self.min_frames or not (new or (changed and self.seen[track.number] is None)):
                continue
            person = self.decide(track)[0]
            if new or person is not None:
                self.seen[track.number] = person
                self.on_track(self.identify(track, "seen"))

    def decide(self, track: Track) -> tuple[str | None, str | None, Match | None]:
        """Let the best frames of a track vote, and those of the tracks that share a frame with it, as other people.

        Returns:
            The person, or None and the reason; and the match with that person, or the nearest one.
        """
        beside = sorted(track.beside, key=lambda other: other.number)
        group = [track, *(other for other in beside if other.seen >= self.min_frames)]
        means = np.stack([one.vote() for one in group])
        lengths = np.linalg.norm(means, axis=1)
        vectors = (means / np.maximum(lengths, 1e-9)[:, None]).astype(np.float32)
        count = len(group) + max(len(one.taken) for one in group)  # so that a track whose person is taken has others
        votes = [
            [match.model_copy(update={"score": match.score * float(length)}) for match in found]
            for found, length in zip(self.gallery.store.nearest(vectors, count, {}), lengths, strict=True)
        ]
        person, reason = assign(votes, list(map(self.limit, group)), [one.taken for one in group])[0]
        return person, reason, next((one for one in votes[0] if person in (one.person, None)), None)

    def limit(self, track: Track) -> float:
        """Return the threshold for a track, by the quality of its best frame."""
        poor = None if self.calibrated is None else self.calibrated.poor_value
        return threshold_of(track.best[0].quality, self.value, poor)

    def identify(self, track: Track, event: Literal["seen", "ended"]) -> TrackEvent:
        """Identify a track, and write its crop."""
        person, reason, best = self.decide(track)
        face, quality, crop = track.best[0].face, track.best[0].quality, None
        if self.crops is not None:
            self.crops.mkdir(mode=0o700, parents=True, exist_ok=True)
            crop = self.crops / f"track-{track.number:06d}.png"
            write_atomic(crop, png_of(face.chip), mode=PRIVATE)
        return TrackEvent(
            event=event,
            source=self.source,
            track=track.number,
            person=person,
            score=None if best is None else best.score,
            nearest=None if best is None else best.person,
            threshold=self.limit(track),
            threshold_from=self.origin,
            reason=None if reason is None else reason + about_quality(quality),
            quality=quality.value,
            start=round(track.start, 3),
            end=round(track.end, 3),
            frames=track.seen,
            at=None if self.begun is None else (self.begun + timedelta(seconds=track.start)).isoformat(),
            box=face.box,
            crop=None if crop is None else str(crop),
        )


def _origin_of(threshold: Threshold) -> str:
    asked = "" if threshold.far_target is None else f"{threshold.purpose}, error rate {threshold.far_target:g}, "
    return f"{asked}chosen on {threshold.data}"
