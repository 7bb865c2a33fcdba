"""Arrays of an npz: the right values, and nothing of a hostile file run, made room for or written (faults 7 and 10)."""

from __future__ import annotations

import errno
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from facewright.data import arrays, packed
from facewright.errors import BadArchive, DataError, FacewrightError

SAVERS = pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
VALUES = {
    "bytes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "floats": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    "foreign": np.arange(5, dtype=">i8"),
    "text": np.array(["ann", "bö"]),
    "empty": np.zeros((0, 3)),
    "one": np.array(7),
    "column": np.asfortranarray(np.arange(3)),  # one axis has one order
}


@SAVERS
def test_every_array_is_read(tmp_path, save):
    save(tmp_path / "x.npz", **VALUES)
    found = arrays.stored_arrays(tmp_path / "x.npz")
    assert set(found) == set(VALUES)
    for name, values in VALUES.items():
        assert (found[name].shape, found[name].dtype) == (values.shape, values.dtype)
        assert (found[name].load() == values).all()


@SAVERS
def test_values_are_spread_out_in_a_file(tmp_path, save, cache_of_this_test):
    save(tmp_path / "x.npz", first=np.zeros(1000), values=VALUES["bytes"])
    array = arrays.stored_arrays(tmp_path / "x.npz")["values"]
    file, start = array.spread()
    with file:
        file.seek(start)
        assert file.read(24) == VALUES["bytes"].tobytes()
        assert array.row_bytes == 12
        assert not cache_of_this_test.exists() or not list(cache_of_this_test.glob("tmp*"))  # the copy has no name


def entry(content: bytes, name: str = "input.npy", method: int = zipfile.ZIP_STORED) -> bytes:
    """An npz of one entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def array(header: str, values: bytes = b"", version: int = 1) -> bytes:
    """A .npy with this text as its header."""
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + values


def said(descr: str, shape: str, columns_first: bool = False) -> str:
    return f"{{'descr': {descr}, 'fortran_order': {columns_first}, 'shape': {shape}}}\n"


# (content, message)
HOSTILE = {
    "objects": (entry(array(said("'|O'", "(1,)"), pickle.dumps([1]))), "never unpickled"),
    "objects in a field": (entry(array(said("[('a', '|O')]", "(1,)"), bytes(8))), "never unpickled"),
    "a pickle for an array": (entry(pickle.dumps([1])), "header cannot be read"),
    "fields": (entry(array(said("[('a', '<i4')]", "(1,)"), bytes(4))), "plain numbers"),
    "more than is there": (
        entry(array(said("'|u1'", "(10**9, 9)".replace("10**9", "1000000000")), b"x")),
        "declares 9,0",
    ),
    "less than is there": (entry(array(said("'|u1'", "(1,)"), b"xy")), "declares .* it has"),
    "a shape below zero": (entry(array(said("'|u1'", "(-1, -1)"), b"x")), "declares"),
    "a sum for a shape": (entry(array(said("'|u1'", "(10**9,)"), b"x")), "header cannot be read"),
    "a call in the header": (entry(array("__import__('os').mkdir('pwned')")), "header cannot be read"),
    "a header of 4 GB": (entry(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 99), "header cannot be read"),
    "brackets without end": (entry(array("(" * 9000)), "header cannot be read"),
    "another version": (entry(array(said("'|u1'", "(1,)"), b"x", version=3)), "header cannot be read"),
    "columns first": (entry(array(said("'|u1'", "(2, 2)", columns_first=True), bytes(4))), "ascontiguousarray"),
    "no array": (entry(b"hello", "readme.txt"), "header cannot be read"),
    "nothing": (entry(b""), "header cannot be read"),
    "a way out": (entry(array(said("'|u1'", "(1,)"), b"x"), "../input.npy"), "leads out"),
    "a bomb": (entry(bytes(65 * 2**20), method=zipfile.ZIP_DEFLATED), "as a zip bomb does"),
    "a pickle for an npz": (pickle.dumps([1]), "cannot be opened"),
    "no file": (b"", "cannot be opened"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_hostile_is_refused(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    content, message = HOSTILE[case]
    (tmp_path / "x.npz").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        arrays.stored_arrays(tmp_path / "x.npz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


class Canary:
    """Whose unpickling leaves a file."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@SAVERS
def test_no_canary_is_executed(tmp_path, monkeypatch, save):
    monkeypatch.chdir(tmp_path)
    save("x.npz", input=np.array([Canary()], dtype=object), target=np.zeros(1))
    with pytest.raises(DataError, match="never unpickled"):
        arrays.stored_arrays(Path("x.npz"))
    assert not Path("executed").exists()
    pickle.loads(pickle.dumps(Canary()))  # noqa: S301 - it would have been seen
    assert Path("executed").exists()


@SAVERS
def test_mutated_files_are_errors_at_worst(tmp_path, save):
    path = tmp_path / "x.npz"
    save(path, input=VALUES["bytes"], target=np.arange(2))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), int(rng.integers(1, 6))):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        try:
            for found in arrays.stored_arrays(path).values():
                found.load()
                found.spread()[0].close()
        except DataError:
            refused += 1
    assert refused > 100


@SAVERS
def test_changed_values_are_found(tmp_path, save):
    path = tmp_path / "x.npz"
    save(path, input=VALUES["bytes"])
    array = arrays.stored_arrays(path)["input"]
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("input.npy")
    data[info.header_offset + 30 + len("input.npy") + 20 + info.compress_size - 5] ^= 0xFF  # 20: numpy's extra field
    path.write_bytes(data)
    for ask in (array.load, array.spread):
        with pytest.raises(DataError, match="input is damaged"):
            ask()
    path.unlink()
    for ask in (array.load, array.spread):
        with pytest.raises(DataError, match="input is damaged"):
            ask()


def test_a_full_disk_says_what_to_do(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", input=VALUES["bytes"])
    array = arrays.stored_arrays(tmp_path / "x.npz")["input"]

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(packed.tempfile, "TemporaryFile", full)
    with pytest.raises(FacewrightError, match=r"No space left.*FACEWRIGHT_CACHE"):
        array.spread()


def test_what_is_loaded_whole_has_a_limit(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", target=np.zeros(100))
    monkeypatch.setattr(arrays, "_MOST_LOADED", 799)
    with pytest.raises(DataError, match="has 800 bytes; the limit"):
        arrays.stored_arrays(tmp_path / "x.npz")["target"].load()


def test_the_second_version_of_the_format_is_read(tmp_path):
    buffer = io.BytesIO()
    npy.write_array(buffer, VALUES["bytes"], version=(2, 0), allow_pickle=False)
    (tmp_path / "x.npz").write_bytes(entry(buffer.getvalue()))
    assert (arrays.stored_arrays(tmp_path / "x.npz")["input"].load() == VALUES["bytes"]).all()


def test_what_is_no_archive_is_a_bad_archive(tmp_path):
    with pytest.raises(BadArchive, match="cannot be opened"):
        arrays.stored_arrays(tmp_path / "absent.npz")
