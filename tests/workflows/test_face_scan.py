"""Scanning end to end, and its command: a network that takes everything for a face, or nothing, on tiny photos."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facewright.bundle import Bundle, save
from facewright.cli.faces import four_numbers
from facewright.cli.main import main
from facewright.errors import DataError, FacewrightError, UnknownName, UsageError
from facewright.faces.boxes import Frame
from facewright.faces.scan import Search
from facewright.input_spec import InputSpec
from facewright.models.catalog import create_model
from facewright.workflows.face_scan import scan

SIDE = 64
SPEC = InputSpec(SIDE, SIDE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
WHOLE = Search(smallest=SIDE)  # a photo of 64 px is one patch


def bundle(path: Path, sure: float, classes: tuple[str, ...] = ("face", "nonface")) -> Path:
    """A model that gives every patch the same logit for a face."""
    model = create_model("patchnet", len(classes), input_size=SIDE)
    torch.nn.init.zeros_(model.get_submodule("fc").weight)  # type: ignore[arg-type]
    with torch.no_grad():
        model.get_submodule("fc").bias.copy_(torch.tensor([sure, 0.0]))  # type: ignore[operator]
    save(path, Bundle("patchnet", "imagenet", classes, SPEC, model.state_dict()))
    return path


@pytest.fixture
def eager(tmp_path: Path) -> Path:
    return bundle(tmp_path / "eager.safetensors", 6.0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c", "d"):
        Image.new("RGB", (SIDE, SIDE), (90, 60, 30)).save(folder / f"{name}.png")
    return folder


def boxes(folder: Path, rows: str) -> Path:
    path = folder / "boxes.csv"
    path.write_text("file,split,x,y,w,h\n" + rows)
    return path


def test_every_photo_gets_its_faces(eager: Path, photos: Path, tmp_path: Path) -> None:
    scanned = scan(eager, [photos], search=WHOLE, draw=tmp_path / "drawn")
    assert [Path(photo.path).name for photo in scanned.photos] == ["a.png", "b.png", "c.png", "d.png"]
    for photo in scanned.photos:
        assert photo.found is not None
        np.testing.assert_allclose(photo.found.boxes, [[0, 0, SIDE, SIDE]])
        assert photo.found.scores[0] == pytest.approx(1 / (1 + np.exp(-6)), abs=1e-6)
    assert scanned.why_windows is None
    assert (scanned.threshold, scanned.threshold_from, scanned.frame_from) == (0.9, "fixed", "the patch itself")
    assert scanned.detection == {}
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a.png", "b.png", "c.png", "d.png"]


def test_a_photo_without_a_face_gives_an_empty_list(photos: Path, tmp_path: Path) -> None:
    scanned = scan(bundle(tmp_path / "shy.safetensors", -6.0), [photos], search=WHOLE)
    assert [photo["faces"] for photo in scanned.to_dict()["photos"]] == [[], [], [], []]


def test_frame_and_threshold_come_from_photos_that_are_not_for_testing(
    eager: Path, photos: Path, tmp_path: Path
) -> None:
    rows = "".join(f"{name}.png,train,8,16,48,40\n" for name in "abc") + "d.png,test,8,16,48,40\n"
    scanned = scan(eager, [photos], boxes=boxes(tmp_path, rows), search=WHOLE)
    assert scanned.frame == Frame(0.125, 0.25, 0.75, 0.625)
    assert "3 photos" in scanned.frame_from and "3 photos" in scanned.threshold_from
    assert list(scanned.detection) == ["all", "train", "test"]
    test = scanned.detection["test"]
    assert (test.photos, test.faces, test.average_precision, test.recall.value) == (1, 1, 1.0, 1.0)
    given = scan(eager, [photos], boxes=boxes(tmp_path, rows), search=WHOLE, frame=Frame(), threshold=0.95)
    assert (given.frame_from, given.threshold_from, given.threshold) == ("given", "given", 0.95)
    assert given.detection["test"].average_precision == 0.0  # the whole patch overlaps the true box by 0.47


def test_photos_that_the_table_does_not_know_are_not_measured(eager: Path, photos: Path, tmp_path: Path) -> None:
    scanned = scan(eager, [photos], boxes=boxes(tmp_path, "a.png,,0,0,64,64\n"), search=WHOLE)
    assert list(scanned.detection) == ["all"]
    assert scanned.detection["all"].photos == 1
    with pytest.raises(DataError, match="none of the 4 photos"):
        scan(eager, [photos], boxes=boxes(tmp_path, "z.png,,0,0,64,64\n"), search=WHOLE)


def test_a_broken_photo_stops_nothing_and_finds_none_of_its_faces(eager: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"no image")
    table = boxes(tmp_path, "a.png,,0,0,64,64\nb.png,,0,0,64,64\n")
    scanned = scan(eager, [photos], boxes=table, search=WHOLE, draw=tmp_path / "drawn")
    assert scanned.photos[1].error is not None and scanned.photos[1].found is None
    assert scanned.detection["all"].recall.value == 0.5
    assert len(scanned.drawn) == 3


def test_pictures_of_one_name_are_drawn_beside_each_other(eager: Path, photos: Path, tmp_path: Path) -> None:
    scanned = scan(eager, [photos / "a.png", photos], search=WHOLE, draw=tmp_path / "drawn")
    assert [Path(path).name for path in scanned.drawn] == ["a.png", "a~2.png", "b.png", "c.png", "d.png"]


# arguments -> what they are refused with
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"face": "fase"}, UnknownName, "did you mean 'face'"),
        ({"threshold": 1.0}, UsageError, "between 0 and 1"),
        ({"threshold": 0.0}, UsageError, "between 0 and 1"),
    ],
)
def test_refuses(
    eager: Path, photos: Path, arguments: dict[str, object], error: type[FacewrightError], words: str
) -> None:
    with pytest.raises(error, match=words):
        scan(eager, [photos], **arguments)  # type: ignore[arg-type]


def test_the_command_prints_one_json_object(eager: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", str(eager), str(photos), "--smallest", "64", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [len(photo["faces"]) for photo in said["photos"]] == [1, 1, 1, 1]
    assert said["photos"][0]["faces"][0].keys() == {"x", "y", "w", "h", "score", "hits"}


def test_the_command_writes_csv_and_shows_numbers(
    eager: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b.png").write_bytes(b"no image")
    table, written = boxes(tmp_path, "a.png,,0,0,64,64\n"), tmp_path / "faces.csv"
    arguments = ["scan", str(eager), str(photos), "--boxes", str(table), "--csv", str(written), "--smallest", "64"]
    assert main([*arguments, "--frame", "0,0,1,1"]) == 0
    shown = capsys.readouterr()
    assert "a.png: 1 face" in shown.out
    assert "average precision" in shown.out
    assert "b.png" in shown.err
    rows = list(csv.DictReader(written.read_text().splitlines()))
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.png", "c.png", "d.png"]
    assert (rows[0]["w"], rows[0]["score"], rows[1]["error"] != "") == ("64.0", "0.997527", True)


def test_the_command_fails_where_no_photo_can_be_read(eager: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    assert main(["scan", str(eager), str(tmp_path / "a.png")]) == 1


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,x", "1 2 3 4"])
def test_four_numbers_are_four(text: str) -> None:
    with pytest.raises(UsageError, match="four numbers"):
        four_numbers(text)
