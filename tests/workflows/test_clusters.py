"""Photos sorted by person: folders, further photos, decisions, and what is refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.cli.main import main
from facewright.errors import DataError, OtherModel, Undefined, UsageError
from facewright.report.faces import Person, contact_sheet
from facewright.workflows import clusters
from fixtures.browsing import browser
from fixtures.faces import draw_people, saved, small_bundle
from fixtures.tiles import beside, blank, stand_in

LEVEL = 0.7  # of the untrained network


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stand_in(monkeypatch)
    return draw_people(tmp_path / "photos", people=3, photos=3)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(saved(tmp_path))


def sort(photos: Path, out: Path, model: str, threshold: float | None = LEVEL) -> clusters.SortedPhotos:
    return clusters.cluster_photos([photos], out, model=model, detector="dlib", smallest=20, threshold=threshold)


def files(out: Path) -> dict[str, int]:
    return {folder.name: len(list(folder.iterdir())) for folder in sorted((out / "sorted").iterdir())}


def test_folders_more_photos_and_the_names_stay(photos: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "people"
    blank(photos / "nobody.png")
    (photos / "broken.png").write_bytes(b"no image")
    first = sort(photos, out, model)
    assert len(first.faces) == 9 and list(first.failed) == [str(photos / "broken.png")]
    alone = [face for face in first.faces if face.person == "unsorted"]
    assert files(out) == first.people and len(list((out / "unsorted").iterdir())) == len(alone)
    page = (out / "index.html").read_text()
    assert all(face.key in page for face in first.faces)
    assert sort(photos, out, model).faces == first.faces  # nothing is embedded or moved again
    beside(photos / "two.png", photos / "person_00/0.png", photos / "person_01/1.png")
    again = sort(photos, out, model)
    assert len(again.faces) == 11 and {face.key: face.person for face in again.faces}.items() >= {
        (face.key, face.person) for face in first.faces if face.person != "unsorted"
    }
    one, other = (face for face in again.faces if face.photo.endswith("two.png"))
    assert one.person != other.person  # on one photo
    assert json.loads((out / "clusters.json").read_text())["version"] == 1


def test_decisions_are_kept(photos: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "people"
    everybody = sort(photos, out, model, threshold=-1.0)
    assert list(everybody.people) == ["person_0001"]
    (key, *_) = [face.key for face in everybody.faces]
    clusters.change_clusters(out, split=[key], rename=[("person_0001", "Ann")])
    apart = clusters.cluster_photos([], out, threshold=-1.0)
    assert apart.people == {"Ann": 8} and files(out) == {"Ann": 8} and (out / "unsorted").is_dir()
    assert [face.key for face in apart.faces if face.person == "unsorted"] == [key]
    each = clusters.cluster_photos([], out, threshold=1.0)  # everybody alone
    assert each.people == {}
    pairs = clusters.cluster_photos([], out, threshold=LEVEL)
    people = list(pairs.people)[:2]
    clusters.change_clusters(out, merge=[people])
    merged = clusters.cluster_photos([], out, threshold=LEVEL)
    assert max(merged.people.values()) >= sum(pairs.people[person] for person in people)


def test_what_is_refused(photos: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "people"
    with pytest.raises(Undefined, match="calibrate"):
        sort(photos, out, model, threshold=None)
    sort(photos, out, model, threshold=-1.0)
    for change in ({"merge": [["person_0001", "nobody"]]}, {"split": ["x"]}, {"rename": [("person_0001", "../x")]}):
        with pytest.raises(UsageError):
            clusters.change_clusters(out, **change)  # type: ignore[arg-type]
    other = str(saved(tmp_path / "photos", small_bundle(seed=1)))
    with pytest.raises(OtherModel):
        sort(photos, out, other)
    (out / "vectors.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match="vectors"):
        sort(photos, out, model)
    (out / "clusters.json").write_text((out / "clusters.json").read_text().replace("person_0001", "../../x"))
    with pytest.raises(DataError, match=r"clusters\.json"):
        sort(photos, out, model)


def test_the_command(photos: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cluster", str(photos), "--out", str(tmp_path / "out"), "--model", model, "--detector", "dlib"]
    status = main([*words, "--min-face", "20", "--threshold", "-1", "-q", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert status == 0 and len(result["faces"]) == 9 and result["task"] == "cluster"
    assert (
        main(["cluster", "--out", str(tmp_path / "out"), "--name", "person_0001=Ann", "--threshold", "-1", "-q"]) == 0
    )
    assert "Ann" in capsys.readouterr().out and (tmp_path / "out/sorted/Ann").is_dir()
    assert main(["cluster", "--out", str(tmp_path / "out")]) == 1
    assert main(["cluster", "--out", str(tmp_path / "out"), "--merge", "Ann"]) == 1


def test_markup_on_the_page_is_inert() -> None:
    page = contact_sheet([Person('<b>"', (('a"><script>.png', "key", '"><i>', True),))], 0.5, '"><u>')
    assert '<b>"' not in page and "<i>" not in page and "<u>" not in page and page.count("<script>") == 1
    assert np.char.count(page, "<img") == 1


def two_people(photos: Path, out: Path, model: str) -> clusters.SortedPhotos:
    """Two people with two nearly equal photos each."""
    folder = out.parent / "twice"
    folder.mkdir()
    for name in ("person_00", "person_02"):
        pixels = np.asarray(Image.open(photos / name / "0.png"))
        for lighter in (0, 1):
            Image.fromarray(np.minimum(pixels, 250) + np.uint8(lighter)).save(folder / f"{name}-{lighter}.png")
    return sort(folder, out, model, threshold=0.99)


def test_two_people_do_not_get_one_name(photos: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "people"
    first, second = two_people(photos, out, model).people
    for names in ([(first, "Ann"), (second, "Ann")], [(first, second)], [(first, "a\\b")]):
        with pytest.raises(UsageError, match=first if names[0][1] != "Ann" else second):
            clusters.change_clusters(out, rename=names)
    assert (out / "sorted" / first).is_dir() and not (out / "sorted/Ann").exists()  # nothing was renamed


def test_photos_without_a_face(tmp_path: Path, model: str, photos: Path) -> None:
    empty = tmp_path / "blank.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(empty)
    found = clusters.cluster_photos([empty], tmp_path / "none", model=model, detector="dlib", threshold=0.5)
    assert found.faces == () and len(found.photos) == 1 and "0 people" in (tmp_path / "none/index.html").read_text()


def test_the_page_gives_the_command(photos: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "people of ours"
    pairs = two_people(photos, out, model)
    first, second = pairs.people
    key = next(face.key for face in pairs.faces if face.person == first)
    with browser() as chromium:
        page = chromium.new_page()
        page.goto((out / "index.html").as_uri())
        command = page.locator("textarea")
        assert command.input_value() == ""
        for person in (first, second):
            page.locator(f".merge[value={person}]").check()
        page.locator(f'.split[value="{key}"]').check()
        page.locator(f".name[data-person={second}]").fill("Ann O'Hara")
        words = shlex.split(command.input_value())
    merged = ["--merge", f"{first},{second}", "--split", key, "--name", f"{second}=Ann O'Hara"]
    assert words == ["facewright", "cluster", "--out", str(out), *merged]


def test_what_cannot_be_decided(photos: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "people"
    with pytest.raises(UsageError, match="no sorted photos"):
        clusters.change_clusters(out, rename=[("a", "b")])
    first = sort(photos, out, model)
    name = next(iter(first.people))
    with pytest.raises(UsageError, match="different people"):
        clusters.change_clusters(out, merge=[(name, name)])
    assert sort(photos, out, model).people == first.people


def test_a_model_without_impostor_scores_is_refused_before_photos_are_read(
    photos: Path, model: str, tmp_path: Path
) -> None:
    with pytest.raises(Undefined, match="impostor"):
        sort(photos, tmp_path / "people", model, threshold=None)
    assert not (tmp_path / "people").exists()
