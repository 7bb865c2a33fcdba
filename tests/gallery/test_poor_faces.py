"""The threshold for faces of low quality: counted on poor copies of enrolled crops, and used for poor probes alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright import images
from facewright.cli.main import main
from facewright.faces.quality import LOW, SHARP, relative_sharpness
from facewright.gallery import calibration
from facewright.gallery.calibration import poor_copy, poor_searches, poor_threshold
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo
from facewright.video.tracks import TrackEvent
from facewright.workflows import galleries
from facewright.workflows.watching import watch
from fixtures.faces import draw_people, saved
from fixtures.films import beside, write_film
from fixtures.tiles import stand_in


@pytest.fixture
def gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    stand_in(monkeypatch)
    photos = draw_people(tmp_path / "photos", people=12, photos=2)
    made = Gallery.open(tmp_path / "g.gallery", saved(tmp_path), detector="dlib")
    galleries.enroll(made, galleries.photos_of([str(photos)])[0], keep_crops=True)
    return made


def test_a_poor_copy_is_poor_and_keeps_the_size(gallery: Gallery) -> None:
    crop = images.read(gallery.store.crop(1) or b"")
    copy = poor_copy(crop, 3.0)
    assert copy is not None and copy.shape == crop.shape
    assert relative_sharpness(copy) / SHARP < LOW <= relative_sharpness(crop) / SHARP
    noise = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
    assert poor_copy(noise, 3.0) is None  # too few pixels to blur
    gallery.close()


def test_the_threshold_is_counted_by_searching_among_the_others(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "poor_copy", lambda crop, factor: crop)  # so that scores can be recomputed
    best = poor_searches(gallery.store, gallery.recognizer)
    rows = list(gallery.store.rows())
    vectors = {row.number: row.entry.vector.astype(float) for row in rows}
    expected = [
        max(vectors[row.number] @ vectors[other.number] for other in rows if other.entry.person != row.entry.person)
        for row in rows
    ]
    np.testing.assert_allclose(np.sort(best), np.sort(expected), atol=1e-5)
    chosen = poor_threshold(gallery.store, gallery.recognizer, 0.25, None, -1.0)
    assert chosen is not None and chosen[1] == 24 and (best >= chosen[0]).sum() == 6
    strict = poor_threshold(gallery.store, gallery.recognizer, 0.01, 0.9, -1.0)  # 24 searches cannot show 1 %
    assert strict is not None and (best >= strict[0]).sum() == 0
    high = poor_threshold(gallery.store, gallery.recognizer, 0.5, None, 0.99999)
    assert high is not None and high[0] == 0.99999
    monkeypatch.setattr(calibration, "FEWEST", 25)
    assert poor_threshold(gallery.store, gallery.recognizer, 0.25, None, -1.0) is None
    gallery.close()


def test_a_poor_face_needs_its_own_threshold(
    gallery: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = gallery.calibrate(0.9)
    assert chosen.poor_value is not None and chosen.poor_value >= chosen.value
    gallery.store.set_threshold(chosen.replace(value=-1.0, poor_value=2.0).to_dict())
    sharp = images.read(tmp_path / "photos/person_00/0.png")
    blurred = np.tile(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None], (1, 40, 3))
    good, poor = gallery.identify([Photo.of(sharp), Photo.of(blurred)])
    assert good.person == "person_00" and good.threshold == -1 and poor.person is None and poor.threshold == 2
    both = gallery.identify_faces(np.concatenate([sharp, blurred], axis=1))
    assert [(face.person, face.threshold) for face in both.faces] == [("person_00", -1), (None, 2)]
    assert gallery.identify([Photo.of(blurred)], threshold=-1.0)[0].person is not None  # a given one holds for all
    location = gallery.store.location
    pytest.importorskip("av")
    Image.fromarray(blurred).save(tmp_path / "blurred.png")
    frame = beside(tmp_path / "photos/person_00/0.png", 0, tmp_path / "blurred.png")
    film, events = write_film(tmp_path / "film.mkv", [frame] * 3), list[TrackEvent]()
    watch(film, gallery, on_track=events.append)
    assert [(event.person, event.threshold) for event in events] == [("person_00", -1), (None, 2)]
    events.clear()
    watch(film, gallery, threshold=-1.0, on_track=events.append)
    assert all(event.person is not None and event.threshold == -1 for event in events)
    gallery.close()
    assert main(["gallery", "identify", "-g", location, str(tmp_path / "photos/person_00/0.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["photos"][0]["person"] == "person_00"
    assert main(["gallery", "calibrate", "-g", location, "--fpir", "0.9"]) == 0
