"""Faults 19, 20 and 21 of a gallery: processes that enrol at once or die, a file that rots, a person who goes.

The first and the last of both stores; what rots on a server stands in `test_postgres.py`.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from facewright.errors import GalleryDamaged, GalleryError
from facewright.gallery import open_store, postgres_connection, sqlite_file
from facewright.gallery.sqlite import SqliteStore
from facewright.gallery.store import GalleryStore
from fixtures import hostile
from fixtures.hostile import SIGNATURE, entry, pieces, traces

HOSTILE = str(Path(hostile.__file__))
FIRST = itertools.count(1_000, 1_000)
slow = pytest.mark.slow


@dataclass(frozen=True)
class Place:
    """A gallery that is not there yet."""

    where: str
    folder: Path  # of all files that may hold something of it
    steps: int  # of `hostile`, in which a deletion is done
    first: int = 0  # person of this gallery: files that hold other galleries too hold none of him


@pytest.fixture(params=["sqlite", "postgres", pytest.param("postgres by index", marks=slow)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Gives a new place each time."""
    if request.param == "sqlite":
        return lambda: Place(str((folder := Path(tempfile.mkdtemp(dir=tmp_path))) / "g.gallery"), folder, 120)
    server = request.getfixturevalue("server")
    by_index = "&index=hnsw" * request.param.endswith("by index")
    return lambda: Place(server.address() + by_index, server.folder, 60, next(FIRST))


@pytest.fixture
def place(anywhere: Callable[[], Place]) -> Place:
    return anywhere()


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, HOSTILE, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> dict[tuple[int, int], int]:
    """Which entries a process was told to be kept, with their numbers."""
    out, err = process.communicate(timeout=300)
    assert process.returncode in (0, -signal.SIGKILL), err
    lines = [list(map(int, line.split())) for line in out.splitlines()]
    return {(who, photo): number for who, photo, number in lines}


def held(store: GalleryStore) -> dict[int, bytes]:
    """Everything that a gallery holds, by number."""
    found = {}
    for row in store.rows():
        e = row.entry
        crop = store.crop(row.number) or b""
        found[row.number] = repr((e.person, e.photo, sorted(e.metadata.items()), e.digest)).encode() + (
            e.vector.tobytes() + crop
        )
    return found


def filled(where: Path | str, people: int = 5, photos: int = 3, first: int = 0) -> Path:
    store = open_store(where, SIGNATURE)
    for who in range(first, first + people):
        store.add([entry(who, photo) for photo in range(photos)])
    store.set_threshold({"value": 0.5})
    store.close()
    return Path(where)


# Fault 19: processes that enrol at once, and die.


@pytest.mark.parametrize(("processes", "photos"), [(3, 6), pytest.param(8, 100, marks=slow)])
def test_processes_that_enrol_at_once_lose_nothing(place: Place, processes: int, photos: int) -> None:
    running = [start("enrol", place.where, who, photos) for who in range(processes)]  # made by whoever comes first
    kept: dict[tuple[int, int], int] = {}
    for process in running:
        kept |= told(process)
        assert process.returncode == 0
    assert len(kept) == processes * photos == len(set(kept.values()))
    store = open_store(place.where)
    store.check()
    found = held(store)
    assert set(found) == set(kept.values())
    for (who, photo), number in kept.items():
        assert entry(who, photo).vector.tobytes() in found[number]
    store.close()


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=slow)])
def test_killed_while_it_enrols_it_keeps_what_it_told(place: Place, kills: int) -> None:
    where, drawn = place.where, random.Random(0)
    kept: dict[tuple[int, int], int] = {}
    untold = []
    for who in range(kills):
        count, after = drawn.randint(2, 4), 0 if who % 3 == 0 else drawn.randint(1, 12)
        process = start("enrol", where, who, count, after)
        new = told(process)
        assert process.returncode == -signal.SIGKILL and len(new) == count - 1
        kept |= new
        store = open_store(where)
        store.check()
        found = held(store)
        assert all(entry(*of).vector.tobytes() in found[number] for of, number in kept.items())
        untold.append(f"{count - 1}.jpg" in [row.entry.photo for row in store.rows([f"person {who}"])])
        assert untold[-1] or after > 0  # dead after it was kept, before it was told
        assert len(found) == len(kept) + sum(untold)
        store.close()
    assert not all(untold)  # some died before it was kept


# Fault 20: a file that rots.


def flips(size: int, count: int) -> list[int]:
    """Places of bits: every one of the header's, and others evenly over the file, each page and kind of byte."""
    rng = np.random.default_rng(0)
    header = rng.choice(100 * 8, min(count // 4, 800), replace=False)
    return [*map(int, header), *map(int, rng.integers(0, size * 8, count - len(header)))]


@pytest.mark.parametrize("count", [160, pytest.param(10_000, marks=slow)])
def test_no_flipped_bit_makes_a_silent_difference(tmp_path: Path, count: int) -> None:
    where = filled(tmp_path / "g.gallery")
    store = SqliteStore(where)
    truth, state = held(store), store.header()
    store.close()
    content, copy = where.read_bytes(), tmp_path / "copy.gallery"
    noticed = silent = 0
    for place in flips(len(content), count):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        for left in tmp_path.glob("copy.gallery*"):
            left.unlink()
        copy.write_bytes(damaged)
        try:
            opened = SqliteStore(copy)
            with contextlib.closing(opened):
                same = held(opened) == truth and opened.header() == state
                silent += not same
        except GalleryError:
            noticed += 1
    assert silent == 0
    assert noticed > count // 2  # most bytes of the file mean something


HIDDEN = {  # what SQLite itself finds nothing wrong with
    "a row is gone": "DELETE FROM entries WHERE number = 3",
    "a row came back": "UPDATE entries SET number = 99 WHERE number = 3",
    "a name": "UPDATE entries SET person = 'person 9' WHERE number = 3",
    "metadata": 'UPDATE entries SET metadata = \'{"n": "7"}\' WHERE number = 3',
    "a vector": "UPDATE entries SET vector = (SELECT vector FROM entries WHERE number = 4) WHERE number = 3",
    "a type": "UPDATE entries SET photo = 7 WHERE number = 3",
    "the totals": "UPDATE state SET body = replace(body, '0.5', '0.4')",
    "no totals": "DELETE FROM state",
    "a crop": "UPDATE crops SET png = zeroblob(6000) WHERE number = 3",
    "a crop is gone": "DELETE FROM crops WHERE number = 3",
}


@pytest.mark.parametrize("what", HIDDEN)
def test_what_sqlite_does_not_see_is_noticed(tmp_path: Path, what: str) -> None:
    where = filled(tmp_path / "g.gallery")
    with contextlib.closing(sqlite3.connect(where)) as connection:
        connection.execute(HIDDEN[what])
        connection.commit()
    with pytest.raises(GalleryDamaged, match="damaged"):
        SqliteStore(where).check()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, b"SQLite format 3\0" + bytes(5_000)])
