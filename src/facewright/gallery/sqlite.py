"""Enrolled faces in one SQLite file, with an exact copy of its vectors in memory for the search.

The copy in memory follows the revision in the header: entries that other processes added are appended, and after any
other change (a deletion, other vectors) everything is read again. One matrix product in float32 finds candidates; their
scores are then computed again in float64, so that neither the batch size nor the machine's order of additions decides
who is first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sqlite3
import threading
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from facewright.errors import GalleryError
from facewright.gallery import sqlite_file
from facewright.gallery.entries import Entry, Match, ModelSignature, RowFields, StoreHeader, total_of
from facewright.gallery.store import PAGE, GalleryStore


class SqliteStore(GalleryStore):
    """A store in one file, created if it is missing and a signature is given; opened for reading if it is read-only.

    Raises:
        GalleryError: no such gallery, or it cannot be opened. GalleryDamaged: it is not what was written.
    """

    header_table = "state"
    columns = "number, person, photo, metadata, digest, vector, crop_digest, checksum"
    among = "IN (SELECT value FROM json_each(?))"
    vector_type = "<f4"

    def __init__(self, path: Path, signature: ModelSignature | None = None) -> None:
        self.location = str(path)
        self._path = path
        self._lock = threading.RLock()
        if signature is not None and not path.exists():
            body = StoreHeader(signature=signature, identity=secrets.token_hex(8)).to_json()
            sqlite_file.create(path, body, self._digest(body.encode()))
        self._connection, self._read_only = sqlite_file.connect(path)
        self._index = VectorIndex(1)
        self._indexed: StoreHeader | None = None  # the state that `_index` is a copy of
        self._files: object = None
        self._seen: StoreHeader | None = None  # the state of the last transaction
        self._content: object = None  # size and times of the file when it was last checked
        try:
            with self._reading() as header:
                self._refresh(header)
            self._files = sqlite_file.identity(path, self._read_only)
            if header.erasing and not self._read_only:
                self.erase()
        except BaseException:
            self._connection.close()
            raise

    def check(self) -> None:
        """As `GalleryStore.check`."""
        with self._lock:
            sqlite_file.connect(self._path)[0].close()
            self._index, self._indexed = VectorIndex(1), None
            with self._reading() as header:
                self._refresh(header)
            for row in self.rows():
                self.crop(row.number)

    def close(self) -> None:
        """As `GalleryStore.close`."""
        with self._lock, sqlite_file.translated(self._path):
            self._connection.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[StoreHeader]:
        with self._reading("BEGIN IMMEDIATE") as header:
            yield header
        with sqlite_file.translated(self._path):
            self._check_files()  # else what was just committed could not be found again
        self._truncate_log()

    @contextlib.contextmanager
    def _reading(self, begin: str = "BEGIN") -> Iterator[StoreHeader]:
        """One snapshot of the gallery: everything read inside is consistent."""
        with self._lock, sqlite_file.translated(self._path):
            if self._connection.in_transaction:  # inside another block of this thread
                yield self._read_header()
                return
            self._check_files()
            self._connection.execute(begin)
            try:
                sqlite_file.check_schema(self._connection, self._path)
                yield self._read_header()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        plain = [json.dumps(value) if isinstance(value, list) else value for value in values]
        return self._connection.execute(statement, plain).fetchall()

    def _run_many(self, statement: str, values: Sequence[tuple[object, ...]]) -> None:
        self._connection.executemany(statement, values)

    @staticmethod
    def _digest(content: bytes) -> bytes:
        return hashlib.blake2b(content, digest_size=16).digest()

    def _enrolled(self, entries: Sequence[Entry]) -> set[tuple[str, str]]:
        keys = {(entry.person, entry.digest) for entry in entries}
        return {key for key in keys if self._run("SELECT 1 FROM entries WHERE person = ? AND digest = ?", key)}

    def _metadata(self, entries: Sequence[Entry]) -> list[str]:
        return [json.dumps(dict(sorted(entry.metadata.items())), ensure_ascii=False) for entry in entries]

    def _insert(self, rows: Sequence[RowFields], crops: Sequence[tuple[int, bytes]]) -> None:
        self._run_many(f"INSERT INTO entries ({self.columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._run_many("INSERT INTO crops VALUES (?, ?)", crops)

    def _replace_vectors(self, rows: Sequence[RowFields], width: int) -> None:
        values = [(fields[5], fields[7], fields[0]) for fields in rows]
        self._run_many("UPDATE entries SET vector = ?, checksum = ? WHERE number = ?", values)

    def _has_log(self, *, make: bool = False) -> bool:
        there = bool(self._run("SELECT 1 FROM sqlite_master WHERE name = 'log'"))
        if make and not there:
            self._run(sqlite_file.LOG)
        return there or make

    def _overwrite(self) -> None:
        with self._lock, sqlite_file.translated(self._path):
            self._index, self._indexed = VectorIndex(1), None  # the copy in memory holds deleted bytes too
            sqlite_file.erase(self._connection, self._path)

    def _check_files(self) -> None:
        if self._files is None:
            return
        same = sqlite_file.identity(self._path, self._read_only) == self._files
        if same and not self._read_only and self._seen is not None:
            content = sqlite_file.content(self._path)
            if content != self._content:  # by a checkpoint, or by other bytes that were copied over ours
                with sqlite_file.fresh(self._path) as connection:
                    found = self._header_of(connection.execute("SELECT body, checksum FROM state").fetchall())
                same = found.identity == self._seen.identity and found.revision >= self._seen.revision
                self._content = content if same else None
        if not same:
            raise GalleryError(
                f"{self.location}: the file was moved, deleted, replaced or restored while it was open, so nothing is "
                "read from it or written to it; open the gallery again (restart the server)"
            )

    def _read_header(self, lock: str = "") -> StoreHeader:
        self._seen = super()._read_header(lock)
        return self._seen

    def _truncate_log(self) -> None:
        """Move the log into the file, unless another process is at work, whose next change will do it."""
        with self._lock, sqlite_file.translated(self._path):
            self._connection.execute("PRAGMA busy_timeout = 0")
            try:
                with contextlib.suppress(sqlite3.OperationalError):  # what was committed is kept all the same
                    sqlite_file.empty_log(self._connection)
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * sqlite_file.PATIENCE)}")

    def _refresh(self, header: StoreHeader) -> None:
        """Make the index a copy of the gallery as it is in this transaction."""
        indexed = self._indexed
        if indexed is not None and indexed.revision == header.revision:
            return
        ((count,),) = self._run("SELECT count(*) FROM entries")
        if count != header.entries:  # before memory is reserved for them
            raise self._damaged(f"it has {count} entries and not the {header.entries} that were written")
        if indexed is None or indexed.revision < header.erased:
            self._index, indexed = VectorIndex(header.signature.width, count), None
        self._indexed, total = None, 0 if indexed is None else indexed.total  # None until everything is verified
        rows = self._connection.execute(
            f"SELECT {self.columns} FROM entries WHERE number > ? ORDER BY number", (self._index.last,)
        )
        while page := rows.fetchmany(PAGE):
            for fields in page:
                if len(self._verified(fields)[5]) != 4 * header.signature.width:
                    raise self._damaged(f"entry {fields[0]} is not what was written")
            total = total_of((fields[7] for fields in page), total)
            numbers, people, _, metadata, _, vectors, _, _ = zip(*page, strict=True)
            self._index.add(numbers, people, b"".join(vectors), metadata)
        if self._index.count != header.entries or total != header.total:
            raise self._damaged(f"its {self._index.count} entries are not the {header.entries} that were written")
        self._indexed = header

    def _nearest(
        self, header: StoreHeader, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]
    ) -> list[list[Match]]:
        self._refresh(header)
        return [[self._match(*hit) for hit in hits] for hits in self._index.nearest(vectors, k, where)]

    def _match(self, number: int, score: float) -> Match:
        rows = self._select("WHERE number = ?", (number,))
        if not rows:
            raise self._damaged(f"entry {number} is gone")
        entry = self._row(rows[0]).entry
        return Match(person=entry.person, score=score, number=number, photo=entry.photo, metadata=dict(entry.metadata))


SCORES = 1 << 24  # computed at a time: 64 MB
RESCORED = 1 << 16  # rows at a time
SLACK = 1e-4  # above the error of a float32 dot product of unit vectors (D times 6e-8, for D up to 1,600)
GROWTH = 1.25

Number = TypeVar("Number", bound=np.generic)
Hit = tuple[int, float]  # the number of an entry, its score


class VectorIndex:
    """Entries of `width` numbers; they can be added but not removed. `room`: initial capacity."""

    def __init__(self, width: int, room: int = 0) -> None:
        self.count = 0  # N
        self._vectors = np.empty((room, width), np.float32)
        self._numbers = np.empty(room, np.int64)
        self._codes = np.empty(room, np.int32)  # index into `_people` of each entry
        self._people: list[str] = []
        self._code_of: dict[str, int] = {}
        self._tagged: dict[tuple[str, str], array[int]] = {}  # (key, value) of the metadata -> rows, ascending

    @property
    def last(self) -> int:
        """The highest number of an entry; 0 if there is none."""
        return int(self._numbers[self.count - 1]) if self.count else 0

    def add(self, numbers: Sequence[int], people: Sequence[str], vectors: bytes, metadata: Sequence[str]) -> None:
        """Add M entries: ascending numbers, names, M × D little-endian float32, metadata as JSON."""
        start, end = self.count, self.count + len(numbers)
        self._make_room(end)
        self._vectors[start:end] = np.frombuffer(vectors, "<f4").reshape(len(numbers), -1)
        self._numbers[start:end] = numbers
        for row, person in enumerate(people, start):
            code = self._code_of.setdefault(person, len(self._people))
            if code == len(self._people):
                self._people.append(person)
            self._codes[row] = code
        for row, text in enumerate(metadata, start):
            if text != "{}":
                for pair in json.loads(text).items():
                    self._tagged.setdefault(pair, array("q")).append(row)
        self.count = end

    def nearest(self, probes: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[list[Hit]]:
        """The best entry of each of the k nearest people to each probe, best first; ties by name.

        Args:
            probes: (Q, D) unit vectors. k: at least 1. where: only entries with all these in their metadata.
        """
        rows = self._rows(where)
        vectors = self._vectors[: self.count] if rows is None else self._vectors[rows]
        at = np.arange(self.count) if rows is None else rows
        codes = self._codes[at]
        if not at.size:
            return [[] for _ in probes]
        hits: list[list[Hit]] = []
        block = max(1, SCORES // at.size)
        for start in range(0, len(probes), block):
            part = np.ascontiguousarray(probes[start : start + block], np.float32)
            for probe, scores in zip(part, part @ vectors.T, strict=True):  # (D,), (N,)
                hits.append(self._best(probe, at[_candidates(scores, codes, k)], k))
        return hits

    def _best(self, probe: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> list[Hit]:
        """The first entry of each of k people, ordered by exact score, name and number."""
        exact = np.empty(rows.size)
        for start in range(0, rows.size, RESCORED):
            part = rows[start : start + RESCORED]
            exact[start : start + RESCORED] = (self._vectors[part].astype(np.float64) * probe).sum(axis=1)
        exact = np.clip(exact, -1.0, 1.0)
        order = np.lexsort((self._numbers[rows], -exact))
        best = order[np.sort(np.unique(self._codes[rows[order]], return_index=True)[1])]  # of each person
        lowest = exact[best[min(k, best.size) - 1]]
        listed = sorted((-exact[i], self._people[self._codes[rows[i]]], i) for i in best[exact[best] >= lowest])
        return [(int(self._numbers[rows[i]]), float(exact[i])) for _, _, i in listed[:k]]

    def _rows(self, where: Mapping[str, str]) -> NDArray[np.int64] | None:
        """The rows that pass a filter, ascending; None for all."""
        rows: NDArray[np.int64] | None = None
        for pair in where.items():
            having = np.array(self._tagged.get(pair, ()), np.int64)
            rows = having if rows is None else np.intersect1d(rows, having, assume_unique=True)
        return rows

    def _make_room(self, count: int) -> None:
        if count <= len(self._numbers):
            return
        room = max(count, int(len(self._numbers) * GROWTH))
        self._vectors = _grown(self._vectors, self.count, room)
        self._numbers = _grown(self._numbers, self.count, room)
        self._codes = _grown(self._codes, self.count, room)


def _candidates(scores: NDArray[np.float32], codes: NDArray[np.int32], k: int) -> NDArray[np.int64]:
    """Rows that certainly include the k best people, whatever the rounding of the scores, (N,)."""
    wanted = max(64, 4 * k)
    while wanted < scores.size:
        lowest = np.partition(scores, scores.size - wanted)[scores.size - wanted]
        if np.unique(codes[scores >= lowest]).size >= k:
            return np.flatnonzero(scores >= lowest - SLACK)
        wanted *= 8
    return np.arange(scores.size)


def _grown(old: NDArray[Number], count: int, room: int) -> NDArray[Number]:
    """The first rows of an array, with room for more."""
    new = np.empty((room, *old.shape[1:]), old.dtype)
    new[:count] = old[:count]
    return new
