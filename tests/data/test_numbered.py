"""Numbered images and label files: which label each image gets, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from facewright.data.sources import open_dataset
from facewright.errors import BadArchive, DataError, EmptyClass
from fixtures.trees import BOTH, as_folder, as_zip, image, images, listed


def tree(names: str, labels: dict[str, str]) -> dict[str, str | int]:
    """Path → content; an image's shade is its place in `names`."""
    return images(names) | labels


# (images, label files, path → label and split)
READ = {
    "as the origin lays it out": (
        "train_img/000002.jpg train_img/000001.jpg train_img/000010.jpg".replace("10", "03"),
        {"label_train.txt": "1\n0\n1\n"},
        {"train_img/000001.jpg": "1", "train_img/000002.jpg": "0", "train_img/000003.jpg": "1"},
    ),
    "by number, not by name": (
        "images/10.png images/9.png " + " ".join(f"images/{k}.png" for k in range(1, 9)),
        {"labels.txt": "\n".join("abbbbbbbcd")},
        {f"images/{k}.png": "abbbbbbbcd"[k - 1] for k in range(1, 11)},
    ),
    "from zero": ("img/0.png img/1.png", {"labels.txt": "x\r\ny\r\n\r\n"}, {"img/0.png": "x", "img/1.png": "y"}),
    "in one folder": ("f/face-1.png f/face-2.png", {"f/label.txt": "b\na"}, {"f/face-1.png": "b", "f/face-2.png": "a"}),
    "labels are text": ("f/1.png f/2.png", {"labels.txt": "\ufeff 01 \n1"}, {"f/1.png": "01", "f/2.png": "1"}),
    "only the folder of that name": (
        "train_img/1.png train_img/2.png test_img/1.png",
        {"label_train.txt": "0\n1"},
        {"train_img/1.png": "0", "train_img/2.png": "1"},
    ),
    "parts of a split": (
        "train/1.png train/2.png val_img/1.png test/1.png",
        {"label_train.txt": "a\nb", "label_valid.txt": "b", "Label_Test.TXT": "c"},
        {"train/1.png": "a train", "train/2.png": "b train", "val_img/1.png": "b validation", "test/1.png": "c test"},
    ),
    "no label file: classes": (
        "a/1.png b/1.png",
        {"labels.txt": "a\nb", "label_names.txt": "a\nb"},
        {"a/1.png": "a", "b/1.png": "b"},
    ),
}


@BOTH
@pytest.mark.parametrize("case", READ)
def test_each_image_has_its_line(tmp_path, made, case):
    names, labels, expected = READ[case]
    assert listed(made(tmp_path, tree(names, labels))) == expected


def test_a_wrapped_archive_is_looked_through(tmp_path):
    files = tree("x/train_img/1.png x/train_img/2.png", {"x/label_train.txt": "a\nb"})
    data = open_dataset(as_zip(tmp_path, files))
    assert data.classes == ("a", "b")
    assert [int(data.source.read(record, None).max()) for record in data.records] == [0, 1]


@BOTH
def test_images_without_labels_are_named_as_left_out(tmp_path, made):
    data = open_dataset(made(tmp_path, tree("train/1.png test/1.png test/2.png", {"label_train.txt": "a"})))
    assert [(item.path, "2" in item.reason) for item in data.broken] == [("test", True)]
    assert len(data) == 1


