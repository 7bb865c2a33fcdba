"""What people do with a gallery over time: copies, other spellings, group photos, names that change, old entries."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.cli.main import main
from facewright.errors import Undefined, UsageError
from facewright.gallery import store
from facewright.gallery.calibration import DEFAULT_FPIR
from facewright.gallery.entries import Match
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo, assign, assign_nearest
from facewright.recognition import Recognizer
from facewright.workflows import galleries
from fixtures.faces import draw_people, saved
from fixtures.tiles import beside, stand_in


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stand_in(monkeypatch)
    return draw_people(tmp_path / "photos", people=4, photos=3)


@pytest.fixture(params=["sqlite", "postgres"])
def gallery(request: pytest.FixtureRequest, photos: Path, tmp_path: Path) -> Gallery:
    """All people of `photos`."""
    location = tmp_path / "g.gallery" if request.param == "sqlite" else request.getfixturevalue("server").address()
    made = Gallery.open(location, saved(tmp_path), detector="dlib")
    galleries.enroll(made, galleries.photos_of([str(photos)])[0])
    return made


def test_a_copy_under_another_name_is_told(gallery: Gallery, photos: Path) -> None:
    result = gallery.enroll([Photo.of(photos / "person_01/0.png", "Somebody")])
    similar = result.photos[0].similar
    assert similar is not None and similar.person == "person_01" and similar.score == pytest.approx(1, abs=1e-5)
    assert gallery.enroll([Photo.of(photos / "person_01/0.png", "person_01")]).photos[0].similar is not None
    gallery.close()


def test_other_spellings_of_a_name(gallery: Gallery, photos: Path) -> None:
    composed = "José"
    decomposed = unicodedata.normalize("NFD", composed)
    gallery.store.rename(["person_00"], decomposed)  # as version 0.1 enrolled it
    assert gallery.enroll([Photo.of(photos / "person_00/0.png", composed)]).new == 0  # one person
    assert "JOSÉ" in gallery.enroll([Photo.of(photos / "person_01/0.png", "JOSÉ")]).warnings[0]
    with pytest.raises(UsageError, match="JOSÉ"):
        gallery.delete(["josé"])
    assert gallery.delete([composed]) == 3 and decomposed not in gallery.people()
    gallery.close()


def test_renamed_merged_and_advised(gallery: Gallery) -> None:
    assert gallery.rename("person_00", "Ann") == 3
    with pytest.raises(UsageError, match="Ann"):
        gallery.rename("person_01", "Ann")
    assert gallery.merge(["person_01", "person_02"], into="Ann") == 6
    assert gallery.people() == {"Ann": 9, "person_03": 3}
    gallery.delete(numbers=[next(gallery.store.rows(["person_03"])).number])
    assert "person_03" in gallery.stats().advice[0]
    with pytest.raises(UsageError, match="Nobody"):
        gallery.merge(["Nobody"], into="Ann")
    gallery.close()


def test_old_entries_expire(gallery: Gallery, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.provenance, "now", lambda: "2001-01-01T00:00:00+00:00")
    old = gallery.enroll([Photo.of(photos / "person_01/0.png", "Old")])
    assert old.new == 1
    result = gallery.expire(timedelta(days=365), at=datetime(2020, 1, 1, tzinfo=UTC))
    assert (result.entries, result.unknown) == (1, 0) and "Old" not in gallery.people() and len(gallery.people()) == 4
    assert [one.action for one in gallery.store.log()][-1] == "expire"
    gallery.close()


def test_poor_faces_are_left_out(gallery: Gallery, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blurred = Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8)[:, None, None], (1, 40, 3)))
    sharp = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    result = gallery.enroll([Photo("a", blurred, "Ann"), Photo("b", sharp, "Ann")], min_quality=0.2)
    assert [one.path for one in result.failed] == ["a"] and "0.2" in result.failed[0].reason
    assert [one.photo for one in result.photos] == ["b"]
    assert result.photos[0].quality is not None and result.photos[0].quality.value > 0.2
    found = gallery.identify([Photo.of(blurred)], threshold=2.0)[0]
    assert found.quality is not None and found.quality.value < 0.2 and found.quality.describe() in (found.reason or "")
    with pytest.raises(UsageError):
        gallery.enroll([], min_quality=1.1)
    path = photos / "blurred.png"
    blurred.save(path)
    location = gallery.store.location
    gallery.close()
    if "://" not in location:
        assert main(["gallery", "enroll", "-g", location, "Ann", str(path), "--min-quality", "0.5"]) == 1
        assert "quality" in capsys.readouterr().err


def match(person: str, score: float) -> Match:
    return Match(person=person, score=score, number=1, photo="", metadata={})


ASSIGNED = [  # the matches of each face -> the people
    ([[match("a", 0.9)], [match("a", 0.8), match("b", 0.7)]], ["a", "b"]),
    ([[match("a", 0.8)], [match("a", 0.9)]], [None, "a"]),
    ([[match("a", 0.8), match("b", 0.75)], [match("a", 0.9), match("b", 0.85)]], ["b", "a"]),
    ([[match("a", 0.5)], []], [None, None]),
    ([], []),
]


@pytest.mark.parametrize(("matches", "people"), ASSIGNED)
def test_a_person_is_in_a_photo_once(matches: list[list[Match]], people: list[str | None]) -> None:
    answers = assign(matches, 0.7)
    assert [person for person, _ in answers] == people
    assert all((person is None) == (reason is not None) for person, reason in answers)


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 0.9])
def test_a_crowd_is_assigned_as_from_all_people_and_searched_for_few(threshold: float) -> None:
    for seed in range(20):
        drawn = np.random.default_rng(seed)
        faces, people, k = drawn.integers(1, 30, 3).tolist()
        scores = np.round(drawn.uniform(-1, 1, (faces, people)) + drawn.uniform(-1, 1, people), 1)  # with ties
        every = [sorted((match(f"p{n}", s) for n, s in enumerate(row)), key=lambda m: -m.score) for row in scores]
        limits = [threshold] * faces

        def nearest(some: Sequence[int], count: int, every: list[list[Match]] = every) -> list[list[Match]]:
            return [every[face][:count] for face in some]

        matches, answers = assign_nearest(nearest, limits, k)
        assert answers == assign([found[: max(k, faces)] for found in every], limits)
        assert [found[:k] for found in matches] == [found[:k] for found in every]


def test_a_crowd_is_searched_for_few_people() -> None:
    asked = list[int]()

    def nearest(some: Sequence[int], count: int) -> list[list[Match]]:
        asked.append(len(some) * count)
        return [[match(f"p{(face + n) % 30}", 0.9 - n / 50) for n in range(min(count, 30))] for face in some]

    answers = assign_nearest(nearest, [0.0] * 90, 2)[1]
    assert [person for person, _ in answers] == [f"p{n}" for n in range(30)] + 60 * [None]
    assert asked == [180, 91]  # two people a face; then all, by one face: each is taken by a higher score


def test_folders_names_and_drawings(
    gallery: Gallery, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "group"
    folder.mkdir()
    beside(folder / "g.png", photos / "person_00/1.png", photos / "person_01/1.png", photos / "person_00/1.png")
    results = galleries.identify(gallery, [folder], threshold=0.999, draw=tmp_path / "drawn")
    (found,) = results
    people = [face.person for face in found.faces]  # type: ignore[union-attr]
    assert sorted(map(str, people)) == ["None", "person_00", "person_01"]  # twice on it, named once
    reasons = [face.reason for face in found.faces if face.person is None]  # type: ignore[union-attr]
    assert reasons == [reasons[0]] and reasons[0] is not None and "person_00" in reasons[0]
    (drawn,) = (tmp_path / "drawn").iterdir()
    assert np.asarray(Image.open(drawn)).shape[2] == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty"):
        galleries.identify(gallery, [tmp_path / "empty"], threshold=0.5)
    gallery.close()


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    status = main(["gallery", *map(str, words)])
    return status, "".join(capsys.readouterr())


def test_the_commands(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    location = tmp_path / "new.gallery"
    bad = draw_people(tmp_path / "bad", people=2, photos=1)
    (bad / "person_01").rename(bad / "per\u200bson")
    status, told = run(capsys, "enroll", "-g", location, "-m", saved(tmp_path), "--detector", "dlib", bad, "-q")
    assert status == 1 and "200B" in told and not location.exists()  # all names are checked first
    model = tmp_path / "model.safetensors"
    assert (
        run(capsys, "enroll", "-g", location, "-m", model, "--detector", "dlib", "Ann", photos / "person_00", "-q")[0]
        == 0
    )
    status, told = run(capsys, "enroll", "-g", location, "Bob", photos / "person_00/0.png", "-q")
    assert status == 0 and "merge" in told and "Ann" in told
    assert run(capsys, "merge", "-g", location, "Bob", "--into", "Ann")[0] == 0
    assert run(capsys, "rename", "-g", location, "Ann", "Ann Archer") == (0, "renamed Ann to Ann Archer: 3 entries\n")
    status, told = run(capsys, "identify", "-g", location, photos, "--threshold", "0.99", "--draw", tmp_path / "d")
    assert status == 0 and told.count("Ann Archer") >= 3 and len(list((tmp_path / "d").iterdir())) == 12
    assert "rename" in run(capsys, "log", "-g", location)[1]
    assert run(capsys, "expire", "-g", location, "--older-than", "365d")[0] == 0
    status, told = run(capsys, "expire", "-g", location, "--older-than", "0")
    assert status == 1 and "--older-than" in told
    assert run(capsys, "delete", "-g", location, "Ann Archer")[0] == 0
    status, told = run(capsys, "search", "-g", location, photos)
    assert status == 1 and "empty" in told


def test_without_a_threshold_a_default_decides_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw_people(tmp_path / "photos", people=12, photos=2)
    place, photo = tmp_path / "g.gallery", folder / "person_03/0.png"
    words = ["gallery", "identify", "-g", str(place), str(photo)]
    with Gallery.open(place, saved(tmp_path)) as made:
        made.enroll([Photo.of(path, path.parent.name) for path in sorted(folder.rglob("0.png"))])
        chosen = made.decision_threshold()
        assert chosen.far_target == DEFAULT_FPIR and made.threshold is None  # it is not stored
        assert made.identify([photo])[0].threshold == chosen.value
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert facts["calibrated"] is None and facts["default_threshold"]["value"] == chosen.value
    assert f"used the default {chosen.value:.4f} (for a false-positive rate of 1 %" in err
    with Gallery.open(place) as made:
        made.delete([f"person_{number:02d}" for number in range(12) if number != 3])  # one person is left
        own = chosen.replace(value=0.5, purpose="verification")
        monkeypatch.setattr(Recognizer, "threshold", lambda self, far=None: own)
        assert made.decision_threshold() == own
        monkeypatch.setattr(Recognizer, "threshold", lambda self, far=None: None)
        with pytest.raises(Undefined, match="calibrate"):
            made.identify([photo])
