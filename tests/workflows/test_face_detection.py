"""Photos to crops, JSON and annotated pictures; what cannot be read has its own error."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright import images
from facewright.cli.main import main
from facewright.errors import UnknownName, UsageError
from facewright.faces.alignment import ARCFACE, ARCFACE_CORNERS, DLIB, align_face, for_centres, framed
from facewright.faces.dlib.detection import FivePoints
from facewright.faces.selection import Face
from facewright.input_spec import Template
from facewright.recognition import Recognizer
from facewright.workflows import face_detection
from facewright.workflows.face_detection import faces

SHARES = [[0.7, 0.4], [0.6, 0.4], [0.3, 0.4], [0.4, 0.4], [0.5, 0.6]]


class FakePoints:
    def of(self, photo: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        return np.asarray(boxes[:, None, :2] + np.array(SHARES) * boxes[:, None, 2:])


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cropped photos of one name and a broken one; landmarks stand in."""
    monkeypatch.setattr(FivePoints, "load", classmethod(lambda cls, **_: FakePoints()))
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        Image.fromarray(np.full((90, 80, 3), 150, np.uint8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos/broken.png").write_bytes(b"broken")
    return tmp_path / "photos"


@pytest.mark.parametrize(("template", "side"), [("dlib", 150), ("arcface", 112)])
def test_crops_json_and_pictures(photos: Path, tmp_path: Path, template: str, side: int) -> None:
    out = tmp_path / "out"
    found = faces([photos], out=out, template=template, detector="none", draw=True)
    one, two, broken = found.photos
    assert [Path(path) for path in (*one.crops, *two.crops)] == [out / "a/1-1.png", out / "b/1-1.png"]
    assert images.read(Path(one.crops[0])).shape == (side, side, 3)
    assert one.drawn is not None and images.read(Path(one.drawn)).shape == (90, 80, 3)
    assert broken.error is not None and broken.size is None and not broken.faces and not broken.crops
    facts = json.loads((out / "faces.json").read_text())
    assert facts == found.to_dict() and facts["photos"][2]["error"] == broken.error
    (face,) = facts["photos"][0]["faces"]
    assert (face["x"], face["y"], face["w"], face["h"], face["score"]) == (0, 0, 80, 90, None)
    assert np.shape(face["points"]) == (5, 2) and face["crop"] == one.crops[0]


def test_the_drawn_picture_shows_box_and_points(photos: Path, tmp_path: Path) -> None:
    found = faces([photos / "a"], out=tmp_path / "out", detector="none", draw=True).photos[0]
    assert found.drawn is not None
    drawn = images.read(Path(found.drawn))
    assert (drawn[54, 40] != 150).any() and (drawn[45, 0] != 150).any()  # the nose, the left edge
    assert (drawn[80, 40] == 150).all()


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        ({"draw": True}, UsageError, "--out DIR"),
        ({"smallest": 7.0}, UsageError, "8 px"),
        ({"smallest": float("nan")}, UsageError, "8 px"),
        ({"margin": 2.5}, UsageError, "margin"),
        ({"size": 7}, UsageError, "8 to 2048"),
        ({"template": "insight"}, UnknownName, "template"),
        ({"detector": "haar"}, UnknownName, "detector"),
    ],
)
def test_refused(photos: Path, asked: dict[str, object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        faces([photos], **asked)  # type: ignore[arg-type]


def test_no_photo_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="jpg"):
        faces([tmp_path], detector="none")


def test_names_of_files() -> None:
    paths = [Path(name) for name in ("a/1.jpg", "b/1.jpg", "1~2.png", "c/1.png")]
    assert face_detection.photo_stems([(path, path) for path in paths]) == ["1", "1~2", "1~2~2", "1~3"]


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["faces", str(photos), "--detector", "none", "-q"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert f"{photos / 'a/1.png'}: 1 face\n  x 0  y 0  w 80  h 90" in out and "broken.png" not in out
    assert err.count("\n") == 1 and err.startswith(f"error: {photos / 'broken.png'}: ")
    assert main([*words, "--json", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["photos"]) == 3 and "wrote 2 crops with faces.json and faces.csv" in err
    assert main(["faces", str(photos / "broken.png")]) == 1


def test_faces_are_numbered_from_left_to_right_or_one_is_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [(50.0, 0.0, 20.0, 20.0), (5.0, 50.0, 40.0, 30.0), (30.0, 30.0, 22.0, 26.0)]

    def found(*_: object, **options: object) -> tuple[tuple[Face, ...], None]:
        side = options["template"].side  # type: ignore[attr-defined]
        grey = np.zeros((side, side, 3), np.uint8)
        points = np.arange(10.0).reshape(5, 2)
        return tuple(Face(box, 0.9 - n / 10, points, grey) for n, box in enumerate(boxes)), None

    monkeypatch.setattr(Recognizer, "search", found)
    out = tmp_path / "out"
    photo = faces([photos], out=out, detector="none", size=64).photos[0]
    assert [face.box for face in photo.faces] == sorted(boxes)
    assert [Path(path).name for path in photo.crops] == ["1-1.png", "1-2.png", "1-3.png"]
    assert images.read(Path(photo.crops[0])).shape == (64, 64, 3)
    rows = list(csv.DictReader((out / "faces.csv").read_text().splitlines()))
    assert [(row["file"], row["face"]) for row in rows[:3]] == [(str(photos / "a/1.png"), n) for n in "123"]
    assert [tuple(float(row[key]) for key in "xywh") for row in rows[:3]] == sorted(boxes)
    assert [float(row["score"]) for row in rows[:3]] == [0.8, 0.7, 0.9] and rows[0]["crop"] == photo.crops[0]
    assert [float(rows[0][key]) for key in ("x1", "y1", "y5")] == [0, 1, 9]
    for select_face, box in (("largest", boxes[1]), ("centre", boxes[2])):
        one = faces([photos], out=tmp_path / select_face, detector="none", select_face=select_face).photos[0]
        assert [face.box for face in one.faces] == [box]
        assert one.crops == (str(tmp_path / select_face / "a/1.png"),)
    refused = faces([photos], out=tmp_path / "error", detector="none", select_face="error").photos[0]
    assert (refused.faces, refused.crops) == ((), ()) and "3" in str(refused.error)


@pytest.mark.parametrize("template", [DLIB, ARCFACE, ARCFACE_CORNERS])
def test_a_margin_puts_the_crop_into_a_larger_one(template: Template) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    points = np.array(template.points) * template.side + 30  # one px of the crop is one of the photo
    side, more = template.side, template.side // 2
    crop = align_face(photo, points, template=template)
    wide = align_face(photo, points, template=framed(template, side + 2 * more, more / side))
    inner = wide[more : more + side, more : more + side].astype(int)
    assert np.abs(inner - crop).max() <= (40 if template.rule == "corners" else 1)


def test_the_two_kinds_of_arcface_points_agree_with_a_margin() -> None:
    wide = framed(ARCFACE, 200, 0.3)
    assert np.allclose(for_centres(framed(ARCFACE_CORNERS, 200, 0.3)).points, wide.points)
    assert for_centres(ARCFACE_CORNERS) == ARCFACE
