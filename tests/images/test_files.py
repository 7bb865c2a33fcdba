"""Which files are images, by name; what is hidden is never one."""

import os

import pytest

from facewright.images import images_below, is_hidden, none_found


@pytest.mark.parametrize(
    "path",
    [
        "._x.jpg",
        ".x.jpg",
        "__MACOSX/a/x.jpg",
        "a/.ipynb_checkpoints/x-checkpoint.jpg",
        ".git/x.png",
        "a/__MACOSX/x.jpg",
        ".Trash/a/x.jpg",
        "a/.thumbnails/x.png",
    ],
)
def test_what_is_hidden_is_passed_over_wherever_it_lies(tmp_path, path):
    for name in (path, "a/x.jpg", "b.PNG", "a/notes.txt", "_x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert is_hidden(path)
    assert [file.relative_to(tmp_path).as_posix() for file in images_below(tmp_path)] == ["_x.jpg", "a/x.jpg", "b.PNG"]


def test_links_are_not_followed(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.jpg").write_bytes(b"x")
    (tmp_path / "y.jpg").symlink_to(tmp_path / "a" / "x.jpg")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    os.mkfifo(tmp_path / "z.jpg")
    assert images_below(tmp_path) == [tmp_path / "a" / "x.jpg"]


def test_a_folder_given_by_a_hidden_path_is_searched(tmp_path):
    (tmp_path / ".photos").mkdir()
    (tmp_path / ".photos" / "x.jpg").write_bytes(b"x")
    assert len(images_below(tmp_path / ".photos")) == 1


def test_files_without_a_suffix_are_counted(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x")
    assert "2 files" in none_found([tmp_path])
