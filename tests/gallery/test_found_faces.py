"""A gallery over photos in which the faces have to be found first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facewright.cli.main import main
from facewright.embedding import Embedder
from facewright.errors import OtherModel, Undefined, UsageError
from facewright.gallery import transfer
from facewright.gallery.entries import ModelSignature
from facewright.gallery.gallery import Gallery
from facewright.gallery.results import Photo
from facewright.gallery.signatures import check_crops, signature_of
from facewright.recognition import Recognizer
from facewright.recognition.networks import BUILT_IN
from fixtures.faces import draw_people, saved, small_bundle
from fixtures.tiles import beside, blank, stand_in


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four people, and: two of them beside a third, who stands in the middle; nobody."""
    folder = draw_people(tmp_path / "photos", people=4, photos=2)
    beside(tmp_path / "three.png", *(folder / f"person_0{who}/0.png" for who in (0, 1, 2)))
    blank(tmp_path / "nobody.png")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path)


@pytest.fixture
def gallery(photos: Path, model: Path, tmp_path: Path) -> Gallery:
    """person_00 to person_02, their faces kept."""
    made = Gallery.open(tmp_path / "g.gallery", model, detector="dlib")
    paths = [path for path in sorted(photos.rglob("0.png")) if path.parent.name != "person_03"]
    made.enroll([Photo.of(path, path.parent.name) for path in paths], keep_crops=True)
    return made


def test_one_of_several_is_taken_and_it_is_said(gallery: Gallery, tmp_path: Path) -> None:
    three = Photo.of(tmp_path / "three.png", "Bob")
    (found,) = gallery.search([three])
    assert found.matches[0].person == "person_01" and found.matches[0].score == pytest.approx(1, abs=1e-5)
    assert found.faces == 3 and found.box == (40, 0, 40, 40)
    assert found.message is not None and found.message.startswith("3 faces")
    (found,) = gallery.search([three], select_face="largest")  # of equals the surest
    assert found.matches[0].person == "person_00" and found.to_dict()["box"] == {"x": 0, "y": 0, "w": 40, "h": 40}
    (found,) = gallery.search([three], select_face="error")
    assert found.error is not None and "3 faces" in found.error and found.to_dict()["message"] is None
    enrolled = gallery.enroll([three])
    assert enrolled.to_dict()["photos"][0]["message"].startswith("3 faces") and gallery.people()["Bob"] == 1


