"""Enrolled faces in one SQLite file: the truth on disk, an exact copy of its vectors in memory for the search.

Each row carries a checksum over all it holds; the row `state` carries their sum (exclusive or) and number and a
checksum of its own. So a row that was changed, lost or brought back is noticed when the gallery is read, not only
what SQLite itself can tell (`sqlite_file`). Crops are verified when they are read.

The copy in memory follows the revision in `state`: what other processes added is read behind it, and after anything
else (a deletion, other vectors) all is read anew.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.errors import GalleryDamaged, GalleryError
from facewright.gallery import sqlite_file
from facewright.gallery.memory import Memory
from facewright.gallery.sealed_rows import (
    COLUMNS,
    Book,
    Fields,
    as_bytes,
    as_number,
    checksum_of,
    digest_of,
    fields_of,
    seal,
    sealed,
)
from facewright.gallery.store import Entry, Match, Pin, Row, State, checked

PAGE = 4_096  # rows read at a time


class SqliteStore:
    """A `GalleryStore` in one file, made at once where it is missing and a pin is given.

    Args:
        path: the file. pin: of a new gallery; one that is there keeps its own.
    Raises:
        GalleryError: no such gallery, or it cannot be opened. GalleryDamaged: it is not what was written.
    """

    def __init__(self, path: Path, pin: Pin | None = None) -> None:
        self.where, self.remains = str(path), ""
        self._path = path
        self._lock = threading.RLock()
        if pin is not None and not path.exists():
            body = Book(State(pin, 0, 0, 0, None), 1, 0, False).to_json()
            sqlite_file.create(path, body, checksum_of(body))
        self._connection = sqlite_file.connect(path)
        self._memory = Memory(1)
        self._seen: Book | None = None  # what `_memory` is a copy of
        try:
            with self._reading() as book:
                self._refresh(book)
            if book.erasing:
                self.erase()
        except BaseException:
            self._connection.close()
            raise

    def state(self) -> State:
        """As `GalleryStore.state`."""
        with self._reading() as book:
            return book.state

    def add(self, entries: Sequence[Entry]) -> list[int | None]:
        """As `GalleryStore.add`."""
        numbers: list[int | None] = []
        with self._writing() as book:
            following, total = book.next, book.total
            for entry in entries:
                fields = fields_of(following, checked(entry, book.state.pin.width))
                made = self._connection.execute(
                    f"INSERT INTO entries ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", fields
                ).rowcount
                numbers.append(following if made else None)
                if made:
                    if entry.crop is not None:
                        self._connection.execute("INSERT INTO crops VALUES (?, ?)", (following, entry.crop))
                    following, total = following + 1, total ^ as_number(fields)
            count = book.state.entries + following - book.next
            if count > book.state.entries:
                self._write(replace(book, next=following, total=total).changed(only_added=True, entries=count))
        self._shorten_log()
        return numbers

    def rows(self, people: Sequence[str] = ()) -> Iterator[Row]:
        """As `GalleryStore.rows`."""
        last = 0
        whose, given = (
            ("AND person IN (SELECT value FROM json_each(?))", (json.dumps(list(people)),)) if people else ("", ())
        )
        while True:
            with self._reading():
                page = self._connection.execute(
                    f"SELECT {COLUMNS} FROM entries WHERE number > ? {whose} ORDER BY number LIMIT {PAGE}",
                    (last, *given),
                ).fetchall()
                rows = [self._row(fields) for fields in page]
            yield from rows
            if len(page) < PAGE:
                return
            last = rows[-1].number

    def crop(self, number: int) -> bytes | None:
        """As `GalleryStore.crop`."""
        with self._reading():
            row = self._row_of(number)
            if row is None or not row.has_crop:
                return None
            found = self._connection.execute(
                "SELECT png, crop_digest FROM crops JOIN entries USING (number) WHERE number = ?", (number,)
            ).fetchone()
            if found is None or digest_of(as_bytes(found[0])) != found[1]:
                raise self._damaged(f"the crop of entry {number} is not what was kept")
            return bytes(found[0])

    def people(self) -> dict[str, int]:
        """As `GalleryStore.people`."""
        with self._reading():
            counted = self._connection.execute("SELECT person, COUNT(*) FROM entries GROUP BY person ORDER BY person")
            return {str(person): int(count) for person, count in counted}

    def nearest(self, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[list[Match]]:
        """As `GalleryStore.nearest`."""
        with self._reading() as book:
            self._refresh(book)
            return [[self._match(*one) for one in found] for found in self._memory.nearest(vectors, k, where)]

    def delete(self, people: Sequence[str] = (), numbers: Sequence[int] = ()) -> int:
        """As `GalleryStore.delete`."""
        with self._writing() as book:
            chosen = [("person = ?", name) for name in people] + [("number = ?", number) for number in numbers]
            total, count = book.total, 0
            for condition, value in chosen:
                gone = self._connection.execute(f"SELECT {COLUMNS} FROM entries WHERE {condition}", (value,)).fetchall()
                for fields in gone:
                    self._connection.execute("DELETE FROM crops WHERE number = ?", (fields[0],))
                    total, count = total ^ as_number(fields), count + 1
                self._connection.execute(f"DELETE FROM entries WHERE {condition}", (value,))
            if count:
                left = book.state.entries - count
                self._write(replace(book, total=total, erasing=True).changed(only_added=False, entries=left))
        self.erase()
        return count

    def erase(self) -> None:
        """As `GalleryStore.erase`."""
        with self._lock, sqlite_file.translated(self._path):
            with self._reading() as book:
                pending = book.erasing
            if not pending:
                return
            self._memory, self._seen = Memory(1), None  # memory is a place too
            sqlite_file.erase(self._connection, self._path)
            with self._writing() as now:
                if now.state.erased == book.state.erased:  # else somebody else has deleted since, and will come here
                    self._write(replace(now, erasing=False).changed(only_added=True))
            self._shorten_log()

    def reembed(self, pin: Pin, vectors: Mapping[int, NDArray[np.float32]]) -> None:
        """As `GalleryStore.reembed`."""
        with self._writing() as book:
            held = self._connection.execute(f"SELECT {COLUMNS} FROM entries").fetchall()
            if {fields[0] for fields in held} != set(vectors):
                raise GalleryError(f"{self.where}: the gallery changed meanwhile, nothing was migrated; do it again")
            total = 0
            for old in held:
                row = self._row(old)
                entry = checked(replace(row.entry, vector=vectors[row.number]), pin.width)
                new = sealed((*fields_of(row.number, entry)[:6], old[6]))
                self._connection.execute(
                    "UPDATE entries SET vector = ?, checksum = ? WHERE number = ?", (new[5], new[7], row.number)
                )
                total ^= as_number(new)
            erasing = replace(book, total=total, erasing=True)
            self._write(erasing.changed(only_added=False, pin=pin, threshold=None))
        self.erase()

    def keep_threshold(self, facts: Mapping[str, Any] | None) -> None:
        """As `GalleryStore.keep_threshold`."""
        with self._writing() as book:
            self._write(book.changed(only_added=True, threshold=facts))
        self._shorten_log()

    def check(self) -> None:
        """As `GalleryStore.check`."""
        with self._lock:
            with contextlib.closing(sqlite_file.connect(self._path)):
                pass
            self._memory, self._seen = Memory(1), None
            with self._reading() as book:
                self._refresh(book)
            for row in self.rows():
                self.crop(row.number)

    def close(self) -> None:
        """As `GalleryStore.close`."""
        with self._lock, sqlite_file.translated(self._path):
            self._connection.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Book]:
        """One moment of the gallery: all that is read inside belongs together."""
        with self._transaction("BEGIN") as book:
            yield book

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Book]:
        """The gallery to ourselves; kept when the block ends well, else nothing has happened."""
        with self._transaction("BEGIN IMMEDIATE") as book:
            yield book

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[Book]:
        with self._lock, sqlite_file.translated(self._path):
            if self._connection.in_transaction:  # inside another block of this thread
                yield self._read_book()
                return
            self._connection.execute(begin)
            try:
                yield self._read_book()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _read_book(self) -> Book:
        found = self._connection.execute("SELECT body, checksum FROM state").fetchall()
        if len(found) != 1 or not isinstance(found[0][0], str) or checksum_of(found[0][0]) != found[0][1]:
            raise self._damaged("its row of totals is not what was written")
        return Book.from_json(found[0][0])

    def _write(self, book: Book) -> None:
        body = book.to_json()
        self._connection.execute("UPDATE state SET body = ?, checksum = ?", (body, checksum_of(body)))

    def _shorten_log(self) -> None:
        """Bring the log into the file while nobody minds; where somebody does, the next one will."""
        with self._lock, sqlite_file.translated(self._path):
            self._connection.execute("PRAGMA busy_timeout = 0")
            try:
                with contextlib.suppress(sqlite3.OperationalError):  # what was committed is kept all the same
                    sqlite_file.empty_log(self._connection)
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * sqlite_file.PATIENCE)}")

    def _refresh(self, book: Book) -> None:
        """Make the memory a copy of the gallery as it is in this transaction."""
        seen, state = self._seen, book.state
        if seen is not None and seen.state.revision == state.revision:
            return
        if seen is None or seen.state.revision < state.erased:
            self._memory, seen = Memory(state.pin.width, state.entries), None
        self._seen, total = None, 0 if seen is None else seen.total  # None until all of it is there and adds up
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM entries WHERE number > ? ORDER BY number", (self._memory.last,)
        )
        while page := rows.fetchmany(PAGE):
            for fields in page:
                self._verify(fields, state.pin.width)
                total ^= as_number(fields)
            numbers, people, _, metadata, _, vectors, _, _ = zip(*page, strict=True)
            self._memory.add(numbers, people, b"".join(vectors), metadata)
        if self._memory.count != state.entries or total != book.total:
            raise self._damaged(f"its {self._memory.count} entries are not the {state.entries} that were written")
        self._seen = book

    def _match(self, number: int, score: float) -> Match:
        row = self._row_of(number)
        if row is None:
            raise self._damaged(f"entry {number} is gone")
        return Match(row.entry.person, score, number, row.entry.photo, row.entry.metadata)

    def _row_of(self, number: int) -> Row | None:
        fields = self._connection.execute(f"SELECT {COLUMNS} FROM entries WHERE number = ?", (number,)).fetchone()
        return None if fields is None else self._row(fields)

    def _row(self, fields: Fields) -> Row:
        self._verify(fields, len(fields[5]) // 4)
        number, person, photo, metadata, digest, vector, crop_digest, _ = fields
        entry = Entry(person, np.frombuffer(vector, "<f4"), digest, photo, json.loads(metadata))
        return Row(number, entry, bool(crop_digest))

    def _verify(self, fields: Fields, width: int) -> None:
        try:
            sound = seal(fields[:7]) == fields[7] and len(fields[5]) == 4 * width
        except (TypeError, AttributeError, ValueError):  # a damaged row may hold values of other types
            sound = False
        if not sound:
            raise self._damaged(f"entry {fields[0]} is not what was written")

    def _damaged(self, what: str) -> GalleryDamaged:
        return GalleryDamaged(f"{self.where}: the gallery is damaged: {what}; take a copy or an export of it")
