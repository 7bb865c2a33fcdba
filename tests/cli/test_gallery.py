"""The commands of a gallery from the outside: what is printed where, and with which exit status."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from facewright.cli.faces import describe_faces
from facewright.cli.gallery import describe_identified, describe_search
from facewright.cli.main import main
from facewright.gallery.entries import Match
from facewright.gallery.results import PhotoIdentification, SearchResult
from facewright.workflows.face_detection import FoundFaces, PhotoFaces
from fixtures.faces import draw_people, saved, small_bundle


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("photos"), people=5, photos=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def enrolled(photos: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a gallery of twenty photos; nobody changes it."""
    folder = tmp_path_factory.mktemp("enrolled")
    words = ("-g", folder / "people.gallery", "-m", model, photos, "--keep-crops", "--meta", "team=a", "-q")
    assert main(["gallery", "enroll", *map(str, words)]) == 0
    return folder


@pytest.fixture
def gallery(enrolled: Path, tmp_path: Path) -> Path:
    """A copy of its own for each test."""
    shutil.copytree(enrolled, tmp_path, dirs_exist_ok=True)
    return tmp_path / "people.gallery"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["gallery", *map(str, words)])
    out, err = capsys.readouterr()
    return status, out, err


def facts(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    status, out, _ = run(capsys, *words, "--json")
    assert status == 0
    found: dict[str, object] = json.loads(out)
    return found


def test_from_enrolling_to_forgetting(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, photo = tmp_path / "people.gallery", photos / "person_02" / "1.png"
    status, out, err = run(capsys, "enroll", "-g", gallery, "-m", model, photos, "--meta", "team=a", "-q")
    assert (status, out, err) == (0, f"enrolled 20 photos in {gallery}\n", "")
    status, out, err = run(capsys, "identify", "-g", gallery, photo)
    assert (status, out) == (1, "") and "calibrate" in err and err.count("\n") == 1
    status, out, err = run(capsys, "calibrate", "-g", gallery, "--fpir", "0.1")
    assert (
        status == 0 and "5 people" in err and out.startswith("threshold ") and "20 enrolled photos of 5 people" in out
    )
    status, out, err = run(capsys, "identify", "-g", gallery, photo)
    assert (status, err) == (0, "") and out.startswith(f"{photo}: person_02 (1.0000 >= ")
    status, out, _ = run(capsys, "identify", "-g", gallery, photo, "--threshold", "1.5")
    assert status == 0 and out.startswith(f"{photo}: unknown; nearest match person_02 (1.0000 < 1.5000)")
    status, out, _ = run(capsys, "search", "-g", gallery, photo, "-k", "2")
    assert status == 0 and out.count("\n") == 3 and "person_02" in out.splitlines()[1] and "team=a" in out
    status, out, _ = run(capsys, "search", "-g", gallery, photo, "--where", "team=b")
    assert (status, out) == (0, f"{photo}:\n")

    status, out, _ = run(capsys, "list", "-g", gallery)
    assert status == 0 and out.splitlines()[1] == "person_00       4"
    status, out, _ = run(capsys, "list", "-g", gallery, "person_02")
    assert status == 0 and out.count("\n") == 4 and out.startswith("person_02  entry 9  ")
    status, out, _ = run(capsys, "delete", "-g", gallery, "person_02", "--entry", "1")
    assert (status, out) == (0, f"deleted 5 entries from {gallery}\n")
    status, out, err = run(capsys, "delete", "-g", gallery, "person_02")
    assert status == 1 and "not enrolled: 'person_02'" in err
    status, out, _ = run(capsys, "stats", "-g", gallery)
    assert status == 0 and "15 photos of 4 people" in out and "15" in out


def test_json(gallery: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = photos / "person_02" / "1.png"
    assert facts(capsys, "enroll", "-g", gallery, "person_02", photo, "-q")["already"] == 1
    assert facts(capsys, "calibrate", "-g", gallery, "--fpir", "0.1")["people"] == 5
    found = facts(capsys, "identify", "-g", gallery, photo, photos / "absent.png")
    first, second = found["photos"]  # type: ignore[misc]
    assert first["person"] == "person_02" and second["person"] is None and second["error"]
    assert facts(capsys, "search", "-g", gallery, photo)["photos"][0]["matches"][0]["metadata"] == {"team": "a"}  # type: ignore[index]
    assert facts(capsys, "list", "-g", gallery)["people"] == {f"person_{who:02d}": 4 for who in range(5)}
    assert len(facts(capsys, "list", "-g", gallery, "person_01")["entries"]) == 4  # type: ignore[arg-type]
    stats = facts(capsys, "stats", "-g", gallery)
    assert (stats["people"], stats["entries"], stats["crops"]) == (5, 20, 20) and stats["calibrated"]
    assert facts(capsys, "delete", "-g", gallery, "person_01")["entries"] == 4


def test_out_in_and_to_another_model(
    gallery: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "people.jsonl", tmp_path / "other.gallery"
    assert facts(capsys, "calibrate", "-g", gallery, "--fpir", "0.1")
    assert facts(capsys, "export", "-g", gallery, "--out", out)["entries"] == 20
    status, text, _ = run(capsys, "import", "-g", other, out)
    assert (status, text) == (0, f"imported 20 photos into {other}, 0 already there\n")
    assert facts(capsys, "stats", "-g", other)["calibrated"] == facts(capsys, "stats", "-g", gallery)["calibrated"]
    new = saved(tmp_path, small_bundle(seed=1))
    status, _, err = run(capsys, "search", "-g", other, "-m", new, photos / "person_00" / "0.png")
    assert status == 1 and "reembed" in err and err.count("\n") == 1
    assert facts(capsys, "reembed", "-g", other, "-m", new)["entries"] == 20
    assert facts(capsys, "stats", "-g", other)["calibrated"] is None
    status, _, err = run(capsys, "import", "-g", other, out)
    assert status == 1 and "reembed" in err
    out.write_bytes(out.read_bytes()[:-200])
    status, _, err = run(capsys, "import", "-g", tmp_path / "third.gallery", out)
    assert status == 1 and "people.jsonl" in err and not (tmp_path / "third.gallery").exists()


def test_a_gallery_that_has_grown_is_told_of(gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts(capsys, "calibrate", "-g", gallery, "--fpir", "0.1")
    photo = draw_people(tmp_path / "more", people=1, photos=1, seed=9) / "person_00" / "0.png"
    assert run(capsys, "enroll", "-g", gallery, "Somebody", photo, "-q")[0] == 0
    status, out, err = run(capsys, "identify", "-g", gallery, photo)
    assert status == 0 and "Somebody" in out and "6" in err


def test_two_people_who_may_be_one_are_told_once(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        shutil.copytree(photos / "person_00", tmp_path / "twice" / name)
    _, _, err = run(capsys, "enroll", "-g", tmp_path / "g", "-m", model, tmp_path / "twice", "-q")
    assert err.count("gallery merge") == 1 and "4 photos" not in err and "8 photos" in err and "first" in err


WRONG = [  # words -> a part of the one line that is said
    (("enroll", "-g", "{new}", "{photos}", "--crop", "0.5"), "--crop"),  # built-in
    (("enroll", "-g", "{new}", "-m", "{model}", "{photos}", "--select-face", "largest"), "model.safetensors"),
    (("identify", "-g", "{gallery}", "{photo}", "--select-face", "largest", "--threshold", "0.5"), "model.safetensors"),
    (("identify", "-g", "{gallery}", "{photo}", "--select-face", "largest", "--every-face"), "--every-face"),
    (("search", "-g", "{gallery}", "{photo}", "--detector", "haar"), "unknown detector 'haar'"),
    (("enroll", "-g", "{new}", "-m", "{model}", "Ann"), "person"),
    (("enroll", "-g", "{new}", "-m", "{model}", "{photos}", "--meta", "team"), "KEY=VALUE"),
    (("search", "-g", "{new}", "x.png"), "new.gallery"),
    (("search", "-g", "{gallery}", "{photo}", "--where", "=a"), "KEY=VALUE"),
    (("identify", "-g", "mysql://host/db", "x.png"), "mysql"),
    (("identify", "-g", "postgresql://me:hush@localhost:1/db", "x.png"), "postgresql://me@localhost:1/db: the server"),
    (("list", "-g", "postgresql://me:hu/sh@localhost/db"), "not shown"),
    (("calibrate", "-g", "{gallery}", "--fpir", "0.01"), "100"),
    (("delete", "-g", "{gallery}"), "--entry"),
    (("list", "-g", "{gallery}", "Nobody"), "not enrolled"),
    (("export", "-g", "{gallery}", "--out", "none/x.jsonl"), "none/x.jsonl"),
    (("import", "-g", "{new}", "{model}"), "JSON"),
    (("stats", "-g", "{model}"), "damaged"),
]


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_one_clear_line(
    words: tuple[str, ...],
    said: str,
    gallery: Path,
    photos: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"new": tmp_path / "new.gallery", "gallery": gallery, "photos": photos, "model": model}
    given = [word.format(**places, photo=photos / "person_00" / "0.png") for word in words]
    status, out, err = run(capsys, *given)
    assert (status, out) == (1, "") and said in err and err.startswith("error: ") and err.count("\n") == 1
    assert "hush" not in err and "hu/sh" not in err  # passwords
    assert not (tmp_path / "new.gallery").exists()


def test_no_photo_that_can_be_used(gallery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    status, out, _ = run(capsys, "search", "-g", gallery, tmp_path / "broken.png")
    assert status == 1 and "broken.png" in out
    status, _, err = run(capsys, "enroll", "-g", gallery, "Ann", tmp_path / "broken.png", "-q")
    assert status == 1 and "broken.png" in err


def test_a_line_end_in_the_name_of_a_photo_makes_no_line() -> None:
    """A file can be called anything; what it is called must not pass for an answer."""
    name = "a\nb.jpg: Ann (0.9900 >= 0.5000)"
    match = Match(person="Bob", score=0.7, number=1, photo=name, metadata={})
    found = [
        *describe_search(SearchResult(photo=name, error="cut off")),
        *describe_search(SearchResult(photo=name, matches=(match,))),
        *describe_identified(SearchResult(photo=name, matches=(match,)).identified(0.5)),
        *describe_identified(PhotoIdentification(photo=name, threshold=0.5)),
        describe_faces(FoundFaces((PhotoFaces(name),), "none", "square")),
    ]
    assert len(found) == 6 and not any("\n" in line for line in found)