# (images, label files, what the message names)
REFUSED = [
    ("f/1.png f/2.png f/4.png", {"labels.txt": "a\nb\nc"}, "number 3"),
    ("f/1.png f/2.png f/3.png", {"labels.txt": "a\nb"}, r"2 lines.*got 3: f/3\.png"),
    ("f/1.png f/2.png", {"labels.txt": "a\nb\nc"}, "got 2: .* number 3"),
    ("f/0.png f/1.png f/2.png", {"labels.txt": "a\nb"}, r"from 0, got 3: f/2\.png"),
    ("f/1.png f/2.png f/002.jpg", {"labels.txt": "a\nb\nc"}, "f/002.jpg and f/2.png"),
    ("f/1.png f/ann.png", {"labels.txt": "a\nb"}, "f/ann.png"),
    ("f/1.png", {"labels.txt": " \n"}, "labels.txt"),
    ("f/1.png f/2.png", {"labels.txt": "a\n\nb"}, "line 2"),
    ("train/1.png train_img/1.png", {"label_train.txt": "a"}, "train/ and train_img/"),
    ("train/1.png", {"label_train.txt": "a", "label_val.txt": "a"}, "label_train.txt and label_val.txt"),
    ("train/1.png x/1.png", {"label_train.txt": "a", "label_val.txt": "a"}, "label_val.txt"),
    ("one/1.png two/1.png", {"label_one.txt": "a", "label_two.txt": "b"}, "got label_one.txt"),
    ("val/1.png validation_img/1.png", {"label_val.txt": "a"}, "val/ and validation_img/"),
]


@BOTH
@pytest.mark.parametrize(("names", "labels", "message"), REFUSED)
def test_what_does_not_fit_is_refused(tmp_path, made, names, labels, message):
    with pytest.raises(DataError, match=message):
        open_dataset(made(tmp_path, tree(names, labels)))


def test_labels_that_are_not_text_are_refused(tmp_path):
    with pytest.raises(DataError, match="UTF-8"):
        open_dataset(as_folder(tmp_path, tree("f/1.png", {}) | {"labels.txt": b"\xff\xfe1"}))


def test_an_image_that_is_not_read_keeps_its_line(tmp_path):
    files = tree("f/1.png f/3.png", {"labels.txt": "a\nb\na"}) | {"f/2.jxl": b"x"}
    with pytest.raises(EmptyClass, match=r"f/2\.jxl"):
        open_dataset(as_folder(tmp_path, files))
    files["labels.txt"] = b"a\na\nb"
    data = open_dataset(as_folder(tmp_path, files))
    assert [(r.path, r.label) for r in data.records] == [("f/1.png", 0), ("f/3.png", 1)]
    assert [item.path for item in data.broken] == ["f/2.jxl"]


def test_a_link_is_neither_followed_nor_does_it_shift_labels(tmp_path):
    root = as_folder(tmp_path / "data", tree("f/1.png f/3.png", {"labels.txt": "a\na\nb"}))
    (tmp_path / "outside.png").write_bytes(image(9))
    (root / "f" / "2.png").symlink_to(tmp_path / "outside.png")
    data = open_dataset(root)
    assert [r.path for r in data.records] == ["f/1.png", "f/3.png"]
    assert [item.path for item in data.broken] == ["f/2.png"]
    (root / "labels.txt").unlink()
    (tmp_path / "outside.txt").write_text("a\na\nb")
    (root / "labels.txt").symlink_to(tmp_path / "outside.txt")
    assert open_dataset(root).classes == ("f",)  # its labels are not read through the link


def test_a_dangerous_archive_is_refused_whole(tmp_path):
    files = tree("train_img/1.png", {"label_train.txt": "a", "../label_train.txt": "b"})
    with pytest.raises(BadArchive, match=r"\.\./label_train"):
        open_dataset(as_zip(tmp_path, files))


DATA = Path(__file__).parents[2] / "../shared/data"


@pytest.mark.realdata
def test_the_covered_faces_are_listed():
    if not (DATA / "covered_faces.zip").is_file():
        pytest.skip("needs ../shared/data/covered_faces.zip")
    data = open_dataset(DATA / "covered_faces.zip")
    assert (data.counts(), data.broken) == ({"0": 265, "1": 1930}, ())
    with zipfile.ZipFile(DATA / "covered_faces.zip") as archive:
        lines = archive.read("label_train.txt").decode().split()
    assert [data.classes[record.label] for record in data.records] == lines
    assert data.source.read(data.records[-1], None).shape == (64, 64, 3)
