import dataclasses
import pickle

import numpy as np
import pytest

from facewright.data.image_records import FileSource
from facewright.data.records import Broken, Dataset, Record, merge_broken
from facewright.errors import DataError, EmptyClass, UsageError
from fixtures.trees import as_folder, images

RECORDS = (
    Record("ann/1.jpg", 0),
    Record("ann/2.jpg", 0, identity="ann"),
    Record("cleo/1.jpg", 2, split="test"),
    Record("loose.jpg", None),
)


def dataset(records: tuple[Record, ...] = RECORDS) -> Dataset:
    return Dataset("faces", "/faces", ("ann", "bob", "cleo"), records, FileSource("/faces"))


def test_labels_and_counts_are_in_order():
    assert dataset().labels.tolist() == [0, 0, 2, -1]  # -1: no label
    assert dataset().labels.dtype == np.int64
    assert dataset().counts() == {"ann": 2, "bob": 0, "cleo": 1}
    assert dataset(()).labels.shape == (0,)
    assert len(dataset()) == 4


def test_broken_files_are_dropped_and_kept_in_mind():
    less = dataset().without([Broken("ann/1.jpg", "is cut short")])
    assert [r.path for r in less.records] == ["ann/2.jpg", "cleo/1.jpg", "loose.jpg"]
    assert less.broken == (Broken("ann/1.jpg", "is cut short"),)
    assert less.classes == ("ann", "bob", "cleo")
    twice = less.without([Broken("loose.jpg", "is empty")])  # bob had none before: that is not this call's doing
    assert [b.path for b in twice.broken] == ["ann/1.jpg", "loose.jpg"]
    assert dataset().without([]) == dataset()


def test_a_class_left_without_images_is_named():
    with pytest.raises(EmptyClass, match=r"none is left in cleo \(cleo/1\.jpg: is empty\)"):
        dataset().without([Broken("cleo/1.jpg", "is empty")])


def test_a_subset_keeps_classes_and_order():
    part = dataset().subset(np.array([2, 0]))
    assert [r.path for r in part.records] == ["cleo/1.jpg", "ann/1.jpg"]
    assert part.labels.tolist() == [2, 0]
    assert part.classes == dataset().classes


@pytest.mark.parametrize(
    "records",
    [
        (Record("a.jpg", 0), Record("a.jpg", 1)),  # one path twice
        (Record("a.jpg", 3),),  # a label beyond the classes
        (Record("a.jpg", -1),),  # -1 is not "unknown" here; None is
    ],
)
def test_records_that_contradict_themselves_are_refused(records):
    with pytest.raises(ValueError):
        dataset(records)


DIGESTS = ["a", "b", "c", "d"]


def test_the_fingerprint_stands_for_classes_paths_labels_and_pixels():
    base = dataset()
    prints = [
        base.fingerprint(DIGESTS),
        base.fingerprint(["a", "b", "c", "e"]),  # other pixels
        base.fingerprint(["b", "a", "c", "d"]),  # pixels exchanged
        dataclasses.replace(base, classes=("ann", "bob", "dora")).fingerprint(DIGESTS),
        dataset((Record("ann/0.jpg", 0), *RECORDS[1:])).fingerprint(DIGESTS),
        dataset((Record("ann/1.jpg", 1), *RECORDS[1:])).fingerprint(DIGESTS),
        base.subset([0, 1, 2]).fingerprint(DIGESTS[:3]),
    ]
    assert len(set(prints)) == len(prints)
    moved = dataclasses.replace(base, name="other", where="/elsewhere")
    assert moved.fingerprint(DIGESTS) == prints[0]  # where it lies is not what it is
    with pytest.raises(ValueError, match="one digest a record"):
        base.fingerprint(DIGESTS[:2])


def test_a_data_set_can_be_sent_to_a_worker():
    assert pickle.loads(pickle.dumps(dataset())) == dataset()  # noqa: S301 - our own bytes


def test_the_first_reason_given_for_a_file_stays():
    merged = merge_broken([Broken("b", "1"), Broken("a", "2")], [Broken("b", "3")])
    assert merged == (Broken("a", "2"), Broken("b", "1"))


def test_arrays_in_memory_are_a_data_set():
    grey = np.arange(2 * 5 * 4, dtype=np.uint8).reshape(2, 5, 4)
    data = Dataset.from_arrays(grey, np.array([3, 1]), identities=["ann", "bo"])
    assert (data.classes, data.labels.tolist(), data.people) == (("1", "3"), [1, 0], ("ann", "bo"))
    assert (data.source.read(data.records[1], None) == grey[1][:, :, None]).all()
    assert data.source.content_key(data.records[0]) != data.source.content_key(data.records[1])
    several = Dataset.from_arrays([np.zeros((8, 8, 3), np.uint8), np.zeros((4, 6), np.uint8)], ["a", "b"])
    assert several.source.read(several.records[1], None).shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("images", "labels", "word"),
    [
        (np.zeros((2, 4, 4)), [0, 1], "uint8"),
        (np.zeros((2, 3, 4, 4), np.uint8), [0, 1], "channels"),
        (np.zeros((2, 4, 4, 4), np.uint8), [0, 1], "4, 4, 4"),
        (np.zeros((2, 0, 4), np.uint8), [0, 1], "0"),
        (np.zeros((2, 4, 4), np.uint8), [0], "2 images"),
    ],
)
def test_arrays_of_another_kind_are_refused(images, labels, word):
    with pytest.raises(UsageError, match=word):
        Dataset.from_arrays(images, labels)


def test_a_table_in_memory_is_a_data_set(tmp_path):
    pandas = pytest.importorskip("pandas")
    folder = as_folder(tmp_path, images("a/1.png a/2.png"))
    frame = pandas.DataFrame(
        {"file": ["a/2.png", str(folder / "a/1.png"), "a/9.png"], "who": ["bo", "ann", "bo"], "age": [7, None, 3]}
    )
    data = Dataset.from_frame(frame, image="file", label="who", root=folder)
    assert ([r.path for r in data.records], data.classes) == (["a/1.png", "a/2.png"], ("ann", "bo"))
    assert (data.columns, data.column("age")) == (("age",), ("", "7"))
    assert [item.path for item in data.broken] == ["a/9.png"]
    assert data.source.read(data.records[0], None).shape == (4, 4, 3)
    with pytest.raises(UsageError, match="'path'"):
        Dataset.from_frame(frame)
    for wrong in ("../x.png", "/etc/passwd", "a/../../x.png", ""):
        with pytest.raises(DataError):
            Dataset.from_frame(pandas.DataFrame({"path": [wrong], "label": ["a"]}), root=folder)
