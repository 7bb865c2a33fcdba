"""Label files with any columns: what is recognized, what is asked about, what each image becomes."""

from __future__ import annotations

import pytest

from facewright.data.addresses import join_address, with_options
from facewright.data.sources import open_dataset
from facewright.data.targets import task_of
from facewright.errors import DataError, EmptyClass, UnknownName, UsageError
from fixtures.trees import BOTH, as_folder, as_zip, images, listed

FLAT = "1.png 2.png"
ANN_BOB = {"1.png": "ann", "2.png": "bob"}

# (images, label files, path → label and split)
READ = {
    "beside its images": (FLAT, {"labels.csv": "path,label\n1.png,ann\n2.png,bob\n"}, ANN_BOB),
    "images in a folder": (
        "img/1.png img/2.png",
        {"labels.csv": "filename,class\n1.png,ann\n2.png,bob\n"},
        {"img/1.png": "ann", "img/2.png": "bob"},
    ),
    "a contest": (  # ids without suffix; nobody knows the labels of test/
        "train/a1.png train/b2.png test/c3.png",
        {"train.csv": "id,label\na1,0\nb2,1\n", "sample_submission.csv": "id,label\nc3,0\n"},
        {"train/a1.png": "0", "train/b2.png": "1"},
    ),
    "train and test with their own lists": (
        "train/1.png train/2.png test/1.png",
        {"train.csv": "image,label\n1.png,a\n2.png,b\n", "test.csv": "image,label\n1.png,a\n"},
        {"train/1.png": "a train", "train/2.png": "b train", "test/1.png": "a test"},
    ),
    "Training and Testing": (
        "Training/1.png Training/2.png Testing/3.png",
        {"Training.csv": "file;emotion\n1.png;a\n2.png;b\n", "Testing.csv": "file;emotion\n3.png;a\n"},
        {"Training/1.png": "a train", "Training/2.png": "b train", "Testing/3.png": "a test"},
    ),
    "lines of name and number": (
        "001.png 002.png",
        {"labels.txt": "001.png 0\n002.png 1\n"},
        {"001.png": "0", "002.png": "1"},
    ),
    "lines of number and name": (
        "001.png 002.png",
        {"list.txt": "0 001.png\n1 002.png\n"},
        {"001.png": "0", "002.png": "1"},
    ),
    "without a header": (
        "a/1.png a/2.png",
        {"x.csv": "a/1.png,ann\na/2.png,bob\n"},
        {"a/1.png": "ann", "a/2.png": "bob"},
    ),
    "tabs": (FLAT, {"labels.txt": "image\tname\n1.png\tann\n2.png\tbob\n"}, ANN_BOB),
    "semicolons": (FLAT, {"labels.csv": "image;label\n1.png;ann\n2.png;bob\n"}, ANN_BOB),
    "another suffix and case": ("A.PNG b.png", {"labels.csv": "file,label\na.jpg,x\nB,y\n"}, {}),
    "a usage column": (
        FLAT,
        {"labels.csv": "image,label,Usage\n1.png,ann,Training\n2.png,bob,PrivateTest\n"},
        {"1.png": "ann train", "2.png": "bob test"},
    ),
    "an index column first": (FLAT, {"labels.csv": ",filename,class\n0,1.png,ann\n1,2.png,bob\n"}, ANN_BOB),
    "an id beside the path": (FLAT, {"labels.csv": "id,path,label\n7,1.png,ann\n8,2.png,bob\n"}, ANN_BOB),
    "who alone": (FLAT, {"labels.csv": "path,subject\n1.png,ann\n2.png,bob\n"}, ANN_BOB),
    "paths from the root": (
        "data/img/1.png data/img/2.png",
        {"data/labels.csv": "path,label\ndata/img/1.png,ann\nimg\\2.png,bob\n"},
        {"data/img/1.png": "ann", "data/img/2.png": "bob"},
    ),
    "folders that agree": (
        "ann/1.png bob/2.png",
        {"labels.csv": "path,label\nann/1.png,0\nbob/2.png,1\n"},
        {"ann/1.png": "ann", "bob/2.png": "bob"},
    ),
    "a folder of images called like one": (
        "images/1.png images/2.png",
        {"labels.csv": "path,label\nimages/1.png,ann\nimages/2.png,bob\n"},
        {"images/1.png": "ann", "images/2.png": "bob"},
    ),
    "notes that are no labels": (
        "ann/1.png bob/2.png",
        {"notes.txt": "made by hand\nin 2020\n", "license.txt": "x"},
        {"ann/1.png": "ann", "bob/2.png": "bob"},
    ),
    "a table of something else": (
        "ann/1.png bob/2.png",
        {"prices.csv": "id,price\n1,2\n"},
        {"ann/1.png": "ann", "bob/2.png": "bob"},
    ),
}


