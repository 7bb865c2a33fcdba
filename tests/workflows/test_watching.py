"""`watch`: tracks, votes, events, counts; and that no frame is kept."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facewright import images
from facewright.cli.main import main
from facewright.errors import UsageError
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo
from facewright.recognition import Recognizer
from facewright.video.frames import Frame, Reading, read
from facewright.video.tracks import Sighting, Track, TrackEvent
from facewright.workflows import watching
from facewright.workflows.watching import watch
from fixtures.faces import draw_people, saved
from fixtures.films import beside, write_film
from fixtures.tiles import stand_in

pytest.importorskip("av")
THRESHOLD = 0.9999


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """person_00 and person_01 of three people."""
    stand_in(monkeypatch)
    folder = draw_people(tmp_path / "photos", people=3, photos=2)
    made = Gallery.open(tmp_path / "g.gallery", saved(tmp_path), detector="dlib")
    made.enroll([Photo.of(folder / f"person_0{who}/0.png", f"person_0{who}") for who in (0, 1)])
    return made


@pytest.fixture
def film(gallery: Gallery, tmp_path: Path) -> Path:
    """person_00 beside the unknown one, who moves; after a cut person_01; at last somebody for one frame."""
    a, b, c = (tmp_path / f"photos/person_0{who}/0.png" for who in (0, 1, 2))
    first = [beside(a, c, 0)] * 3 + [beside(a, 0, c)] * 2
    second = [beside(255, b, grey=255)] * 4 + [beside(c, b, grey=255)]
    return write_film(tmp_path / "film.mkv", first + second)


def test_one_event_a_track(gallery: Gallery, film: Path, tmp_path: Path) -> None:
    events: list[TrackEvent] = []
    watched = watch(film, gallery, threshold=THRESHOLD, crops=tmp_path / "crops", on_track=events.append)
    assert [(event.person, event.start, event.end, event.frames) for event in events] == [
        ("person_00", 0.0, 0.4, 5),
        (None, 0.0, 0.4, 5),
        ("person_01", 0.5, 0.9, 5),
    ]
    assert events[0].score == pytest.approx(1, abs=1e-5) and events[0].threshold_from == "given"
    assert events[1].reason is not None and "below" in events[1].reason and events[1].nearest is not None
    assert events[0].crop is not None and images.read(events[0].crop).shape == (40, 40, 3)
    assert Path(events[0].crop).stat().st_mode & 0o777 == 0o600
    assert (watched.people, watched.unknown, watched.short) == ({"person_00": 1, "person_01": 1}, 1, 1)
    assert (watched.decoded, watched.searched, watched.damaged, watched.broken) == (10, 10, 0, None)


def test_the_score_is_the_mean_of_the_cosines(gallery: Gallery, tmp_path: Path) -> None:
    photos = [tmp_path / f"photos/person_00/{number}.png" for number in (0, 1)]
    film = write_film(tmp_path / "two.mkv", [beside(photo) for photo in photos for _ in range(2)])
    events: list[TrackEvent] = []
    watch(film, gallery, threshold=-1.0, on_track=events.append)
    scores = [gallery.search([photo])[0].matches[0].score for photo in photos]
    assert events[0].score == pytest.approx(np.mean(scores), abs=1e-5) and events[0].frames == 4


@pytest.mark.parametrize("leaves", [None, 0, 1])
def test_a_person_is_in_a_frame_once(gallery: Gallery, tmp_path: Path, leaves: int | None) -> None:
    """person_00 and a face that is like them, side by side; one of the two leaves first, or none."""
    tiles: list[Path | int] = [tmp_path / f"photos/person_00/{number}.png" for number in (0, 1)]
    gallery.delete(["person_01"])
    frames = [beside(*tiles)] * 4
    if leaves is not None:
        tiles[leaves] = 0
        frames += [beside(*tiles)] * 4
    events: list[TrackEvent] = []
    watch(write_film(tmp_path / "two.mkv", frames), gallery, threshold=0.5, linger=0.15, on_track=events.append)
    found = {event.box[0]: event for event in events}
    assert found[0.0].person == "person_00" and found[0.0].score == pytest.approx(1, abs=1e-5)
    assert found[40.0].person is None and found[40.0].score is not None and found[40.0].score >= 0.5
    assert "beside" in (found[40.0].reason or "") and len(events) == 2


def test_faces_of_a_frame_are_different_people(gallery: Gallery, tmp_path: Path) -> None:
    tiles = [tmp_path / f"photos/person_00/{number}.png" for number in (0, 1)]
    events: list[TrackEvent] = []
    watch(write_film(tmp_path / "two.mkv", [beside(*tiles)] * 4), gallery, threshold=-1.0, on_track=events.append)
    scores = {match.person: match.score for match in gallery.search([tiles[1]])[0].matches}
    assert [event.person for event in events] == ["person_00", "person_01"] == [event.nearest for event in events]
    assert events[1].score == pytest.approx(scores["person_01"], abs=1e-2) and scores["person_00"] > events[1].score
    events.clear()
    frames = [beside(tiles[0])] * 3 + [beside(0)] * 3 + [beside(tiles[0])] * 3
    watch(write_film(tmp_path / "again.mkv", frames), gallery, threshold=0.5, linger=0.15, on_track=events.append)
    assert [event.person for event in events] == ["person_00"] * 2  # not in one frame


def test_no_frame_is_kept(gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[int] = []
    seen: list[weakref.ref[np.ndarray]] = []
    find = Recognizer.faces

    def faces(self: Recognizer, photo: np.ndarray, **options: Any) -> Any:
        seen.append(weakref.ref(photo))
        alive.append(sum(one() is not None for one in seen))
        return find(self, photo, **options)

    monkeypatch.setattr(Recognizer, "faces", faces)
    photo = tmp_path / "photos/person_00/0.png"
    film = write_film(tmp_path / "long.mkv", (beside(photo) for _ in range(60)))
    assert watch(film, gallery, threshold=THRESHOLD).searched == 60
    assert max(alive) <= 2


def test_what_is_kept_of_a_camera_does_not_grow(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person stays for hours, and others come and go beside it."""
    stays, *others = (tmp_path / f"photos/person_0{who}/0.png" for who in (0, 1, 2))
    alone, passing = beside(stays, 0), [beside(stays, other) for other in others]
    held: list[int] = []

    def frames(*_: object) -> Iterator[Frame]:
        for number in range(121):
            if number % 40 == 0:
                gc.collect()
                held.append(sum(type(one) in {Track, Sighting, Frame} for one in gc.get_objects()))
            yield Frame(number, number / 10, (alone if number % 10 < 6 else passing[number // 10 % 2]).copy(), False)

    monkeypatch.setattr(watching, "opener", lambda source: None)
    monkeypatch.setattr(watching.Live, "frames", frames)
    watched = watch("camera", gallery, threshold=THRESHOLD, linger=0.3)
    assert watched.events >= 10 and held[1] > 0
    assert held[1:] == [held[1]] * 3


def test_every_and_duration(gallery: Gallery, film: Path) -> None:
    watched = watch(film, gallery, threshold=THRESHOLD, every=2, duration=0.45)
    assert (watched.searched, watched.people, watched.seconds) == (3, {"person_00": 1}, 0.4)


def test_a_model_without_a_detector_is_refused(film: Path, tmp_path: Path) -> None:
    whole = Gallery.open(tmp_path / "whole.gallery", tmp_path / "model.safetensors")
    with whole, pytest.raises(UsageError, match="--detector"):
        watch(film, whole, threshold=0.5)


def test_the_command(gallery: Gallery, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery.close()
    words = ["watch", str(film), "-g", str(tmp_path / "g.gallery"), "--threshold", str(THRESHOLD), "-q"]
    assert main([*words, "--out", str(tmp_path / "events.jsonl")]) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines()[0].startswith("0.00-0.40 s: person_00 (1.0000 >= 0.9999, 5 frames)")
    assert "3 events of 2 people, 1 unknown; 1 short track without an event" in out.splitlines()[-1]
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["person"] for event in events] == ["person_00", None, "person_01"]
    assert Path(events[0]["crop"]).parent.name == "events-crops"
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["task"] == "watch" and facts["people"] == {"person_00": 1, "person_01": 1}
    assert main([*words, "--device", "tpu"]) != 0 and "tpu" in capsys.readouterr().err
    assert main(["watch", str(tmp_path / "none.mp4"), *words[2:]]) == 1
    assert capsys.readouterr().err.startswith("error:")
    assert main(words[:-3]) == 1  # two people: no default threshold
    assert "gallery calibrate" in capsys.readouterr().err


def test_the_film_with_names(gallery: Gallery, film: Path, tmp_path: Path) -> None:
    watch(film, gallery, threshold=THRESHOLD, draw=tmp_path / "named.mp4")
    before, drawn = (list(read(path, Reading())) for path in (film, tmp_path / "named.mp4"))
    assert len(drawn) == 10 and drawn[0].pixels.shape == before[0].pixels.shape
    assert [frame.seconds for frame in drawn] == pytest.approx([frame.seconds for frame in before], abs=1e-3)
    amber = np.abs(drawn[4].pixels.astype(int) - (255, 176, 0)).max(axis=2) < 60
    assert amber[:, :120].sum() > 100 and not amber[:, 200:].any()


def test_a_camera_is_watched_until_it_is_stopped(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = beside(tmp_path / "photos/person_00/0.png")

    def frames(*_: object, **__: object) -> Iterator[Frame]:
        yield from (Frame(number, 0.0, image, False) for number in range(5))
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "opener", lambda source: None)
    monkeypatch.setattr(watching.Live, "frames", frames)
    events: list[TrackEvent] = []
    watched = watch("camera", gallery, threshold=THRESHOLD, on_track=events.append)
    assert watched.broken == "stopped" and watched.people == {"person_00": 1}
    assert [(event.event, event.frames, event.person) for event in events] == [
        ("seen", 3, "person_00"),
        ("ended", 5, "person_00"),
    ]
    assert all(event.at is not None for event in events)


def test_an_unknown_face_before_a_camera_becomes_a_person(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other, known = (beside(tmp_path / f"photos/person_00/{number}.png") for number in (1, 0))
    cosine = gallery.search([tmp_path / "photos/person_00/1.png"])[0].matches[0].score
    faces = [other] * 3 + [known] * 20
    frames = [Frame(number, number / 10, face, False) for number, face in enumerate(faces)]
    monkeypatch.setattr(watching, "opener", lambda source: None)
    monkeypatch.setattr(watching.Live, "frames", lambda self: iter_closing(frames))
    events: list[TrackEvent] = []
    threshold = (1 + cosine) / 2
    watch("camera", gallery, threshold=threshold, on_track=events.append)
    assert [(event.event, event.person) for event in events] == [
        ("seen", None),
        ("seen", "person_00"),
        ("ended", "person_00"),
    ]
    gallery.close()
    words = ["-g", str(tmp_path / "g.gallery"), "--threshold", str(threshold), "-q"]
    assert main(["watch", "camera", *words]) == 0
    assert ["seen" in line for line in capsys.readouterr().out.splitlines()] == [True, True, False, False]


def iter_closing(frames: list[Frame]) -> Iterator[Frame]:
    yield from frames
