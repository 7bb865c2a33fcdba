"""Images and targets of an npz: which pixels and classes they mean, and what is refused for being unclear."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facewright.data import arrays
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import BadImage, DataError, EmptyClass, UnknownName, UsageError
from facewright.input_spec import InputSpec

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
GREY = RGB[..., :1]
DIM = np.minimum(RGB, 254)
TARGET = np.array([0, 1, 2, 10, 0, 1])
NAMES = ("0", "1", "10", "2")  # by text, as everywhere


def saved(path: Path, compressed: bool = False, **content: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path / "faces.npz", **content)
    return path / "faces.npz"


def pixels(where: str | Path) -> np.ndarray:
    data = open_dataset(where)
    return np.stack([data.source.read(record, None) for record in data.records])


# What the arrays are and how they are opened -> the pixels they mean.
PICTURES = [
    ({"input": RGB}, "", RGB),
    ({"X": RGB}, "", RGB),
    ({"input": RGB}, "?colour-order=bgr", RGB[..., ::-1]),
    ({"input": RGB}, "?colour-order=rgb", RGB),
    ({"input": RGB}, "?range=byte", RGB),
    ({"input": GREY}, "", GREY.repeat(3, axis=3)),
    ({"input": GREY[..., 0]}, "", GREY.repeat(3, axis=3)),
    ({"input": GREY}, "?colour-order=bgr", GREY.repeat(3, axis=3)),
    ({"input": (RGB / 255).astype(np.float32)}, "?range=unit", RGB),
    ({"input": (RGB / 255).astype(np.float64)}, "?colour-order=bgr&range=unit", RGB[..., ::-1]),
    ({"input": RGB.astype(np.float16)}, "?range=byte", RGB),
    ({"input": DIM.astype(">f4") + 0.25}, "?range=byte", DIM),  # to the nearest
    ({"input": DIM + 0.75}, "?range=byte", DIM + 1),
    ({"input": (RGB // 255).astype(np.float32)}, "?range=unit", RGB // 255 * 255),
]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("content", "query", "expected"), PICTURES)
def test_arrays_mean_pixels(tmp_path, content, query, expected, compressed):
    where = saved(tmp_path, compressed, target=TARGET, **content)
    found = pixels(f"{where}{query}")
    assert found.dtype == np.uint8
    assert (found == expected).all()


# Targets as they come -> the class of each row.
TARGETS = [
    (TARGET, "0 1 2 10 0 1"),
    (TARGET[:, None], "0 1 2 10 0 1"),
    (TARGET.astype(np.float32), "0 1 2 10 0 1"),
    (TARGET.astype(np.uint8), "0 1 2 10 0 1"),
    (TARGET > 0, "0 1 1 1 0 1"),
    (-TARGET, "0 -1 -2 -10 0 -1"),
    (np.array(["b", "a", "b ", "c", "a", "a"]), "b a b c a a"),
    (np.array([["b"], ["a"], ["b"], ["c"], ["a"], ["a"]]), "b a b c a a"),
]


@pytest.mark.parametrize("name", ["target", "y"])
@pytest.mark.parametrize(("target", "expected"), TARGETS)
def test_targets_mean_classes(tmp_path, name, target, expected):
    data = open_dataset(saved(tmp_path, input=RGB, **{name: target}))
    names = expected.split()
    assert data.classes == tuple(sorted(set(names)))
    assert [data.classes[record.label] for record in data.records] == names
    assert [record.path for record in data.records] == [f"{row:05d}" for row in range(6)]
    assert (data.name, data.where) == ("faces", str(tmp_path / "faces.npz"))


def test_the_arrays_of_scikit_learn_are_read(tmp_path):
    names = np.array(list("abcdefghijk"))
    data = open_dataset(saved(tmp_path, data=RGB.reshape(6, -1), images=RGB, target=TARGET, target_names=names))
    assert data.counts() == {"a": 2, "b": 2, "c": 1, "k": 1}
    assert np.array_equal(data.source.read(data.records[2], None), RGB[2])


def test_names_of_classes_are_kept(tmp_path):
    names = np.array(["zoe", "ann", "unused"])
    data = open_dataset(saved(tmp_path, input=RGB, target=[0, 1, 0, 0, 1, 1], classes=names))
    assert data.classes == ("ann", "zoe")
    assert data.labels.tolist() == [1, 0, 1, 1, 0, 0]


OK = {"input": RGB, "target": TARGET}
# What is in the file and the query -> the error and what its message names.
REFUSED = [
    ({"photos": RGB, "target": TARGET}, "", DataError, "called input, X or images; it holds photos, target"),
    (OK | {"X": RGB}, "", DataError, "expected one array called input or X"),
    ({"input": RGB}, "", DataError, "called target or y; it holds input"),
    (OK | {"input": RGB.reshape(6, -1)}, "", DataError, "got 6×60"),
    (OK | {"input": RGB.transpose(0, 3, 1, 2).copy()}, "", DataError, "6×3×5×4; its channels come first"),
    (OK | {"input": np.zeros((6, 5, 4, 4), np.uint8)}, "", DataError, "got 6×5×4×4"),
    (OK | {"input": RGB[:0], "target": TARGET[:0]}, "", DataError, "got 0×5×4×3"),
    (OK | {"input": RGB.astype(np.int64)}, "", DataError, "got int64; convert it to uint8"),
    (OK | {"input": RGB / 255}, "", UsageError, r"is float64; .*faces\.npz\?range=unit .*range=byte"),
    (OK | {"input": RGB / 255}, "?colour-order=bgr", UsageError, "range=unit"),
    (OK, "?range=unit", UsageError, "is uint8, which is 0 to 255"),
    (OK | {"target": TARGET[:5]}, "", DataError, "for each of the 6 images, got 5"),
    (OK | {"target": np.eye(6)}, "", DataError, "got 6×6; of one-hot rows"),
    (OK | {"target": np.array(3)}, "", DataError, "expected target as N or N×1"),
    (OK | {"target": TARGET + 0.5}, "", DataError, "got 0.5 at row 0"),
    (OK | {"target": np.array([0, 1, np.nan, 0, 0, 0])}, "", DataError, "got nan at row 2"),
    (OK | {"target": np.array([0, 1, np.inf, 0, 0, 0])}, "", DataError, "got inf at row 2"),
    (OK | {"target": TARGET.astype(complex)}, "", DataError, "got complex128"),
    (OK | {"target": np.array([b"a"] * 6)}, "", DataError, "whole numbers or text"),
    (OK | {"target": np.array(["a", "b", " ", "a", "a", "a"])}, "", DataError, "target is empty at row 2"),
    (OK | {"classes": np.array(["a", "b"])}, "", DataError, "target is 2 at row 2, and classes has 2 names"),
    (OK | {"classes": np.array(["a"] * 11)}, "", DataError, "names of the classes, each once"),
    (OK | {"classes": np.arange(11)}, "", DataError, "names of the classes"),
    (OK | {"target": np.array([0, 1, None, 0, 0, 0])}, "", DataError, "never unpickled"),
    (OK, "?colour-order=gbr", UnknownName, "unknown colour-order 'gbr'"),
    (OK, "?color-order=bgr", UnknownName, "did you mean 'colour-order'"),
    (OK, "?colour-order=bgr&colour-order=rgb", UsageError, "given twice"),
    (OK, "?bgr", UsageError, "expected key=value"),
]


@pytest.mark.parametrize(("content", "query", "error", "message"), REFUSED)
def test_what_is_unclear_is_refused(tmp_path, content, query, error, message):
    where = saved(tmp_path, **content)
    with pytest.raises(error, match=message):
        open_dataset(f"{where}{query}")


def test_limits_hold(tmp_path, monkeypatch):
    where = saved(tmp_path, input=RGB, target=TARGET)
    monkeypatch.setattr(arrays, "_MOST_ROWS", 5)
    with pytest.raises(DataError, match="limit is 5"):
        open_dataset(where)


@pytest.mark.parametrize(
    ("values", "query"), [(1.001, "unit"), (-0.001, "unit"), (np.nan, "unit"), (256, "byte"), (np.inf, "byte")]
)
def test_an_image_out_of_the_range_is_broken(tmp_path, values, query):
    images = np.zeros((6, 5, 4, 3), np.float32)
    images[1, 2, 2, 1] = values
    data = open_dataset(f"{saved(tmp_path, input=images, target=TARGET)}?range={query}")
    data.source.read(data.records[0], None)
    with pytest.raises(BadImage, match=f"range={query} is 0 to"):
        data.source.read(data.records[1], None)
    store = PixelStore.open(data, InputSpec(5, 4, (0, 0, 0), (1, 1, 1)))
    assert [broken.path for broken in store.dataset.broken] == ["00001"]


@pytest.mark.parametrize("where", ["faces", "faces.csv", "synthetic:faces?identities=2"])
def test_a_colour_order_is_for_arrays(where):
    with pytest.raises(UsageError, match=r"\.npz"):
        open_dataset(where, colour_order="bgr")


def test_the_address_says_how_it_was_opened(tmp_path):
    where = saved(tmp_path, input=RGB / 255, target=TARGET)
    data = open_dataset(f"{where}?range=unit", colour_order="bgr")
    assert data.where == f"{where}?colour-order=bgr&range=unit"
    assert (pixels(data.where) == RGB[..., ::-1]).all()
    assert open_dataset(data.where, colour_order="bgr").where == data.where
    assert open_dataset(Path(data.where)).where == data.where
    with pytest.raises(UsageError, match="bgr"):
        open_dataset(data.where, colour_order="rgb")


@pytest.mark.parametrize("compressed", [False, True])
def test_the_store_holds_the_pixels(tmp_path, compressed):
    where = saved(tmp_path, compressed, input=RGB, target=TARGET)
    spec = InputSpec(5, 4, (0, 0, 0), (1, 1, 1))
    for order, expected in (("rgb", RGB), ("bgr", RGB[..., ::-1])):
        assert (PixelStore.open(open_dataset(where, order), spec, workers=2).pixels == expected).all()
    again = open_dataset(where)
    again.source.read = None  # type: ignore[method-assign, assignment]  # the stamps are as they were: nothing is read
    assert (PixelStore.open(again, spec).pixels == RGB).all()


def test_a_source_can_be_pickled(tmp_path):
    data = open_dataset(saved(tmp_path, input=RGB, target=TARGET))
    data.source.read(data.records[0], None)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own bytes
    assert (again.source.read(again.records[5], None) == RGB[5]).all()


def test_keys_and_stamps_follow_the_content(tmp_path):
    data = open_dataset(saved(tmp_path, input=RGB, target=TARGET))
    other = open_dataset(data.where, colour_order="bgr")
    first, second = data.records[:2]
    assert len({data.source.content_key(first), data.source.content_key(second), other.source.content_key(first)}) == 3
    stamp = data.source.stamp(first)
    saved(tmp_path, input=RGB[:, :4], target=TARGET)
    assert data.source.stamp(first) != stamp
    (tmp_path / "faces.npz").unlink()
    with pytest.raises(BadImage, match="00000"):
        data.source.stamp(first)


def test_a_file_that_shrinks_while_it_is_read_is_no_crash(tmp_path):
    where = saved(tmp_path, input=RGB, target=TARGET)
    data = open_dataset(where)
    data.source.read(data.records[0], None)
    with where.open("r+b") as file:
        file.truncate(300)
    with pytest.raises(BadImage, match="00005"):
        data.source.read(data.records[5], None)


def test_a_damaged_file_is_read_once_and_named(tmp_path, monkeypatch):
    where = saved(tmp_path, input=RGB, target=TARGET)
    data = open_dataset(where)
    content = bytearray(where.read_bytes())
    at = content.find(RGB.tobytes()[:20])
    content[at] ^= 1
    where.write_bytes(content)
    with pytest.raises(EmptyClass, match="input is damaged"):
        PixelStore.open(data, InputSpec(5, 4, (0, 0, 0), (1, 1, 1)))
    monkeypatch.setattr(arrays.StoredArray, "spread", None)  # would fail otherwise
    with pytest.raises(BadImage, match="input is damaged"):
        data.source.read(data.records[0], None)
