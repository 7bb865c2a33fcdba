"""Data sets at addresses: the same as on the disk, read from memory and from a real web server."""

from __future__ import annotations

import functools
import http.server
import json
import logging
import pickle
import shutil
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facewright import embed
from facewright.cli.main import main
from facewright.data import remote_files
from facewright.data.cache import cache_clear
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset, open_images
from facewright.data.store import PixelStore
from facewright.errors import BadArchive, BadImage, DataError, UnknownName, UsageError
from facewright.input_spec import InputSpec
from facewright.workflows import embeddings, face_detection
from facewright.workflows.face_detection import write_faces
from fixtures.faces import draw_people, saved

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")
SPEC = InputSpec(24, 24, (0, 0, 0), (1, 1, 1))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """people/ and the same in files of each kind, a label file beside it, and loose images."""
    root = tmp_path_factory.mktemp("here")
    people = draw_people(root / "people", people=2, photos=3)
    (people / "person_00/0.png").rename(people / "person_00/a b%20#1.png")
    with zipfile.ZipFile(root / "people.zip", "w") as packed, tarfile.open(root / "people.tar.gz", "w:gz") as tar:
        for file in sorted(people.rglob("*.png")):
            packed.write(file, file.relative_to(people))
            tar.add(file, file.relative_to(people))
    (root / "shards").mkdir()
    for person in ("person_00", "person_01"):
        with tarfile.open(root / f"shards/{person}.tar", "w") as tar:
            for file in sorted((people / person).iterdir()):
                tar.add(file, file.name)
    shutil.copytree(people, root / "listed/images")
    rows = [f"images/person_0{who}/{n}.png,{who}" for who in (0, 1) for n in (1, 2)]
    (root / "listed/labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def web(here: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(here)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Losable(http.server.SimpleHTTPRequestHandler):
    """Reads files, until `left` of them are read: from then on it answers nothing."""

    left = 10**9

    def log_message(self, *_: object) -> None: ...

    def send_head(self) -> Any:
        Losable.left -= self.command == "GET" and self.path.endswith(".png")
        if Losable.left < 0:
            raise ConnectionResetError  # and so the connection is closed
        return super().send_head()


@pytest.fixture
def losable(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Losable, "left", 10**9)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Losable, directory=str(here)))
    monkeypatch.setattr(server, "handle_error", lambda *_: None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def memory(here: Path) -> Iterator[str]:
    files = fsspec.filesystem("memory")
    files.put(str(here), "/bucket", recursive=True)
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


@pytest.fixture(params=["memory", "web"])
def there(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def content(data: Dataset) -> list[tuple[str, str | None, bytes]]:
    names = [None if one.label is None else data.classes[one.label] for one in data.records]
    pixels = [data.source.read(one, None).tobytes() for one in data.records]
    return list(zip([one.path for one in data.records], names, pixels, strict=True))


@pytest.mark.parametrize(
    "name", ["people", "people/", "people.zip", "people.tar.gz", "shards", "listed", "listed/labels.csv"]
)
def test_what_lies_there_is_what_lies_here(here: Path, there: str, name: str) -> None:
    data = open_dataset(f"{there}/{name}")
    assert content(data) == content(open_dataset(here / name))
    assert data.where == f"{there}/{name}".rstrip("/") and len(data) in (4, 6)
    elsewhere = pickle.loads(pickle.dumps(data))  # noqa: S301 - as a process on another machine gets it
    assert content(elsewhere) == content(data)


def test_a_file_address_is_a_path(here: Path) -> None:
    assert content(open_dataset(f"file://{here}/people.zip")) == content(open_dataset(here / "people.zip"))


def test_a_store_of_it_is_built_once_and_follows_the_bucket(here: Path, memory: str) -> None:
    store = PixelStore.open(open_dataset(f"{memory}/people"), SPEC)
    same = PixelStore.open(open_dataset(here / "people"), SPEC)
    assert store.folder == same.folder
    np.testing.assert_array_equal(store.pixels, same.pixels)
    fsspec.filesystem("memory").cp_file("/bucket/people/person_01/1.png", "/bucket/people/person_01/2.png")
    assert PixelStore.open(open_dataset(f"{memory}/people"), SPEC).folder != store.folder


def test_a_server_that_is_lost_while_images_are_read_ends_each_command(
    here: Path, losable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    where, model = f"{losable}/people", str(saved(tmp_path))
    monkeypatch.setattr(embeddings, "ROWS", 2)
    monkeypatch.setattr(face_detection, "PHOTOS", 2)
    table, faces = tmp_path / "v.parquet", tmp_path / "f.parquet"
    training = ["--model", "plain_cnn", "--size", "32", "--epochs", "1", "--batch", "4", "--precision", "float32"]
    commands = [
        (["inspect", where], 3),
        (["train", where, *training, "--out", str(tmp_path / "run")], 3),
        (["embed", model, where, "--out", str(table)], 3),
        (["faces", where, "--detector", "none", "--template", "arcface", "--out", str(faces)], 3),
    ]
    for words, left in commands:
        monkeypatch.setattr(Losable, "left", left)
        assert main([*words, "-q"]) == 1, words
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert where in line and "cannot be reached" in line
    assert not table.exists() and not faces.exists() and not list(cache.glob("*/pixels.u8"))
    monkeypatch.setattr(Losable, "left", 10**9)
    store = PixelStore.open(open_dataset(where), SPEC)
    assert len(store.dataset) == 6 and not store.dataset.broken
    for words, _ in commands[2:]:
        assert main([*words, "-q", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["resumed"] == 2
    embed(model, here / "people", tmp_path / "here.parquet")
    assert table.read_bytes() == (tmp_path / "here.parquet").read_bytes()


def test_a_copy_is_used_until_the_archive_changes(
    here: Path, memory: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    before = open_dataset(f"{memory}/people.zip")
    files = fsspec.filesystem("memory")
    monkeypatch.setattr(type(files), "get_file", lambda *_: pytest.fail("copied again"))
    assert content(open_dataset(f"{memory}/people.zip")) == content(before)
    monkeypatch.undo()
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(cache))
    with zipfile.ZipFile(here / "other.zip", "w") as packed:
        packed.write(here / "people/person_01/1.png", "person_01/1.png")
    files.put_file(str(here / "other.zip"), "/bucket/people.zip")
    (here / "other.zip").unlink()
    assert len(open_dataset(f"{memory}/people.zip")) == 1
    assert cache_clear() > 0 and not (cache / "fetched").exists()


def test_embedding_from_and_to_a_bucket(here: Path, memory: str, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    model = saved(tmp_path)
    written = embed(model, f"{memory}/people", "memory://results/v.parquet")
    assert written.rows == 6 and written.path == "memory://results/v.parquet"
    embed(model, here / "people", tmp_path / "v.parquet")
    with fsspec.open("memory://results/v.parquet") as file:
        assert pq.read_table(file).equals(pq.read_table(tmp_path / "v.parquet"))
    assert not list((tmp_path / "cache/outgoing").iterdir())
    found = write_faces(f"{memory}/people.zip", "memory://results/f.parquet", detector="none", template="arcface")
    assert (found.photos, found.faces) == (6, 6) and remote_files.exists("memory://results/f.parquet")
    with pytest.raises(UsageError, match="folders of this machine"):
        write_faces(f"{memory}/people", "memory://results/crops", detector="none")


def test_the_command_cuts_out_the_faces_of_a_bucket(
    memory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["faces", f"{memory}/people", "--detector", "none", "--template", "arcface", "-q"]
    assert main([*words, "--out", str(tmp_path / "crops")]) == 0
    assert len(list((tmp_path / "crops").rglob("*.png"))) == 6
    assert main(words) == 1 and "--out FILE.parquet" in capsys.readouterr().err


def test_loose_images_have_no_labels(there: str) -> None:
    data = open_images(f"{there}/people/person_01")
    assert len(data) == 3 and {record.label for record in data.records} == {None}


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("memory://bucket/nothing", DataError),
        ("memory://bucket/nothing.zip", DataError),
        ("ftp://host/faces", UnknownName),
        ("https://me:secret@host/faces", UsageError),
        ("s3://bucket/faces?colums=a", (UsageError, DataError)),
        ("http://127.0.0.1:{}/faces", DataError),
        ("http://127.0.0.1:{}/faces.zip", DataError),
    ],
)
def test_what_is_not_there_is_one_line(memory: str, address: str, error: type[Exception]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = address.format(free.getsockname()[1])
    with pytest.raises(error) as raised:
        open_dataset(address)
    assert "\n" not in str(raised.value) and "secret" not in str(raised.value)


def test_a_storage_library_prints_nothing_beside_the_line(capfd: pytest.CaptureFixture[str]) -> None:
    remote_files.filesystem("memory://bucket")
    library = logging.getLogger("fsspec")
    assert any(isinstance(one, logging.NullHandler) for one in library.handlers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "propagate", False)  # to pytest's own handler
        library.error("a stack")
    assert capfd.readouterr().err == ""


def test_limits_are_those_of_files(memory: str, monkeypatch: pytest.MonkeyPatch, there: str) -> None:
    data = open_dataset(f"{there}/people")
    monkeypatch.setattr("facewright.images.Limits.bytes", 100)
    monkeypatch.setattr("facewright.images.Limits", lambda: type("Small", (), {"bytes": 100}))
    with pytest.raises(BadImage, match="100"):
        data.source.read(data.records[0], None)
    monkeypatch.setattr(remote_files, "LIMITS", remote_files.LIMITS.__class__(entries=3, bytes=10))
    with pytest.raises(BadArchive, match="limit is 3"):
        open_dataset(f"{there}/people")
    with pytest.raises(BadArchive, match="10 bytes"):
        open_dataset(f"{there}/people.zip")


def test_names_that_lead_out_are_left_out(memory: str) -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/bucket/people/../../x.png", b"1")
    files.pipe_file("/bucket/people/person_00/a\u200bb.png", b"1")
    data = open_dataset(f"{memory}/people")
    assert len(data) == 6 and any("invisible" in one.reason for one in data.broken)


def test_without_fsspec_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facewright.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"facewright\[cloud\]"):
        open_dataset("s3://bucket/faces")
