"""Photos to crops, JSON and annotated pictures; what cannot be read has its own error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright import images
from facewright.cli.main import main
from facewright.errors import UnknownName, UsageError
from facewright.faces.dlib.landmarks import FivePoints
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
    assert face_detection._stems([(path, path) for path in paths]) == ["1", "1~2", "1~2~2", "1~3"]


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["faces", str(photos), "--detector", "none", "-q"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert f"{photos / 'a/1.png'}: 1 face\n  x 0  y 0  w 80  h 90" in out and "broken.png" not in out
    assert err.count("\n") == 1 and err.startswith(f"error: {photos / 'broken.png'}: ")
    assert main([*words, "--json", "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["photos"]) == 3 and "wrote 2 crops and faces.json" in err
    assert main(["faces", str(photos / "broken.png")]) == 1