ENCODINGS = {
    "a byte order mark": lambda text: text.encode("utf-8-sig"),
    "Windows line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "line ends of old": lambda text: text.replace("\n", "\r").encode(),
    "UTF-16 of a spreadsheet": lambda text: text.encode("utf-16"),
    "quoted": lambda text: text.replace("ann", '"ann, the ""first"""').encode(),
}


@pytest.mark.parametrize("how", ENCODINGS)
def test_a_label_file_may_be_written_as_spreadsheets_do(tmp_path, how):
    expected = {
        path: 'ann, the "first"' if how == "quoted" and label == "ann" else label for path, label in ANN_BOB.items()
    }
    content = ENCODINGS[how]("path,label\n1.png,ann\n2.png,bob\n")
    assert listed(as_folder(tmp_path, images(FLAT) | {"labels.csv": content})) == expected


@pytest.mark.parametrize(
    "content", [b"\xdc", "path,label\n1.png,ann".encode("utf-16-le"), b"path,label\n1.png,ann\n\0"]
)
def test_a_damaged_label_file_never_falls_back_on_another_one(tmp_path, content):
    """Its reason is told, whatever else lies beside it."""
    form = {"labels.csv": content, "sample_submission.csv": "id,label\n1,ann\n2,ann\n"}
    with pytest.raises(DataError, match="UTF-8"):
        open_dataset(as_folder(tmp_path, images(FLAT) | form))


def test_a_table_in_doubt_that_names_images_without_suffix_is_asked_about(tmp_path):
    files = images("train/a1.png train/b2.png test/c3.png")
    with pytest.raises(DataError, match="--columns"):
        open_dataset(as_folder(tmp_path, files | {"train.csv": "id,label,class\na1,0,0\nb2,1,1\n"}))


def test_a_table_that_is_not_read_is_named(tmp_path):
    files = images("ann/1.png bob/2.png") | {"prices.csv": "id,price\n1,2\n"}
    assert any(note.startswith("prices.csv is left alone") for note in open_dataset(as_folder(tmp_path, files)).notes)


def test_the_column_of_the_label_is_a_target_under_its_own_name(tmp_path):
    text = "path,emotion,age\n1.png,happy,31\n2.png,sad,40\n"
    data = open_dataset(as_folder(tmp_path, images(FLAT) | {"labels.csv": text}))
    assert data.all_columns == ("emotion", "age")
    task = task_of("age:number,emotion:classes,label:classes", data.all_columns, data.column, data.where)
    targets = data.with_task(task)
    assert targets.column("emotion") == targets.column("label") == ("happy", "sad")
    assert targets.targets.tolist() == [[31.0, 0.0, 0.0], [40.0, 1.0, 1.0]]


@BOTH
@pytest.mark.parametrize("case", [case for case in READ if READ[case][2]])
def test_what_leaves_no_doubt_is_read(tmp_path, made, case):
    names, texts, expected = READ[case]
    assert listed(made(tmp_path, images(names) | texts)) == expected


def test_a_name_with_another_suffix_is_not_guessed(tmp_path):
    names, texts, _ = READ["another suffix and case"]
    with pytest.raises(EmptyClass, match=r"a\.jpg"):
        open_dataset(as_folder(tmp_path, images(names) | texts))


def test_images_that_no_line_names_are_left_out_and_counted(tmp_path):
    names, texts, _ = READ["a contest"]
    data = open_dataset(as_folder(tmp_path, images(names) | {"train.csv": texts["train.csv"]}))
    assert [(item.path, "1" in item.reason, "train.csv" in item.reason) for item in data.broken] == [
        ("test", True, True)
    ]
    assert data.layout == "labels"
    assert any("train.csv" in note for note in data.notes)


