"""Vectors to Parquet: what stands in the file, and that a stopped run goes on without computing twice."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from facewright import embed
from facewright.embedding import Embedder
from facewright.errors import DataError, FacewrightError, UsageError
from facewright.recognition import Recognizer
from facewright.workflows import embeddings, part_tables
from fixtures.faces import SPEC, draw_people, saved
from fixtures.tiles import beside, blank, stand_in

pq = pytest.importorskip("pyarrow.parquet", reason="needs the extra `data` (pyarrow)")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("photos"), people=3, photos=4)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "ROWS", 5)  # 12 pictures: three parts


class Killed(BaseException):
    """What a kill looks like from inside: no handler of ours stops it."""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many pictures each call embedded; a negative entry put in front stops the call that comes then."""
    calls: list[int] = []
    true_embed = Embedder.embed

    def counting(self: Embedder, pixels: torch.Tensor) -> NDArray[np.float32]:
        if calls and calls[0] < 0:
            calls[0] += 1
            if calls[0] == 0:
                raise Killed
        calls.append(len(pixels))
        return true_embed(self, pixels)

    monkeypatch.setattr(Embedder, "embed", counting)
    yield calls


def test_the_file_holds_every_picture_once(photos: Path, model: Path, tmp_path: Path, small_parts: None) -> None:
    out = tmp_path / "v.parquet"
    written = embed(model, photos, out)
    table = pq.read_table(out)
    assert table.column_names == ["id", "path", "label", "digest", "vector", "model"]
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == list(range(12))
    assert [row["path"] for row in rows] == sorted(f"person_0{p}/{i}.png" for p in range(3) for i in range(4))
    assert {(row["label"], row["path"].split("/")[0]) for row in rows} == {(f"person_0{p}",) * 2 for p in range(3)}
    embedder = Embedder.load(model)
    assert {row["model"] for row in rows} == {embedder.fingerprint} == {written.fingerprint}
    direct = [one.vector for one in embedder.of_files([photos / row["path"] for row in rows])]
    np.testing.assert_allclose(np.array([row["vector"] for row in rows]), np.stack(direct), atol=1e-6)
    facts = table.schema.metadata
    assert facts[b"facewright.fingerprint"].decode() == embedder.fingerprint
    assert json.loads(facts[b"facewright.input"]) == SPEC.to_dict()
    assert table.schema.field("vector").type.list_size == embedder.width == written.width
    assert pq.ParquetFile(out).num_row_groups == 3
    assert out.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".v.parquet.parts"))
    assert (written.rows, written.resumed, written.broken) == (12, 0, ())


def test_an_npz_holds_what_the_table_holds_and_needs_no_pyarrow(
    photos: Path, model: Path, tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(model, photos, tmp_path / "v.parquet")
    table = pq.read_table(tmp_path / "v.parquet").to_pydict()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("facewright.errors.find_spec", lambda name: None)
    written = embed(model, photos, tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz", allow_pickle=False) as arrays:
        found = {name: arrays[name].tolist() for name in arrays.files}
    assert found == table and written.rows == len(table["id"]) == len(found["vector"])
    assert (tmp_path / "v.npz").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("name", "on"), [("v.npz", "ray"), ("v.txt", None)])
def test_a_file_of_another_kind_is_refused(
    name: str, on: str | None, photos: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"\.parquet"):
        embed(model, photos, tmp_path / name, on=on)


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(
    photos: Path, model: Path, tmp_path: Path, small_parts: None, counted: list[int]
) -> None:
    embed(model, photos, tmp_path / "whole.parquet")
    assert counted == [5, 5, 2]
    counted[:] = [-3]  # the third call does not return
    with pytest.raises(Killed):
        embed(model, photos, tmp_path / "v.parquet")
    assert not (tmp_path / "v.parquet").exists()
    counted.clear()
    written = embed(model, photos, tmp_path / "v.parquet")
    assert counted == [2]
    assert (written.rows, written.resumed) == (12, 10)
    assert (tmp_path / "v.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.parametrize("change", ["crop", "picture", "plan"])
def test_parts_of_another_plan_are_not_used(
    photos: Path, model: Path, tmp_path: Path, small_parts: None, counted: list[int], change: str
) -> None:
    own = draw_people(tmp_path / "own", people=3, photos=4)
    counted[:] = [-2]
    with pytest.raises(Killed):
        embed(model, own, tmp_path / "v.parquet")
    if change == "picture":
        (own / "person_00" / "0.png").write_bytes((own / "person_01" / "0.png").read_bytes())
    if change == "plan":
        (tmp_path / ".v.parquet.parts" / "plan.json").write_text("{")
    counted.clear()
    written = embed(model, own, tmp_path / "v.parquet", crop=0.9 if change == "crop" else None)
    assert (counted, written.resumed) == ([5, 5, 2], 0)


def test_a_part_that_was_cut_short_cannot_exist(
    photos: Path, model: Path, tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(FacewrightError, match="No space left"):
        embed(model, photos, tmp_path / "v.parquet")
    assert not list(tmp_path.rglob("0*.parquet*"))


def test_broken_pictures_are_listed_also_when_resumed(
    model: Path, tmp_path: Path, small_parts: None, counted: list[int]
) -> None:
    own = draw_people(tmp_path / "own", people=2, photos=4)
    (own / "person_00" / "1.png").write_bytes(b"no image")
    counted[:] = [-2]
    with pytest.raises(Killed):
        embed(model, own, tmp_path / "v.parquet")
    written = embed(model, own, tmp_path / "v.parquet")
    assert [item.path for item in written.broken] == ["person_00/1.png"]
    assert pq.read_table(tmp_path / "v.parquet")["id"].to_pylist() == [0, 2, 3, 4, 5, 6, 7]
    assert json.loads(json.dumps(written.to_dict()))["broken"][0]["path"] == "person_00/1.png"


def test_a_flat_folder_has_no_labels(photos: Path, model: Path, tmp_path: Path) -> None:
    written = embed(model, photos / "person_00", tmp_path / "v.parquet")
    assert pq.read_table(tmp_path / "v.parquet")["label"].to_pylist() == [None] * 4
    assert written.rows == 4


def test_nothing_readable_is_an_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png"):
        embed(model, tmp_path / "own", tmp_path / "v.parquet")


def test_two_processes_do_not_write_one_file(photos: Path, model: Path, tmp_path: Path) -> None:
    with (
        part_tables._parts_folder(tmp_path / "v.parquet", {"format": 0}, lambda event: None),
        pytest.raises(FacewrightError, match="another process is writing it"),
    ):
        embed(model, photos, tmp_path / "v.parquet")


def test_without_pyarrow_it_is_said_what_to_install(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facewright.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"facewright\[data\]"):
        embed(model, photos, tmp_path / "v.parquet")


def test_faces_that_are_found_first(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    stand_in(monkeypatch)
    photos = draw_people(tmp_path / "photos", people=3, photos=3)
    blank(photos / "person_01/0.png")
    beside(photos / "person_02/0.png", *(photos / f"person_0{who}/0.png" for who in (0, 2)))
    out = tmp_path / "v.parquet"
    written = embed(model, photos, out, detector="dlib", select_face="largest")
    assert written.rows == 8 and [item.reason for item in written.broken] == ["no face was found"]
    recognizer, rows = Recognizer.load(model, detector="dlib"), pq.read_table(out).to_pylist()
    for row in rows:
        vector, _ = recognizer.vector(recognizer.read(photos / row["path"]), "largest")
        assert vector is not None and row["model"] == recognizer.fingerprint == written.fingerprint
        np.testing.assert_allclose(row["vector"], vector, atol=1e-6)
