"""Files that are replaced: the old content or the new, never half of either."""

from __future__ import annotations

import csv
import io
import os
import stat
import threading
from pathlib import Path

import pytest

from facewright.errors import DataError, FacewrightError
from facewright.files import csv_text, plain_cell, replacing, write_atomic, write_json


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("written", "found"), [(b"new", b"new"), ("neü", "neü".encode())])
def test_what_is_at_hand_is_written(tmp_path, written, found):
    write_atomic(tmp_path / "x", b"old, and longer")
    write_atomic(tmp_path / "x", written, mode=0o600)
    assert content(tmp_path) == {"x": found}
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


def test_nothing_is_replaced_before_the_end(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    with replacing(tmp_path / "x") as out:
        out.write(b"half")
        assert (tmp_path / "x").read_bytes() == b"old"
        out.write(b" whole")
    assert content(tmp_path) == {"x": b"half whole"}


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError(28, "No space left on device"), FacewrightError),
        (DataError("no"), DataError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_what_fails_leaves_the_old_file_alone(tmp_path, raised, expected):
    (tmp_path / "x").write_bytes(b"old")

    def interrupted() -> None:
        with replacing(tmp_path / "x") as out:
            out.write(b"half")
            raise raised

    with pytest.raises(expected):
        interrupted()
    assert content(tmp_path) == {"x": b"old"}


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FacewrightError, match=r"absent/x: could not be written \(No such file or directory\)"):
        write_atomic(tmp_path / "absent" / "x", b"")


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "x", {"a": 1.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x", {"a": float("nan")})
    assert content(tmp_path) == {"x": b'{\n  "a": 1.5\n}\n'}


def test_two_threads_on_one_path_each_write_whole(tmp_path):
    path, contents = tmp_path / "x", [bytes([letter]) * 20_000 for letter in b"ab"]
    torn = []

    def write(content: bytes) -> None:
        for _ in range(300):
            write_atomic(path, content)
            if path.read_bytes() not in contents:
                torn.append(path.stat().st_size)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torn == [] and list(content(tmp_path)) == ["x"]


def test_the_name_of_the_temporary_file_is_random_and_no_link_is_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(b"mine")
    names = []
    opened = os.open

    def planted(path, flags, *mode, **kw):
        if Path(path).suffix == ".tmp" and not names:
            Path(path).symlink_to(tmp_path / "victim")  # somebody guessed the name
        if Path(path).suffix == ".tmp":
            names.append(Path(path).name)
            assert flags & os.O_EXCL and flags & os.O_NOFOLLOW
        return opened(path, flags, *mode, **kw)

    monkeypatch.setattr(os, "open", planted)
    with pytest.raises(FacewrightError):
        write_atomic(tmp_path / "x", b"new")
    write_atomic(tmp_path / "x", b"new")
    write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "victim").read_bytes() == b"mine" and (tmp_path / "x").read_bytes() == b"new"
    assert len(set(names)) == 3


def test_the_folder_is_synced_after_the_rename(tmp_path, monkeypatch):
    steps = []
    synced, replaced = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        synced(descriptor)

    def replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replaced(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_atomic(tmp_path / "x", b"new")
    assert steps == ["file", "rename", "folder"]


@pytest.mark.parametrize("where", ["open", "fsync"])
def test_where_a_folder_cannot_be_synced_the_file_is_written_all_the_same(tmp_path, monkeypatch, where):
    """As on Windows, which opens no folder, and on file systems that sync none."""
    real = getattr(os, where)

    def refused(target, *rest, **kw):
        is_folder = Path(target).is_dir() if where == "open" else stat.S_ISDIR(os.fstat(target).st_mode)
        if is_folder:
            raise PermissionError(13, "Permission denied") if where == "open" else OSError(22, "Invalid argument")
        return real(target, *rest, **kw)

    monkeypatch.setattr(os, where, refused)
    write_atomic(tmp_path / "x", b"new")
    assert content(tmp_path) == {"x": b"new"}


def test_a_disk_that_fails_after_the_rename_is_told_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"old")
    real = os.fsync

    def fails(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(FacewrightError) as raised:
        write_atomic(tmp_path / "x", b"new")
    assert "unchanged" not in str(raised.value) and (tmp_path / "x").read_bytes() == b"new"


def test_a_name_as_long_as_the_file_system_takes(tmp_path):
    write_atomic(tmp_path / ("x" * 250), b"new")
    assert content(tmp_path) == {"x" * 250: b"new"}


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "＝1", "'=x", "''@y"])
def test_a_cell_that_a_spreadsheet_would_run_is_quoted_and_read_back(text: str) -> None:
    header, row = csv.reader(io.StringIO(csv_text(["name", "plain", "number"], [[text, "'a", "-0.5"]])))
    assert row[0] == f"'{text}" and plain_cell(row[0]) == text
    assert [plain_cell(cell) for cell in row[1:]] == ["'a", "-0.5"] and header == ["name", "plain", "number"]
