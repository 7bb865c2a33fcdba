"""A dataset written as an npz and opened again: the same pixels and classes; whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.data import exporting
from facewright.data.exporting import export_npz
from facewright.data.records import Dataset, Record
from facewright.data.sources import open_dataset
from facewright.errors import DataError, FacewrightError, UsageError

DRAWN = "synthetic:faces?identities=3&images=4&size=24&task=mask"


def pixels(data: Dataset) -> np.ndarray:
    return np.stack([data.source.read(record, None) for record in data.records])


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_drawn_faces_come_back(tmp_path, order):
    data = open_dataset(DRAWN)
    told: list[tuple[int, int]] = []
    written = export_npz(
        data, tmp_path / "x.npz", colour_order=order, on_event=lambda event: told.append((event.done, event.total))
    )
    again = open_dataset(written.where)
    assert (again.classes, again.labels.tolist()) == (data.classes, data.labels.tolist())
    assert (pixels(again) == pixels(data)).all()
    assert (written.images, written.height, written.width, written.broken) == (12, 24, 24, ())
    assert written.classes == ("mask", "no_mask")
    assert told in ([], [(n + 1, 12) for n in range(12)])  # none where the pixels are kept already


def test_the_file_is_what_others_expect(tmp_path):
    data = open_dataset(DRAWN)
    export_npz(data, tmp_path / "x.npz", colour_order="bgr")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
        assert set(found) == {"input", "target", "classes"}
        assert (found["input"].dtype, found["input"].shape) == (np.uint8, (12, 24, 24, 3))
        assert (found["target"].dtype, found["target"].shape) == (np.int64, (12, 1))
        assert (found["input"][..., ::-1] == pixels(data)).all()
        assert found["target"][:, 0].tolist() == data.labels.tolist()
    first = (tmp_path / "x.npz").read_bytes()
    export_npz(data, tmp_path / "x.npz", colour_order="bgr")
    assert (tmp_path / "x.npz").read_bytes() == first  # no time in it


def photos(root: Path, *sizes: tuple[int, int]) -> Path:
    for number, size in enumerate(sizes):
        path = root / ("ann" if number % 2 else "bob") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size[::-1], (number, 0, 0)).save(path)
    return root


def test_sizes_and_broken_files(tmp_path):
    root = photos(tmp_path / "faces", (8, 6), (8, 6), (8, 6), (8, 6))
    (root / "ann" / "0.png").write_bytes(b"torn")
    written = export_npz(open_dataset(root), tmp_path / "x.npz")
    assert (written.images, written.height, written.width) == (4, 8, 6)
    assert [item.path for item in written.broken] == ["ann/0.png"]
    photos(root, (8, 6), (8, 6), (8, 6), (9, 6))
    before = (tmp_path / "x.npz").read_bytes()
    with pytest.raises(UsageError, match=r"of one size \(8×6 as the first\), got 9×6 of ann/3\.png; give the --size"):
        export_npz(open_dataset(root), tmp_path / "x.npz")
    assert (tmp_path / "x.npz").read_bytes() == before
    assert export_npz(open_dataset(root), tmp_path / "x.npz", size=5).height == 5
    assert pixels(open_dataset(tmp_path / "x.npz")).shape == (4, 5, 5, 3)


def test_what_cannot_be_written(tmp_path):
    data = open_dataset(photos(tmp_path / "faces", (8, 6), (8, 6)))
    with pytest.raises(UsageError, match=r"expected the name of an \.npz"):
        export_npz(data, tmp_path / "x.zip")
    nameless = Dataset("x", "x", (), (Record("ann/1.png", None),), data.source)
    with pytest.raises(DataError, match="a class for every image"):
        export_npz(nameless, tmp_path / "x.npz")
    for path in (tmp_path / "faces").rglob("*.png"):
        path.write_bytes(b"torn")
    with pytest.raises(DataError, match="not one image can be read"):
        export_npz(data, tmp_path / "x.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    data = open_dataset(DRAWN)
    (tmp_path / "x.npz").write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "_write_images", full)
    with pytest.raises(FacewrightError, match=r"x\.npz: could not be written .*No space left.* is unchanged"):
        export_npz(data, tmp_path / "x.npz")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x.npz": b"old"}


DATA = Path(__file__).parents[2] / "../shared/data/face_or_not"


@pytest.mark.realdata
def test_photos_come_back_from_bgr(tmp_path):
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data/face_or_not")
    data = open_dataset(DATA).subset(range(0, 6000, 40))
    again = open_dataset(export_npz(data, tmp_path / "x.npz", colour_order="bgr").where)
    assert (again.classes, again.labels.tolist()) == (data.classes, data.labels.tolist())
    assert (pixels(again) == pixels(data)).all()
