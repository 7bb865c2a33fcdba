"""Tracks: which face of the next frame is whose."""

from __future__ import annotations

import numpy as np
import pytest

from facewright.faces.quality import Quality
from facewright.faces.selection import Face
from facewright.video.tracks import BEST, Sighting, Track, Tracker

SAME = 0.5
ANN, BO = np.eye(4, dtype=np.float32)[:2]


def face(left: float) -> Face:
    return Face((left, 20.0, 50.0, 50.0), 0.9, np.zeros((0, 2)), np.zeros((4, 4, 3), np.uint8))


def quality(value: float) -> Quality:
    return Quality(value=value, size=None, sharpness=value, pose=None, score=None)


def run(tracker: Tracker, *frames: tuple[float, list[tuple[float, np.ndarray]]]) -> list[list[int]]:
    """The track's number of each face of each frame."""
    numbers = []
    for seconds, faces in frames:
        vectors = np.array([vector for _, vector in faces], np.float32).reshape(len(faces), 4)
        found, _ = tracker.update([face(left) for left, _ in faces], vectors, [quality(1)] * len(faces), seconds)
        numbers.append([track.number for track, _ in found])
    return numbers


def test_two_people_cross_and_one_is_hidden() -> None:
    frames = []
    for step in range(21):  # Ann to the right, Bo to the left; where they meet, only Bo is seen
        a, b = 10.0 * step, 200 - 10.0 * step
        frames.append((step / 10, [(b, BO)] if abs(a - b) < 50 else [(a, ANN), (b, BO)]))
    numbers = run(Tracker(SAME), *frames)
    assert {tuple(one) for one in numbers} == {(1, 2), (2,)}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [  # seconds, (left, vector) of each face -> numbers
        ([(0, [(0, ANN)]), (0.1, [(5, BO)])], [[1], [1]]),  # turned away: the place is enough
        ([(0, [(0, ANN)]), (0.1, [(30, BO)])], [[1], [2]]),  # a third of it is not
        ([(0, [(0, ANN)]), (0.1, [(300, ANN)])], [[1], [1]]),  # the vector is
        ([(0, [(0, ANN)]), (1.0, [(0, BO)])], [[1], [2]]),  # too late for the place
        ([(0, [(0, ANN)]), (1.0, [(0, ANN)])], [[1], [1]]),
        ([(0, [(0, ANN)]), (2.5, [(0, ANN)])], [[1], [2]]),  # has ended
        ([(0, [(0, ANN), (60, BO)]), (0.1, [(50, BO), (10, ANN)])], [[1, 2], [2, 1]]),
        ([(0, [(0, ANN)]), (0.1, []), (0.2, [(0, ANN), (0, ANN)])], [[1], [], [1, 2]]),  # one face a frame
    ],
)
def test_the_track_of_each_face(frames: list, expected: list[list[int]]) -> None:
    assert run(Tracker(SAME), *frames) == expected


def test_a_cut_and_the_end_end_all_tracks() -> None:
    tracker = Tracker(SAME)
    run(tracker, (0, [(0, ANN), (100, BO)]))
    _, ended = tracker.update([face(0)], ANN[None], [quality(1)], 0.1, cut=True)
    assert [track.number for track in ended] == [1, 2] and [track.number for track in tracker.finish()] == [3]
    assert tracker.finish() == []


def test_the_best_sightings_vote() -> None:
    draws = np.random.default_rng(0)
    vectors = draws.normal(size=(BEST + 5, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    values = draws.permutation(np.linspace(0.1, 0.9, BEST + 5))
    track = Track(1, 0.0)
    for place, (vector, value) in enumerate(zip(vectors, values, strict=True)):
        kept = track.add(Sighting(face(0), vector, place / 10, quality(value)))
        assert kept == (value in sorted(values[: place + 1])[-BEST:])
    largest = np.argsort(-values)[:BEST]
    assert [one.quality.value for one in track.best] == pytest.approx(values[largest].tolist())
    probe = np.array([0.5, 0.5, 0.5, 0.5])
    assert track.vote() @ probe == pytest.approx(np.mean([vectors[k] @ probe for k in largest]), abs=1e-6)
    assert track.seen == BEST + 5 and track.end == pytest.approx((BEST + 4) / 10)
