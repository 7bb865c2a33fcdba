"""InsightFace's .bin: read without unpickling; whatever else a pickle can hold is refused."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from facewright.data import packed
from facewright.data.pairs import read_pairs
from facewright.errors import DataError, FacewrightError, UsageError
from fixtures.trees import image

TRUTHS = [True, False] * 6


def written(folder: Path, value: object = None, protocol: int = 4) -> Path:
    shown = ([image(number) for number in range(24)], TRUTHS)
    (folder / "lfw.bin").write_bytes(pickle.dumps(shown if value is None else value, protocol))
    return folder / "lfw.bin"


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_images_and_truths_come_as_they_were_written(tmp_path, protocol):
    listed = read_pairs(written(tmp_path, protocol=protocol), None)
    assert listed.same.tolist() == TRUTHS and (listed.a[1], listed.b[1]) == ("0000002", "0000003")
    data = listed.dataset(None)
    assert [int(data.source.read(record, None)[0, 0, 0]) for record in data.records] == list(range(24))
    assert listed.fold is not None and listed.fold.tolist() == [0, 0, 1, 1, *range(2, 10)]
    assert listed.rows(data.records).tolist() == [[2 * k, 2 * k + 1] for k in range(12)]


def test_a_file_of_python_2(tmp_path):
    content = b"".join(b"T" + struct.pack("<i", len(image(n))) + image(n) + b"q" + bytes([n]) for n in (3, 5))
    (tmp_path / "old.bin").write_bytes(b"\x80\x02](" + content + b"e](I01\ne\x86.")
    listed = read_pairs(tmp_path / "old.bin", None)
    shown = listed.dataset(None)
    assert listed.same.tolist() == [True] and listed.fold is None
    assert [int(shown.source.read(record, None)[0, 0, 0]) for record in shown.records] == [3, 5]


def test_one_image_in_several_pairs_is_kept_once(tmp_path):
    one = image(9)
    listed = read_pairs(written(tmp_path, ([one, one, one, image(4)], [True, False])), None)
    data = listed.dataset(None)
    assert [int(data.source.read(record, None)[0, 0, 0]) for record in data.records] == [9, 9, 9, 4]


class Canary:
    def __reduce__(self):
        return os.mkdir, ("sung",)


HOSTILE = {
    "code": Canary(),
    "code in the list": ([image(1), Canary()], [True]),
    "numbers": ([1, 2], [True]),
    "an array": ([np.zeros(3, np.uint8), b"x"], [True]),
    "truths as numbers": ([image(1), image(2)], [1]),
    "too few": ([image(1)], [True]),
    "no pair": ([], []),
    "a dictionary": {"bins": [], "issame": []},
    "nested": ([[image(1)], [image(2)]], [True]),
    "three": ([image(1), image(2)], [True], [True]),
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_but_lists_of_bytes_and_booleans_is_refused(tmp_path, monkeypatch, what, protocol):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"lfw\.bin"):
        read_pairs(written(tmp_path, HOSTILE[what], protocol), None)
    assert not (tmp_path / "sung").exists()


DAMAGED = [b"", b".", b"\x80\x04.", b"(((((", b"\x85\x86.", b"q\x00.", b"h\x05.", b"a.", b"\x80\x04]e.", b"<html>"]
LONG = [b"\x8e" + b"\xff" * 8, b"B\xff\xff\xff\x7fx.", b"]q\x00(h\x00e" * 9 + b"."]


@pytest.mark.parametrize("content", DAMAGED + LONG)
def test_damaged_operations_are_one_clear_error(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.bin"):
        read_pairs(tmp_path / "x.bin", None)


def test_operations_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "_MOST_OPERATIONS", 1_000)
    (tmp_path / "x.bin").write_bytes(b"\x80\x04](" + b"\x88" * 2_000 + b"e.")
    with pytest.raises(DataError, match="1,000"):
        read_pairs(tmp_path / "x.bin", None)


@pytest.mark.parametrize("tenth", range(10))
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path, tenth):
    path = written(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * tenth // 10])
    with pytest.raises(DataError):
        read_pairs(path, None)


def test_random_changes_end_in_an_error_or_a_set(tmp_path):
    path, random = written(tmp_path), np.random.default_rng(0)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(200):
        changed = whole.copy()
        changed[random.integers(0, len(whole), 3)] = random.integers(0, 256, 3)
        path.write_bytes(changed.tobytes())
        try:
            read_pairs(path, None)
        except FacewrightError:
            continue


def test_a_folder_of_images_is_for_lists_only(tmp_path):
    with pytest.raises(UsageError, match=r"lfw\.bin"):
        read_pairs(written(tmp_path), tmp_path)
    with pytest.raises(UsageError, match=r"pairs\.csv"):
        read_pairs(tmp_path / "pairs.csv", None)
