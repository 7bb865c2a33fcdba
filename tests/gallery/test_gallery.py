"""From photos to names: enrolling, searching, deciding, migrating."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facewright import bundle as bundles
from facewright.errors import FacewrightError, GalleryDamaged, GalleryError, OtherModel, Undefined, UsageError
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo
from facewright.gallery.sqlite import SqliteStore
from fixtures.faces import draw_people, saved, small_bundle

SHARED = Path(__file__).parents[3] / "shared"
PEOPLE, PHOTOS = 6, 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    folder = draw_people(tmp_path_factory.mktemp("photos"), people=PEOPLE, photos=PHOTOS)
    return [Photo.of(path, path.parent.name) for path in sorted(folder.rglob("*.png"))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("other"), small_bundle(seed=1))


def test_enrol_search_and_open_again_without_naming_the_model(
    photos: list[Photo], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    with Gallery.open(tmp_path / "g.gallery", model.name) as gallery:
        enrolled = gallery.enroll(photos, metadata={"team": "a"})
    assert (enrolled.new, enrolled.failed, len(enrolled.photos)) == (len(photos), (), len(photos))
    monkeypatch.chdir(tmp_path)  # the model was named from elsewhere
    with Gallery.open(tmp_path / "g.gallery") as gallery:
        assert gallery.people() == {f"person_{who:02d}": PHOTOS for who in range(PEOPLE)}
        for photo, found in zip(photos, gallery.search(photos, k=3), strict=True):
            assert found.matches[0].score == pytest.approx(1, abs=1e-6) and found.matches[0].person == photo.person
            assert found.matches[0].photo == photo.name and len(found.matches) == 3
        assert gallery.search(photos[:1], where={"team": "b"})[0].matches == ()
        assert gallery.enroll(photos).new == 0


def test_a_broken_photo_gets_an_error_of_its_own(photos: list[Photo], model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(Path(photos[0].name).read_bytes()[:200])
    bad = [Photo.of(tmp_path / "broken.png", "x"), Photo.of(tmp_path / "absent.png", "x"), Photo("bytes", b"", "x")]
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        enrolled = gallery.enroll([bad[0], photos[0], *bad[1:]])
        assert [one.person for one in enrolled.photos] == [photos[0].person]
        assert [broken.path for broken in enrolled.failed] == [bad[0].name, bad[1].name, "bytes"]
        first, second, *_ = gallery.identify([*bad[:1], photos[0]], threshold=0.5)
        assert first.person is None and first.error and second.person == photos[0].person and second.error is None


def test_the_threshold_decides_and_is_inclusive(photos: list[Photo], model: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        gallery.enroll(photos[:4])
        score = gallery.search(photos[5:6])[0].matches[0].score
        for threshold, known in ((score, True), (np.nextafter(score, 2), False), (-1.0, True), (2.0, False)):
            (found,) = gallery.identify(photos[5:6], threshold=float(threshold))
            assert (found.person is not None) is known and found.threshold == threshold
        with pytest.raises(Undefined, match="calibrate"):
            gallery.identify(photos[5:6])


def test_calibrated_it_says_unknown_by_itself(photos: list[Photo], model: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        gallery.enroll(photos)
        chosen = gallery.calibrate(0.25)
    with Gallery.open(tmp_path / "g.gallery") as gallery:
        assert gallery.threshold == chosen
        for found in gallery.identify(photos):
            assert found.threshold == chosen.value and found.person is not None  # each finds itself


def test_another_model_is_refused(photos: list[Photo], model: Path, other: Path, tmp_path: Path) -> None:
    where = tmp_path / "g.gallery"
    with Gallery.open(where, model) as gallery:
        gallery.enroll(photos[:1])
    with pytest.raises(OtherModel, match="reembed"):
        Gallery.open(where, other)
    with pytest.raises(OtherModel):
        Gallery.open(where, model, crop=0.5)  # another preprocessing
    with pytest.raises(OtherModel):
        Gallery.open(where, model, flip=True)
    Gallery.open(where, model).close()


def test_the_model_was_replaced_behind_its_name(photos: list[Photo], tmp_path: Path) -> None:
    model = saved(tmp_path)
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        gallery.enroll(photos[:1])
    bundles.save(model, small_bundle(seed=1))
    with Gallery.open(tmp_path / "g.gallery") as gallery, pytest.raises(OtherModel):
        gallery.search(photos[:1])


def test_migration_is_as_good_as_enrolling_anew(photos: list[Photo], model: Path, other: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        gallery.enroll(photos, keep_crops=True)
        gallery.calibrate(0.25)
        assert gallery.reembed(other) == len(photos)
        assert gallery.threshold is None
    with Gallery.open(tmp_path / "new.gallery", other) as anew, Gallery.open(tmp_path / "g.gallery", other) as moved:
        anew.enroll(photos)
        for a, b in zip(anew.store.rows(), moved.store.rows(), strict=True):
            np.testing.assert_allclose(a.entry.vector, b.entry.vector, atol=1e-6)
        assert moved.enroll(photos).new == 0  # the same photos still are the same


@pytest.mark.parametrize(("keep", "crop", "error"), [(False, None, GalleryError), (True, 0.5, UsageError)])
def test_no_migration(
    keep: bool, crop: float | None, error: type[FacewrightError], photos: list[Photo], model: Path, tmp_path: Path
) -> None:
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        gallery.enroll(photos[:2], keep_crops=keep)
        before = gallery.store.header()
        with pytest.raises(error):
            gallery.reembed(model, crop=crop)
        assert gallery.store.header() == before


def test_delete_names_who_is_not_there_and_deletes_nobody(photos: list[Photo], model: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        gallery.enroll(photos[:5])
        for people, numbers in ((["person_00", "nobody"], []), ([], [1, 99])):
            with pytest.raises(UsageError, match=r"nobody|99"):
                gallery.delete(people, numbers)
        assert len(gallery.people()) == 2
        assert gallery.delete(["person_00"]) == 4 and gallery.people() == {"person_01": 1}
        stats = gallery.stats()
        assert (stats.people, stats.entries, stats.crops) == (1, 1, 0)


@pytest.mark.parametrize("where", ["mysql://host/db", Path("postgresql://host/db"), "."])
def test_no_file_of_a_gallery(where: str | Path) -> None:
    with pytest.raises(UsageError, match="file"):
        Gallery.open(where)


def test_no_gallery_is_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(GalleryError):
        Gallery.open(tmp_path / "none.gallery")
    assert not list(tmp_path.iterdir())


def test_the_recognizer_given_must_be_that_of_the_store(model: Path, tmp_path: Path) -> None:
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        pin = gallery.store.header().signature.model_copy(update={"fingerprint": "0" * 32})
        recognizer = gallery.recognizer
    with pytest.raises(OtherModel):
        Gallery(SqliteStore(tmp_path / "other.gallery", pin), recognizer)


@pytest.mark.realdata
def test_real_people_are_found_and_strangers_are_not(tmp_path: Path) -> None:
    weights, faces = SHARED / "weights/mobilefacenet_arcface.safetensors", SHARED / "data/celebrities12"
    if not (weights.is_file() and faces.is_dir()):
        pytest.skip("needs ../shared/weights and ../shared/data/celebrities12")
    people = [sorted(person.glob("*.png")) for person in sorted(faces.iterdir())]
    with Gallery.open(tmp_path / "g.gallery", f"mobilefacenet@{weights}") as gallery:
        gallery.enroll([Photo.of(path, path.parent.name) for person in people[:9] for path in person[:5]])
        gallery.calibrate(0.1)
        mates = [Photo.of(path, path.parent.name) for person in people[:9] for path in person[10:12]]
        found = gallery.identify(mates)
        assert sum(one.person == photo.person for one, photo in zip(found, mates, strict=True)) >= 16
        strangers = gallery.identify([Photo.of(path) for person in people[9:] for path in person[:5]])
        assert sum(one.person is not None for one in strangers) <= 5


@pytest.mark.parametrize("facts", [{}, {"threshold": 1}, {"threshold": {}, "fpir_by_people": None}])
def test_a_stored_threshold_that_is_none(model: Path, tmp_path: Path, facts: dict[str, object]) -> None:
    with Gallery.open(tmp_path / "g.gallery", model) as gallery:
        gallery.store.set_threshold(facts)
        with pytest.raises(GalleryDamaged, match="threshold"):
            _ = gallery.threshold
