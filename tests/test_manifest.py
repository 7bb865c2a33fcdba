"""The checksums of a run's files: what was changed is named; what is rewritten by us stays true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facewright import bundle as bundles
from facewright.errors import BundleError, RunError
from facewright.files import MANIFEST, check_manifest, rewriting, write_manifest
from fixtures.faces import saved, small_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("metrics.csv", "split.csv"):
        (tmp_path / name).write_text(f"{name},0.5\n")
    write_manifest(tmp_path, ["metrics.csv", "split.csv", "absent.csv"])
    return tmp_path


@pytest.mark.parametrize("name", ["metrics.csv", "split.csv"])
def test_a_digit_that_changed_is_named(folder: Path, name: str) -> None:
    check_manifest(folder)
    (folder / name).write_text(f"{name},0.6\n")
    with pytest.raises(RunError, match=name) as raised:
        check_manifest(folder, error=RunError)
    assert ({"metrics.csv", "split.csv"} - {name}).pop() not in str(raised.value)
    check_manifest(folder, ["other.csv"])  # not listed


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    (folder / "split.csv").unlink()
    with pytest.raises(RunError, match=r"split\.csv"):
        check_manifest(folder, error=RunError)


def test_without_a_manifest_everything_opens(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / "split.csv").write_text("changed")
    check_manifest(folder)


@pytest.mark.parametrize("content", ["[]", "null", "{", '{"../../etc/passwd": 3}', "[" * 100_000])
def test_a_manifest_that_is_none(folder: Path, content: str) -> None:
    (folder / MANIFEST).write_text(content)
    with pytest.raises(RunError, match=MANIFEST):
        check_manifest(folder, error=RunError)


def test_names_do_not_lead_out_of_the_folder(folder: Path) -> None:
    (folder / MANIFEST).write_text(json.dumps({"../x": "0" * 64}))
    check_manifest(folder, error=RunError)


def test_a_rewritten_file_stays_listed(folder: Path) -> None:
    with rewriting(folder / "metrics.csv"):
        assert "metrics.csv" not in json.loads((folder / MANIFEST).read_text())  # so a kill here refuses nothing
        (folder / "metrics.csv").write_text("new")
    assert set(json.loads((folder / MANIFEST).read_text())) == {"metrics.csv", "split.csv"}
    check_manifest(folder)


def test_one_bit_of_a_model_file_is_noticed_and_a_new_one_is_listed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path = path.rename(tmp_path / "model.safetensors")
    write_manifest(tmp_path, [path.name])
    bundles.load(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match="checksum"):
        bundles.load(path)
    bundles.save(path, small_bundle())
    bundles.load(path)
