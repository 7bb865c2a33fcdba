"""Files that are replaced: the old content or the new, never half of either."""

from __future__ import annotations

from pathlib import Path

import pytest

from facewright.errors import DataError, FacewrightError
from facewright.files import replacing, write_atomic, write_json


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
