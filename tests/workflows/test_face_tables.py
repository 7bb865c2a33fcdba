"""Faces to Parquet: the rows, what `faces` writes as files, and that a stopped run goes on."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.cli.main import main
from facewright.data.sources import open_dataset
from facewright.errors import DataError, UsageError
from facewright.events import Event, Progress
from facewright.recognition import Recognizer
from facewright.workflows import face_detection
from facewright.workflows.face_detection import faces, write_faces
from fixtures.faces import draw_people
from fixtures.tiles import Tiles, beside, blank, stand_in

pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `data` (pyarrow)")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """2 people with 3 photos: one shows two faces, one nobody, one is broken."""
    stand_in(monkeypatch)
    monkeypatch.setattr(face_detection, "PHOTOS", 2)  # three parts
    monkeypatch.setattr(face_detection, "detector_of", lambda name: Tiles())
    folder = draw_people(tmp_path / "photos", people=2, photos=3)
    beside(folder / "person_00/0.png", folder / "person_00/0.png", folder / "person_01/0.png")
    blank(folder / "person_00/1.png")
    (folder / "person_01/1.png").write_bytes(b"broken")
    return folder


def test_a_row_a_face_and_one_of_a_photo_without(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "faces.parquet"
    written = write_faces(photos, out)
    assert (written.photos, written.faces, written.failures) == (6, 5, 1)
    rows = pq.read_table(out).to_pylist()
    assert [(row["path"], row["face"]) for row in rows] == [
        ("person_00/0.png", 1), ("person_00/0.png", 2), ("person_00/1.png", None), ("person_00/2.png", 1),
        ("person_01/0.png", 1), ("person_01/1.png", None), ("person_01/2.png", 1),
    ]  # fmt: skip
    assert rows[5]["error"] is not None and rows[5]["width"] is None and rows[2]["error"] is None
    assert {row["label"] for row in rows} == {"person_00", "person_01"}
    recognizer = Recognizer(detector="dlib")
    photo = recognizer.read(photos / "person_01/0.png")
    (face,) = recognizer.faces(photo, template=face_detection.FaceSearch.of("dlib", None, 0, None, None).frame)
    assert tuple(rows[4][name] for name in "xywh") == face.box
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(rows[4]["crop"]))), face.chip)


def test_a_folder_gets_the_files_that_faces_writes(photos: Path, tmp_path: Path) -> None:
    plain = faces([photos], out=tmp_path / "plain", template="arcface", size=48)
    write_faces(photos, tmp_path / "table", template="arcface", size=48)
    files = {path.relative_to(tmp_path / "plain") for path in (tmp_path / "plain").rglob("*.png")}
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "table" / file).read_bytes() == (tmp_path / "plain" / file).read_bytes()
    for name in ("faces.json", "faces.csv"):
        text = (tmp_path / "plain" / name).read_text().replace(str(tmp_path / "plain"), str(tmp_path / "table"))
        assert (tmp_path / "table" / name).read_text() == text
    assert len(json.loads((tmp_path / "table/faces.json").read_text())["photos"]) == len(plain.photos)


def test_the_table_is_a_data_set(photos: Path, tmp_path: Path) -> None:
    write_faces(photos, tmp_path / "faces.parquet", select_face="largest")
    data = open_dataset(tmp_path / "faces.parquet")
    assert data.classes == ("person_00", "person_01") and len(data) == 6
    assert data.source.read(data.records[0], None).shape == (150, 150, 3)


def test_a_stopped_run_goes_on_and_other_crops_begin_anew(photos: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 4:
            raise KeyboardInterrupt

    out = tmp_path / "faces.parquet"
    with pytest.raises(KeyboardInterrupt):
        write_faces(photos, out, on_event=stop)
    assert write_faces(photos, out).resumed == 4
    write_faces(photos, tmp_path / "whole.parquet")
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_faces(photos, out, on_event=stop)
    assert write_faces(photos, out, size=48).resumed == 0


def test_loose_photos_and_none(photos: Path, tmp_path: Path) -> None:
    write_faces(photos / "person_01", tmp_path / "faces.parquet")
    assert set(pq.read_table(tmp_path / "faces.parquet")["label"].to_pylist()) == {None}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        write_faces(tmp_path / "empty", tmp_path / "faces.parquet")
    with pytest.raises(UsageError, match="8 px"):
        write_faces(photos, tmp_path / "faces.parquet", smallest=3)


def test_the_command(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "faces.parquet"
    assert main(["faces", str(photos), "--out", str(out), "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faces"] == 5
    assert main(["faces", str(photos), str(photos), "--out", str(out)]) == 1
    assert main(["faces", str(photos), "--on", "ray"]) == 1
    assert "--out FILE.parquet" in capsys.readouterr().err