def test_no_gallery_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.gallery").write_bytes(content)
    with pytest.raises(GalleryError):
        SqliteStore(tmp_path / "g.gallery", SIGNATURE)
    assert (tmp_path / "g.gallery").read_bytes() == content


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    where = filled(tmp_path / "g.gallery")
    content = where.read_bytes()
    for tenth in range(10):
        where.write_bytes(content[: len(content) * tenth // 10])
        with pytest.raises(GalleryError):
            SqliteStore(where)


# Fault 21: a person who goes.


@pytest.mark.parametrize("rounds", [1, pytest.param(40, marks=slow)])
def test_of_a_deleted_person_no_byte_is_left(place: Place, rounds: int) -> None:
    drawn = random.Random(0)
    store, other = open_store(place.where, SIGNATURE), open_store(place.where)
    here = {}
    for who in range(place.first, place.first + rounds * 4):
        here[who] = drawn.randint(1, 4)
        store.add([entry(who, photo) for photo in range(here[who])])
        other.people()
        if who % 4 == 3:
            gone = drawn.choice(sorted(here))
            assert traces(place.folder, pieces(gone, 1)) > 0  # the search can find
            assert store.delete([f"person {gone}"]) == here[gone]
            assert (traces(place.folder, pieces(gone, here.pop(gone))), store.remains) == (0, "")
    store.check()
    other.close()
    store.close()


def test_without_rewriting_the_files_bytes_would_be_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "erase", lambda connection, path: None)
    monkeypatch.setattr(sqlite_file, "empty_log", lambda connection: True)
    monkeypatch.setattr(postgres_connection, "rewrite", lambda connection: None)
    store = open_store(place.where, SIGNATURE)
    store.add([entry(place.first, photo) for photo in range(2)])
    store.delete([f"person {place.first}"])
    assert traces(place.folder, pieces(place.first, 2)) > 0
    store.close()


def test_moved_to_another_model_the_old_vectors_are_gone(place: Place) -> None:
    filled(place.where, people=2, photos=2, first=place.first)
    store = open_store(place.where)
    old = {row.entry.vector.tobytes()[at : at + 16] for row in store.rows() for at in range(0, 256, 16)}
    store.reembed(SIGNATURE, {row.number: entry(place.first + 99, row.number).vector for row in store.rows()})
    assert traces(place.folder, old) == 0
    store.close()


@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=slow)])
def test_killed_while_it_deletes_the_next_one_finishes(anywhere: Callable[[], Place], kills: int) -> None:
    drawn = random.Random(0)
    finished = 0
    for _ in range(kills):
        place = anywhere()
        filled(place.where, first=place.first)
        gone = place.first + 1
        start("delete", place.where, gone, drawn.randint(1, place.steps)).communicate(timeout=300)
        store = open_store(place.where)
        store.check()
        people = store.people()
        assert set(people) >= {f"person {place.first + who}" for who in (0, 2, 3, 4)}
        if f"person {gone}" not in people:
            finished += 1
            assert traces(place.folder, pieces(gone, 3)) == 0
        store.close()
    assert finished > 0


def test_a_reader_that_stays_is_told_of_and_the_rest_is_done_later(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.2)
    monkeypatch.setattr(postgres_connection, "PATIENCE", 0.2)
    filled(place.where, people=1, first=place.first)
    store = open_store(place.where)
    reader = start("read", place.where)
    assert reader.stdout is not None and reader.stdout.readline() == "reading\n"
    with pytest.raises(GalleryError, match="another process keeps reading"):
        store.delete([f"person {place.first}"])
    assert store.people() == {}
    reader.communicate()  # it ends
    store.erase()
    assert traces(place.folder, pieces(place.first, 3)) == 0
    store.close()


# Who may read it.


def test_files_are_private(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "deep" / "folder" / "g.gallery", SIGNATURE)
    store.add([entry(0, 0)])
    files = list((tmp_path / "deep" / "folder").iterdir())
    assert {path.name for path in files} == {"g.gallery", "g.gallery-wal", "g.gallery-shm"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert (tmp_path / "deep" / "folder" / "g.gallery-wal").stat().st_size == 0  # all is in the file
    store.delete(["person 0"])
    assert (tmp_path / "deep" / "folder" / "g.gallery-wal").stat().st_size == 0
    assert stat.S_IMODE((tmp_path / "deep" / "folder").stat().st_mode) == 0o700
    store.close()
