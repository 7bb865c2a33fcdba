"""Tables of true boxes: what they say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from facewright.data.label_files import read_boxes, splits_of
from facewright.errors import DataError


def table(folder: Path, text: str, name: str = "boxes.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_reads_boxes_photo_by_photo(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "file,split,x,y,w,h\na.jpg,training,1,2,3,4\nin/b.jpg,testing,0,0,9.5,8\na.jpg,training,5,6,7,8\nc.jpg,test,,,,\n",
    )
    boxes = read_boxes(path)
    assert {file: found.tolist() for file, found in boxes.boxes.items()} == {
        "a.jpg": [[1, 2, 3, 4], [5, 6, 7, 8]],
        "in/b.jpg": [[0, 0, 9.5, 8]],
        "c.jpg": [],  # looked at, and without a face
    }
    assert boxes.boxes["c.jpg"].shape == (0, 4)
    assert boxes.splits == {"a.jpg": "train", "in/b.jpg": "test", "c.jpg": "test"}
    assert splits_of(["c.jpg", "a.jpg", "in/b.jpg"], boxes) == {"train": [1], "test": [0, 2]}


def test_columns_in_any_order_without_splits_and_with_tabulators(tmp_path: Path) -> None:
    boxes = read_boxes(table(tmp_path, "x\ty\tw\th\tfile\n1\t2\t3\t4\ta.jpg\n", "boxes.tsv"))
    assert boxes.boxes["a.jpg"].tolist() == [[1, 2, 3, 4]]
    assert splits_of(["a.jpg"], boxes) == {}


# photo -> the file of the table that it is
@pytest.mark.parametrize(
    ("photo", "entry"),
    [("a.jpg", "a.jpg"), ("images/a.jpg", "a.jpg"), ("b.jpg", None), ("in/b.jpg", "in/b.jpg"), ("xa.jpg", None)],
)
def test_photos_are_found_by_how_their_paths_end(tmp_path: Path, photo: str, entry: str | None) -> None:
    boxes = read_boxes(table(tmp_path, "file,x,y,w,h\na.jpg,1,2,3,4\nin/b.jpg,1,2,3,4\n"))
    assert boxes.entry_of(tmp_path / photo) == entry


def test_a_photo_that_fits_two_files_is_refused(tmp_path: Path) -> None:
    boxes = read_boxes(table(tmp_path, "file,x,y,w,h\na.jpg,1,2,3,4\nin/a.jpg,1,2,3,4\n"))
    with pytest.raises(DataError, match="fits 2 files"):
        boxes.entry_of(tmp_path / "in" / "a.jpg")


# table -> why it is refused
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected the header"),
        ("file,x,y,w\na.jpg,1,2,3\n", "expected the header"),
        ("file,x,y,w,h,h\na.jpg,1,2,3,4,5\n", "expected the header"),
        ("file,x,y,w,h,colour\na.jpg,1,2,3,4,5\n", "expected the header"),
        ("file,x,y,w,h\na.jpg,1,2,3\n", "line 2: expected 5 values, got 4"),
        ("file,x,y,w,h\na.jpg,1,2,3,nine\n", "line 2: expected x, y and a width"),
        ("file,x,y,w,h\na.jpg,1,2,3,\n", "line 2: expected x, y and a width"),
        ("file,x,y,w,h\na.jpg,1,2,0,4\n", "above 0"),
        ("file,x,y,w,h\na.jpg,nan,2,3,4\n", "above 0"),
        ("file,x,y,w,h\n,1,2,3,4\n", "name of a photo"),
        ("file,split,x,y,w,h\na.jpg,trian,1,2,3,4\n", "expected the split"),
        ("file,split,x,y,w,h\na.jpg,train,1,2,3,4\na.jpg,test,1,2,3,4\n", "two splits"),
        ('file,x,y,w,h\n"a.jpg,1,2,3,4\n', "cannot be read as a table"),
    ],
)
def test_refuses(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_boxes(table(tmp_path, text))


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; expected"):
        read_boxes(tmp_path / "none.csv")