# (images, label files, options, what the error names)
DOUBT = [
    (
        FLAT,
        {"x.csv": "file,label,emotion\n1.png,a,b\n2.png,b,a\n"},
        {},
        ["label and emotion", "1.png,a,b", "--columns"],
    ),
    (FLAT, {"x.csv": "image,photo,label\n1.png,2.png,a\n2.png,1.png,b\n"}, {}, ["image and photo", "--columns"]),
    (FLAT, {"x.csv": "1.png,a,7\n2.png,b,8\n"}, {}, ["1.png,a,7", "--columns"]),
    (FLAT, {"x.csv": "path,label,splits\n1.png,a,train\n2.png,b,test\n"}, {}, ["'splits'", "--columns"]),
    (
        "ann/1.png bob/2.png",
        {"labels.csv": "path,label\nann/1.png,x\nbob/2.png,x\n"},
        {},
        ["--layout folders", "--layout labels"],
    ),
    (
        "ann/1.png ann/2.png bob/3.png",
        {"labels.csv": "path,label\nann/1.png,x\nann/2.png,y\nbob/3.png,z\n"},
        {},
        ["--layout"],
    ),
    ("a/1.png b/1.png", {"labels.csv": "file,label\n1.png,x\n"}, {"layout": "labels"}, ["a/1.png and b/1.png"]),
]


@BOTH
@pytest.mark.parametrize(("names", "texts", "options", "words"), DOUBT, ids=range(len(DOUBT)))
def test_doubt_is_an_error_that_says_what_to_type(tmp_path, made, names, texts, options, words):
    where = join_address(str(made(tmp_path, images(names) | texts)), options)
    with pytest.raises(DataError) as caught:
        open_dataset(where)
    assert not [word for word in words if word not in str(caught.value)]


# (label file, options, path → label and split)
CHOSEN = [
    ("x,y,z\n1.png,7,ann\n2.png,8,bob\n", {"columns": "image=x,label=z"}, ANN_BOB),
    ("1.png,7,ann\n2.png,8,bob\n", {"columns": "image=1,label=3"}, ANN_BOB),
    ("file,label,emotion\n1.png,a,ann\n2.png,a,bob\n", {"columns": "label=Emotion"}, ANN_BOB),
    (
        "file,label,fold\n1.png,ann,train\n2.png,bob,val\n",
        {"columns": "split=fold"},
        {"1.png": "ann train", "2.png": "bob validation"},
    ),
    ("file,label\n1.png,0\n2.png,1\n", {"names": "0=ann,1=bob"}, ANN_BOB),
    ("file,label\n1.png,0\n2.png,1\n", {"names": "1=bob"}, {"1.png": "0", "2.png": "bob"}),
    ("file,name,splt\n1.png,ann,x\n2.png,bob,y\n", {"columns": "image=file,label=name"}, None),
    ("file,smile\n1.png,\n2.png,1\n", {"columns": "label=smile"}, {"2.png": "1"}),
]


@BOTH
@pytest.mark.parametrize(("text", "options", "expected"), CHOSEN, ids=range(len(CHOSEN)))
def test_what_is_said_is_done_and_stands_in_the_address(tmp_path, made, text, options, expected):
    where = with_options(str(made(tmp_path, images(FLAT) | {"labels.csv": text})), options)
    if expected is None:
        with pytest.raises(DataError, match="splt"):
            open_dataset(where)
        return
    assert listed(where) == expected
    assert listed(open_dataset(where).where) == expected


def test_class_names_from_a_small_file(tmp_path):
    folder = as_folder(tmp_path / "d", images(FLAT) | {"labels.csv": "file,label\n1.png,0\n2.png,1\n"})
    for number, text in enumerate(
        ("0,ann\n1,bob\n", "0=ann\n1=bob", "0\tann\n1\tbob\n", "ann\nbob\n", "\ufeff0;ann\n1;bob")
    ):
        (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
        assert listed(with_options(str(folder), {"names": str(tmp_path / f"{number}.txt")})) == ANN_BOB


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"columns": "image"}, UsageError, "image"),
        ({"columns": "image=file,image=label"}, UsageError, "image=label"),
        ({"columns": "imge=file"}, UnknownName, "image"),
        ({"columns": "image=fil"}, UnknownName, "file"),
        ({"columns": "label=9"}, UnknownName, "9"),
        ({"names": "0"}, UsageError, "0"),
        ({"names": "0=a,0=b"}, UsageError, "0=b"),
        ({"layout": "celeb"}, UnknownName, "celeba"),
        ({"range": "unit"}, UsageError, "range"),
        ({"label-from": "(unclosed"}, UsageError, "(unclosed"),
        ({"label-from": r".+"}, UsageError, "label"),
        ({"label-from": r"(?P<label>x+)"}, DataError, "x+"),
    ],
)
def test_wrong_options_are_refused_by_name(tmp_path, options, error, word):
    folder = as_folder(tmp_path, images(FLAT) | {"labels.csv": "file,label\n1.png,0\n2.png,1\n"})
    with pytest.raises(error) as caught:
        open_dataset(join_address(str(folder), options))
    assert word in str(caught.value)


