"""Lists of pairs: which images, who, which fold; what is missing; and what is refused."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facewright.data import pairs
from facewright.data.pairs import read_pairs
from facewright.data.records import Broken
from facewright.data.store import PixelStore
from facewright.errors import DataError
from facewright.input_spec import InputSpec

NAMES = ["ann_1", "ann_2", "ann_3", "bob_1", "bob_2", "bob_3", "cy_1", "cy_2"]
VIEW_2 = "2\t1\nann\t1\t2\nann\t1\tbob\t2\nbob\t1\t3\nbob\t3\tcy\t1\n"
VIEW_1 = "2\nann 1 2\nbob 1 3\nann 1 bob 2\nbob 3 cy 1\n"
TABLE = (
    "a,b,same,fold\nann/ann_0001.jpg,ann/ann_0002.jpg,1,0\nann/ann_0001.jpg,bob/bob_0002.jpg,0,0\n"
    "bob/bob_0001.jpg,bob/bob_0003.jpg,1,1\nbob/bob_0003.jpg,cy/cy_0001.jpg,0,1\n"
)


def make_images(root: Path, nested: bool = True, suffix: str = ".jpg") -> Path:
    for shade, name in enumerate(NAMES):
        person, _, number = name.partition("_")
        path = root / (person if nested else "") / f"{person}_{int(number):04d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (shade, shade, shade)).save(path)
    return root


def listed(folder: Path, text: str, name: str = "pairs.txt") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode())
    return folder / name


def test_ten_folds_as_lfw_has_them(tmp_path):
    found = read_pairs(listed(tmp_path, VIEW_2), make_images(tmp_path / "images"))
    assert (found.name, len(found)) == ("pairs", 4)
    assert found.a == ("ann/ann_0001.jpg", "ann/ann_0001.jpg", "bob/bob_0001.jpg", "bob/bob_0003.jpg")
    assert found.b == ("ann/ann_0002.jpg", "bob/bob_0002.jpg", "bob/bob_0003.jpg", "cy/cy_0001.jpg")
    assert found.same.tolist() == [True, False, True, False]
    assert found.fold is not None
    assert found.fold.tolist() == [0, 0, 1, 1]
    assert found.people == (("ann", "ann"), ("ann", "bob"), ("bob", "bob"), ("bob", "cy"))
    assert found.broken == ()


def test_the_development_view_has_no_folds(tmp_path):
    found = read_pairs(listed(tmp_path, VIEW_1.replace("\n", "\r\n") + "\n\n"), make_images(tmp_path / "images"))
    assert found.same.tolist() == [True, True, False, False]
    assert found.fold is None


def test_a_table_says_the_same(tmp_path):
    images = make_images(tmp_path / "images")
    lfw, table = read_pairs(listed(tmp_path, VIEW_2), images), read_pairs(listed(tmp_path, TABLE, "p.csv"), images)
    assert (lfw.a, lfw.b, lfw.people) == (table.a, table.b, table.people)  # the people are the folders
    assert (lfw.same == table.same).all()
    assert (lfw.fold == table.fold).all()
    tabs = read_pairs(listed(tmp_path, TABLE.replace(",", "\t"), "p.tsv"), images)
    assert (tabs.a, tabs.b) == (table.a, table.b)


# (table, people)
PEOPLE = [
    ("ann/ann_0001.jpg,ann/ann_0002.jpg,1\n", (("ann", "ann"),)),
    ("ann/ann_0001.jpg,bob/bob_0002.jpg,FALSE\n", (("ann", "bob"),)),
    ("ann/ann_0001.jpg,ann/ann_0002.jpg,0\n", None),  # the folder is not a person
    ("ann/ann_0001.jpg,bob/bob_0001.jpg,true\n", None),
]


@pytest.mark.parametrize(("row", "people"), PEOPLE)
def test_folders_are_people_where_the_list_agrees(tmp_path, row, people):
    images = make_images(tmp_path / "images")
    assert read_pairs(listed(tmp_path, "a,b,same\n" + row, "p.csv"), images).people == people


@pytest.mark.parametrize(("nested", "suffix"), [(True, ".jpg"), (False, ".jpg"), (True, ".png"), (False, ".pgm")])
def test_images_are_found_nested_or_flat(tmp_path, nested, suffix):
    found = read_pairs(listed(tmp_path, VIEW_1), make_images(tmp_path / "images", nested, suffix))
    folder = "ann/" if nested else ""
    assert found.a[0] == f"{folder}ann_0001{suffix}"
    assert found.people is not None
    assert found.broken == ()


def test_a_flat_table_knows_no_people(tmp_path):
    images = make_images(tmp_path / "images", nested=False)
    assert read_pairs(listed(tmp_path, "a,b,same\nann_0001.jpg,ann_0002.jpg,1\n", "p.csv"), images).people is None


@pytest.mark.parametrize("suffix", [".JPG", ".Jpeg", ".PNG", ".jpeg", ".bmp", ".WEBP"])
@pytest.mark.parametrize("nested", [True, False])
def test_suffixes_are_found_in_any_case(tmp_path, nested, suffix):
    found = read_pairs(listed(tmp_path, VIEW_1), make_images(tmp_path / "images", nested, suffix))
    assert found.broken == ()
    assert found.a[0].endswith(f"ann_0001{suffix}")


def test_hidden_files_are_no_images_of_a_list(tmp_path):
    folder = make_images(tmp_path / "images")
    (folder / "ann" / "._ann_0001.jpg").write_bytes(b"x")
    (folder / "ann" / "ann_0001.JPG.txt").write_bytes(b"x")
    assert read_pairs(listed(tmp_path, VIEW_1), folder).a[0] == "ann/ann_0001.jpg"


CONTRADICTIONS = [
    "ann/ann_0001.jpg,ann/ann_0002.jpg,1\nann/ann_0001.jpg,ann/ann_0002.jpg,0\n",
    "ann/ann_0001.jpg,ann/ann_0002.jpg,1\nann/ann_0002.jpg,ann/ann_0001.jpg,0\n",
    "ann/ann_0001.jpg,bob/bob_0001.jpg,0\nbob/bob_0001.jpg,./ann/ann_0001.jpg,1\n",
]


@pytest.mark.parametrize("rows", CONTRADICTIONS)
def test_a_pair_that_is_a_match_and_none_is_refused_by_name(tmp_path, rows):
    with pytest.raises(DataError, match=r"ann/ann_0001\.jpg"):
        read_pairs(listed(tmp_path, f"a,b,same\n{rows}", "p.csv"), make_images(tmp_path / "images"))


def test_what_a_list_says_between_its_lines_is_noted(tmp_path):
    folder = make_images(tmp_path / "images")
    a, b, c = "ann/ann_0001.jpg", "ann/ann_0002.jpg", "bob/bob_0001.jpg"
    linked = f"{a},{b},1\n{b},{c},1\n{a},{c},0\n"
    notes = " ".join(read_pairs(listed(tmp_path, f"a,b,same\n{linked}", "p.csv"), folder).notes)
    assert "ann/ann_0001.jpg and bob/bob_0001.jpg" in notes and "no accuracy" in notes
    twice = f"{a},{b},1\n{b},{a},1\nann/x.jpg,{c},0\n"
    notes = read_pairs(listed(tmp_path, f"a,b,same\n{twice}", "p.csv"), folder).notes
    assert [note[:6] for note in notes] == ["1 of 3", "1 of 3"]
    assert read_pairs(listed(tmp_path, VIEW_2), folder).notes == ()


def test_missing_images_are_failures_to_acquire(tmp_path):
    images = make_images(tmp_path / "images")
    (images / "bob" / "bob_0002.jpg").unlink()
    (images / "cy" / "cy_0001.jpg").unlink()
    (images / "cy" / "cy_0001.jpg").symlink_to(images / "ann" / "ann_0001.jpg")
    (images / "ann" / "ann_0002.jpg").write_bytes(b"torn")
    found = read_pairs(listed(tmp_path, VIEW_2), images)
    assert [item.path for item in found.broken] == ["bob/bob_0002.jpg", "cy/cy_0001.jpg"]
    assert found.broken[0] == Broken("bob/bob_0002.jpg", "no such file")
    assert len(found) == 4
    data = found.dataset(images)
    assert [(record.path, record.identity) for record in data.records] == [
        ("ann/ann_0001.jpg", "ann"),
        ("ann/ann_0002.jpg", "ann"),
        ("bob/bob_0001.jpg", "bob"),
        ("bob/bob_0003.jpg", "bob"),
    ]
    store = PixelStore.open(data, InputSpec(4, 4, (0, 0, 0), (1, 1, 1)))  # finds the torn one
    assert [item.path for item in store.dataset.broken] == ["ann/ann_0002.jpg", "bob/bob_0002.jpg", "cy/cy_0001.jpg"]
    assert found.rows(store.dataset.records).tolist() == [[0, -1], [0, -1], [1, 2], [2, -1]]


# (list, what the message names); a list that begins with "a," is a table
REFUSED = [
    ("", "line 1"),
    ("ann\t1\t2\n", "line 1"),
    ("10\t300\t5\n", "line 1"),
    ("0\n", "line 1"),
    (VIEW_2.replace("2\t1\n", "3\t1\n"), r"declares 6 pairs \(3 x 1 of one person, as many of two\); it holds 4"),
    (VIEW_1 + "ann 2 3\n", "declares 4 pairs .* it holds 5"),
    ("1\n", "declares 2 pairs .* it holds 0"),
    (VIEW_2.replace("bob\t1\t3", "bob\t1\tcy\t1"), r"lines 4 to 5 \(fold 2\), got 0 and 2"),
    (VIEW_1.replace("ann 1 2\n", "ann 1\n"), "line 2"),
    (VIEW_1.replace("ann 1 2\n", "ann 1 2 bob 4\n"), "line 2"),
    (VIEW_1.replace("ann 1 2\n", "ann 1 two\n"), "line 2: .*'two'"),
    (VIEW_1.replace("ann 1 2\n", "ann 0 2\n"), "line 2"),
    (VIEW_1.replace("ann 1 2\n", "ann 2 2\n"), "line 2: .* 2 of ann"),
    (VIEW_1.replace("ann 1 bob 2", "ann 1 ann 2"), "line 4.* ann"),
    (VIEW_1.replace("ann 1 2", "../ann 1 2"), r"line 2: .*got '\.\./ann'"),
    (VIEW_1.replace("ann 1 2", "/ann 1 2"), "line 2"),
    (VIEW_1.replace("ann 1 2", ".. 1 2"), "line 2"),
    (VIEW_1.replace("ann 1 2", "a\\nn 1 2"), "line 2"),
    (VIEW_1.replace("ann", "zed").replace("bob", "zoe").replace("cy", "zac"), "6 images"),
    ("a,b\nx,y\n", "a,b,same"),
    ("a,b,same,who\nx,y,1,z\n", "got 'a,b,same,who'"),
    ("a,b,same,same\nx,y,1,1\n", "a,b,same"),
    ("a,b,same\n", "p.csv"),
    ("a,b,same\nx,y\n", "line 2: .*3 .*2"),
    ("a,b,same\nx,y,1\nx,z,maybe\n", "line 3.*'maybe'"),
    ("a,b,same\nx,x,1\n", "line 2: .* x "),
    ("a,b,same\nx,./x,1\n", "line 2"),
    ("a,b,same\n../x,y,1\n", "line 2.*'../x'"),
    ("a,b,same\nx,/etc/passwd,1\n", "line 2"),
    ("a,b,same\nx,C:\\y,1\n", "line 2"),
    ("a,b,same\n,y,1\n", "line 2"),
    ("a,b,same,fold\nx,y,1,\n", "line 2: .*got ''"),
    ("a,b,same,fold\nx,y,1,-1\n", "line 2: .*got '-1'"),
    ('a,b,same\n"x,y,1\n', "p.csv"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_wrong_lists_are_refused_with_the_line(tmp_path, text, message):
    where = listed(tmp_path, text, "p.csv" if text.startswith(("a,", '"')) else "p.txt")
    with pytest.raises(DataError, match=message):
        read_pairs(where, make_images(tmp_path / "images"))


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="absent"):
        read_pairs(listed(tmp_path, VIEW_1), tmp_path / "absent")
    with pytest.raises(DataError, match=r"absent\.txt"):
        read_pairs(tmp_path / "absent.txt", make_images(tmp_path / "images"))
    (tmp_path / "x.txt").write_bytes(b"\xfa\xfb")
    with pytest.raises(DataError, match="UTF-8"):
        read_pairs(tmp_path / "x.txt", tmp_path / "images")


def test_examples_in_the_docstrings():
    assert doctest.testmod(pairs).failed == 0


DATA = Path(__file__).parents[2] / "../shared/data/lfw_view1_train"


@pytest.mark.realdata
def test_both_lists_of_the_development_view_agree():
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data/lfw_view1_train")
    lfw, table = (read_pairs(DATA / name, DATA / "images") for name in ("pairsDevTrain.txt", "pairs.csv"))
    assert (lfw.a, lfw.b, lfw.people, lfw.broken) == (table.a, table.b, table.people, ())
    assert np.array_equal(lfw.same, table.same)
    assert int(lfw.same.sum()) == 1100
    assert len(lfw.dataset(DATA / "images")) == 3443