def test_no_face_fails_by_itself(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    both = [Photo.of(tmp_path / "nobody.png", "Cyd"), Photo.of(photos / "person_03/0.png", "Cyd")]
    enrolled = gallery.enroll(both)
    assert enrolled.new == 1 and enrolled.failed[0].path == both[0].name
    first, second = gallery.identify(both, threshold=0.99)
    assert first.error and (first.box, second.person) == (None, "Cyd")


def test_everybody_on_a_photo(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    group = beside(tmp_path / "group.png", photos / "person_03/0.png", tmp_path / "nobody.png", tmp_path / "three.png")
    found = gallery.identify_faces(Photo.of(group), threshold=0.9999, k=2)
    assert [face.person for face in found.faces] == [None, "person_00", "person_01", "person_02"]
    assert [face.box[0] for face in found.faces] == [0, 80, 120, 160] and (found.width, found.height) == (200, 40)
    assert all(len(face.matches) == 2 for face in found.faces)
    facts = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert facts["faces"][1]["person"] == "person_00" and facts["faces"][1]["x"] == 80 and facts["threshold"] == 0.9999
    assert gallery.identify_faces(Photo.of(tmp_path / "nobody.png"), threshold=0.5).faces == ()
    assert gallery.identify_faces(Photo("bytes", b""), threshold=0.5).error == "is empty (0 bytes)"
    assert gallery.identify_faces(Photo.of(group), threshold=0.5, where={"team": "a"}).faces[1].matches == ()
    with pytest.raises(Undefined, match="calibrate"):
        gallery.identify_faces(Photo.of(group))


def test_it_is_pinned_to_the_detector(gallery: Gallery, model: Path, tmp_path: Path) -> None:
    assert gallery.store.header().signature.detector == "dlib"
    gallery.close()
    with Gallery.open(tmp_path / "g.gallery") as again:  # by what it keeps alone
        assert again.search([Photo.of(tmp_path / "three.png")])[0].matches[0].person == "person_01"
    Gallery.open(tmp_path / "g.gallery", model).close()  # the detector is the gallery's
    with pytest.raises(OtherModel, match=r"detector dlib.*detector none"):
        Gallery.open(tmp_path / "g.gallery", model, detector="none")


def test_faces_that_were_kept_move_to_another_network(gallery: Gallery, photos: Path, tmp_path: Path) -> None:
    other = saved(tmp_path / "photos", small_bundle(seed=1))
    assert gallery.reembed(other) == 3
    assert gallery.store.header().signature.detector == "dlib"
    for path in sorted(photos.rglob("0.png"))[:3]:
        match = gallery.search([Photo.of(path)])[0].matches[0]
        assert match.person == path.parent.name and match.score == pytest.approx(1, abs=1e-5)
    with pytest.raises(UsageError, match=r"112 px"):
        gallery.reembed(other, detector="none")


@pytest.mark.parametrize(
    ("model", "detector", "crop", "said"),
    [  # of a gallery -> a network without a detector
        ("patchnet", "none", 1.0, None),
        ("patchnet", "none", 0.5, "--crop 0.5"),
        ("patchnet", "dlib", 1.0, "112 px"),
        (BUILT_IN, "dlib", 1.0, "150 px"),
        (BUILT_IN, "none", 1.0, "150 px"),
    ],
)
def test_kept_faces_are_of_use_where_they_are_cut_alike(
    model: str, detector: str, crop: float, said: str | None
) -> None:
    pin, recognizer = (
        ModelSignature(fingerprint="a" * 32, model=model, crop=crop, flip=False, width=64, detector=detector),
        Recognizer(Embedder(small_bundle())),
    )
    if said is None:
        check_crops(pin, recognizer)
        return
    with pytest.raises(UsageError, match=said):
        check_crops(pin, recognizer)


def test_a_new_gallery_without_a_model_has_the_built_in_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recognizer, "fingerprint", "b" * 32)
    with Gallery.for_enrolling(tmp_path / "new.gallery") as made:
        pin = made.store.header().signature
    assert (pin.model, pin.detector, pin.crop, pin.width) == ("built-in", "dlib", 1.0, 128)
    with Gallery.for_enrolling(tmp_path / "new.gallery") as again:
        assert again.recognizer.name == "built-in" and signature_of(again.recognizer) == pin


def test_an_export_of_before_has_photos_taken_whole(gallery: Gallery, tmp_path: Path) -> None:
    transfer.export(gallery.store, tmp_path / "g.jsonl")
    header, *lines = (tmp_path / "g.jsonl").read_text().splitlines(keepends=True)
    assert transfer.read_header(tmp_path / "g.jsonl").signature == gallery.store.header().signature
    (tmp_path / "old.jsonl").write_text("".join([header.replace(', "detector": "dlib"', ""), *lines]))
    assert transfer.read_header(tmp_path / "old.jsonl").signature.detector == "none"


def test_the_commands(gallery: Gallery, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: object) -> tuple[int, str, str]:
        status = main(["gallery", *map(str, words)])
        out, err = capsys.readouterr()
        return status, out, err

    gallery.close()
    where, three, nobody = tmp_path / "g.gallery", tmp_path / "three.png", tmp_path / "nobody.png"
    status, out, err = run("enroll", "-g", where, "Bob", three, nobody, "--select-face", "largest", "-q")
    assert status == 0 and out.startswith("enrolled 1 photo") and f"left out: {nobody}: no face was found" in err
    assert f"{three}: 3 faces; took the largest, 40 x 40 px at 0, 0" in err
    status, out, _ = run("identify", "-g", where, three, nobody, "--threshold", "0.9")
    assert status == 0 and out.splitlines()[1].startswith("  3 faces; took the one nearest to the centre")
    assert out.splitlines()[2] == f"{nobody}: cannot be used: no face was found"
    status, out, _ = run("identify", "-g", where, three, "--threshold", "0.9999", "--every-face")
    assert status == 0 and out.splitlines()[0] == f"{three}: 3 faces"
    assert out.splitlines()[2].startswith("  40 x 40 px at 40, 0: person_01 (1.0000 >= 0.9999)")
    status, out, _ = run("identify", "-g", where, three, "--threshold", "0.9999", "--every-face", "--json")
    assert status == 0 and len(json.loads(out)["photos"][0]["faces"]) == 3
    status, out, _ = run("search", "-g", where, three, "--select-face", "largest")
    assert status == 0 and out.startswith(f"{three}: 3 faces; took the largest")
    status, out, _ = run("stats", "-g", where)
    assert status == 0 and "detector     dlib" in out
