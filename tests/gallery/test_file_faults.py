"""A gallery file that is not what it seems: a foreign schema, a file that goes away, one that may not be written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from facewright.errors import GalleryDamaged, GalleryError
from facewright.gallery import open_store, sqlite_file
from facewright.gallery.gallery import Gallery
from facewright.gallery.sqlite import SqliteStore
from fixtures.hostile import SIGNATURE, entry, filled


@pytest.fixture
def path(tmp_path: Path) -> Path:
    filled(str(tmp_path / "g.gallery")).close()
    return tmp_path / "g.gallery"


def change(path: Path, script: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n)"
KEEP = "CREATE TABLE kept (v BLOB); CREATE TRIGGER keep AFTER INSERT ON entries BEGIN INSERT INTO kept VALUES (1); END"
FOREIGN = {  # what was added to the schema -> its name
    "CREATE TABLE kept (v BLOB)": "kept",
    KEEP: "keep",
    f"CREATE VIEW people AS {ENDLESS} SELECT * FROM n": "people",
    "CREATE INDEX more ON entries (photo)": "more",
    "ALTER TABLE entries ADD COLUMN note TEXT": "entries",
    "DROP INDEX by_person": "by_person",
    "DROP TABLE crops; CREATE VIEW crops AS SELECT number, vector AS png FROM entries": "crops",
    "DROP TABLE log; CREATE TABLE log (id INTEGER PRIMARY KEY, vector BLOB)": "log",
    "ANALYZE": "sqlite_stat1",
    f"ALTER TABLE state RENAME TO kept; CREATE VIEW state AS {ENDLESS} "
    "SELECT 1 AS one, '' AS body, x'' AS checksum FROM n": "state",
}


@pytest.mark.parametrize("script", FOREIGN)
def test_a_foreign_schema_is_refused(path: Path, script: str) -> None:
    change(path, script)
    with pytest.raises(GalleryDamaged, match=FOREIGN[script]):
        SqliteStore(path)


def test_a_trigger_that_comes_while_it_is_open_is_refused(path: Path) -> None:
    with contextlib.closing(SqliteStore(path)) as store:
        change(
            path, "CREATE TABLE kept (v BLOB); CREATE TRIGGER keep AFTER DELETE ON entries BEGIN DELETE FROM kept; END"
        )
        with pytest.raises(GalleryDamaged, match="keep"):
            store.delete(["person 0"])


HEADERS = {"entries": 10**12, "next": -1, "revision": "1", "total": "x", "threshold": [1], "pin": None, "more": 1}


@pytest.mark.parametrize("key", HEADERS)
def test_a_header_that_lies_with_a_valid_checksum(path: Path, key: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (body,) = connection.execute("SELECT body FROM state").fetchone()
        body = json.dumps(json.loads(body) | {key: HEADERS[key]})
        connection.execute("UPDATE state SET body = ?, checksum = ?", (body, SqliteStore._digest(body.encode())))
        connection.commit()
    with pytest.raises(GalleryDamaged, match="damaged"):
        SqliteStore(path)


@pytest.mark.parametrize("body", ["[" * 100_000, "null", "[]", '{"pin": ' + "9" * 400 + "}"], ids=lambda b: b[:9])
def test_a_header_of_another_kind(path: Path, body: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE state SET body = ?, checksum = ?", (body, SqliteStore._digest(body.encode())))
        connection.commit()
    with pytest.raises(GalleryDamaged):
        SqliteStore(path)


def deleted(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def restored(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def without_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("happens", [deleted, moved, restored, without_log])
def test_a_file_that_goes_away_under_an_open_gallery(path: Path, happens: Callable[[Path], None]) -> None:
    with contextlib.closing(SqliteStore(path)) as store:
        (kept,) = store.add([entry(7, 0)])
        happens(path)
        for ask in (lambda: store.add([entry(8, 0)]), lambda: store.delete(["person 0"]), store.people):
            with pytest.raises(GalleryError, match=r"g\.gallery"):
                ask()
    if happens is restored:
        with contextlib.closing(SqliteStore(path)) as again:
            assert kept in [row.number for row in again.rows()] and again.header().entries == 7


@pytest.mark.parametrize("by", ["an older copy", "another gallery", "an empty file", "other bytes"])
def test_a_file_that_other_bytes_are_copied_over(path: Path, tmp_path: Path, by: str) -> None:
    """In place: the name, the inode and the open file stay."""
    other = tmp_path / "other"
    if by == "an older copy":
        shutil.copy(path, other)
    elif by == "another gallery":
        with contextlib.closing(SqliteStore(path)) as store:
            signature = store.header().signature
        with contextlib.closing(SqliteStore(other, signature)) as store:
            for number in range(20):  # more changes than the one that is open has seen
                store.add([entry(number, 0)])
    else:
        other.write_bytes(b"" if by == "an empty file" else b"x" * 20_000)
    with contextlib.closing(SqliteStore(path)) as store:
        store.add([entry(7, 0)])
        assert len(store.people()) == 4
        inode = path.stat().st_ino
        shutil.copyfile(other, path)
        assert path.stat().st_ino == inode
        for ask in (lambda: store.add([entry(8, 0)]), lambda: store.delete(["person 0"]), store.people):
            with pytest.raises(GalleryError, match=r"g\.gallery"):
                ask()
    assert path.read_bytes() == other.read_bytes()  # nothing was mixed into it


def test_a_file_that_cannot_be_opened_is_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, connect = [], sqlite3.connect

    def connected(*words: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*words, **options))
        return made[-1]

    path.write_bytes(b"no database" * 1000)
    monkeypatch.setattr(sqlite_file.sqlite3, "connect", connected)
    with pytest.raises(GalleryDamaged):
        SqliteStore(path)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[-1].execute("SELECT 1")


def test_changes_of_other_connections_are_no_replacement(path: Path) -> None:
    with contextlib.closing(SqliteStore(path)) as one, contextlib.closing(SqliteStore(path)) as two:
        for number in range(7, 11):
            (one, two)[number % 2].add([entry(number, 0)])
        one.delete(["person 8"])
        assert len(two.people()) == len(one.people()) == 6


def test_a_file_that_goes_away_before_the_commit_is_not_acknowledged(path: Path) -> None:
    store = SqliteStore(path)
    with contextlib.closing(store), pytest.raises(GalleryError, match=r"g\.gallery"), store._writing():
        deleted(path)


def test_a_gallery_that_may_not_be_written_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everywhere
    before = sorted(path.parent.iterdir())
    with contextlib.closing(SqliteStore(path)) as store:
        assert store.people() == {f"person {who}": 2 for who in range(3)}
        assert store.nearest(entry(1, 0).vector[None], 1, {})[0][0].person == "person 1"
        store.check()
        with pytest.raises(GalleryError, match="read"):
            store.add([entry(9, 9)])
        assert sorted(path.parent.iterdir()) == before  # nothing was written beside it
        with path.open("ab") as file:
            file.write(b"x")
        with pytest.raises(GalleryError, match=r"g\.gallery"):
            store.people()


def test_changes_in_a_log_that_may_not_be_read_are_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.with_name(f"{path.name}-wal").write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(GalleryError, match="-wal"):
        SqliteStore(path)


def test_a_pipe_is_no_gallery_and_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(GalleryError, match="pipe"):
        open_store(tmp_path / "pipe", SIGNATURE)
    store = open_store(tmp_path / "g.gallery", SIGNATURE.model_copy(update={"model": str(tmp_path / "pipe")}))
    with Gallery(store) as gallery, pytest.raises(GalleryError, match="pipe"):
        gallery.search([])
        _ = gallery.recognizer


def test_a_gallery_starts_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEWRIGHT_CACHE", str(tmp_path / "cache"))
    store = open_store(tmp_path / "g.gallery", SIGNATURE.model_copy(update={"model": "mobilenet_v2@imagenet"}))
    with Gallery(store) as gallery, pytest.raises(GalleryError, match="weights get mobilenet_v2@imagenet"):
        _ = gallery.recognizer


def test_a_gallery_of_the_previous_version_gets_a_log(path: Path) -> None:
    change(path, "DROP TABLE log")
    with contextlib.closing(SqliteStore(path)) as store:
        assert store.log() == []
        store.add([entry(9, 9)])
        assert [one.action for one in store.log()] == ["enroll"]
    assert sqlite_file.VERSION == 1