def test_other_columns_are_kept_and_follow_their_images(tmp_path):
    text = "path,identity,age,label\n2.png,bo,30,smile\n1.png,ann,,none\n"
    data = open_dataset(as_folder(tmp_path, images(FLAT) | {"labels.csv": text}))
    assert (data.columns, data.column("age")) == (("age",), ("", "30"))
    assert data.people == ("ann", "bo")
    assert data.subset([1]).column("age") == ("30",)


NAMES = [
    (
        r"(?P<label>.+)_\d+",
        "ann_1.png ann_2.png bob_1.png",
        {"ann_1.png": "ann", "ann_2.png": "ann", "bob_1.png": "bob"},
    ),
    (
        r"(?P<split>train|test)/(?P<label>[a-z]+)",
        "train/ann1.png test/bob1.png",
        {"train/ann1.png": "ann train", "test/bob1.png": "bob test"},
    ),
    (r"(?P<identity>\w+)-(?P<age>\d+)", "x/ann-30.png x/bob-7.png", {"x/ann-30.png": "ann", "x/bob-7.png": "bob"}),
    (r"^(?P<label>[^/]+)/", "ann/deep/1.png bob/deep/er/1.png", {"ann/deep/1.png": "ann", "bob/deep/er/1.png": "bob"}),
    (r"_(?P<label>[01])\.png", "a_0.png b_1.png", {"a_0.png": "0", "b_1.png": "1"}),
]


@BOTH
@pytest.mark.parametrize(("pattern", "names", "expected"), NAMES)
def test_labels_in_file_names(tmp_path, made, pattern, names, expected):
    where = with_options(str(made(tmp_path, images(names))), {"label-from": pattern})
    assert listed(where) == expected
    assert listed(open_dataset(where).where) == expected


def test_a_path_that_does_not_fit_is_left_out_and_the_pattern_is_offered_where_all_fit(tmp_path):
    folder = as_folder(tmp_path, images("ann_1.png bob_1.png loose.png"))
    data = open_dataset(with_options(str(folder), {"label-from": r"(?P<label>.+)_\d+"}))
    assert [item.path for item in data.broken] == ["loose.png"]
    (folder / "loose.png").unlink()
    with pytest.raises(DataError, match="--label-from"):
        open_dataset(folder)


@BOTH
def test_a_path_may_hold_spaces(tmp_path, made):
    files = {"my face.png": 0, "2.png": 1, "labels.txt": "my face.png 0\n2.png 1\n"}
    assert listed(made(tmp_path, files)) == {"my face.png": "0", "2.png": "1"}


def test_several_label_files_of_other_columns_are_refused(tmp_path):
    texts = {"train.csv": "image,label,age\n1.png,a,3\n", "test.csv": "image,label\n2.png,b\n"}
    with pytest.raises(DataError, match=r"(?s)test\.csv.*train\.csv|train\.csv.*test\.csv"):
        open_dataset(as_folder(tmp_path, images("train/1.png test/2.png") | texts))


def test_a_list_of_another_set_is_named(tmp_path):
    folder = as_folder(tmp_path, images(FLAT) | {"labels.csv": "path,label\nx9.png,a\n"})
    with pytest.raises(DataError, match=r"x9\.png"):
        open_dataset(f"{folder}?columns=image=path")


def test_more_rows_than_the_limit_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("facewright.data.text_tables.MOST_ROWS", 3)
    with pytest.raises(DataError, match=r"labels\.csv.* 3 "):
        open_dataset(as_folder(tmp_path, images(FLAT) | {"labels.csv": "path,label\n" + "1.png,a\n" * 4}))


def test_a_table_alone_looks_up_images_by_id(tmp_path):
    as_folder(tmp_path, images("deep/er/a.png deep/b.png") | {"x.csv": "id,label\na,0\nb,1\n"})
    assert listed(tmp_path / "x.csv") == {"deep/b.png": "1", "deep/er/a.png": "0"}
    assert listed(as_zip(tmp_path / "z", images("p/a.png p/b.png") | {"x.csv": "id,label\na,0\nb,1\n"})) == {
        "p/a.png": "0",
        "p/b.png": "1",
    }
