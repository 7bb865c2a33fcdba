"""Enrolled faces in one SQLite file, with an exact copy of its vectors in memory for the search.

Each row carries a checksum over all its fields; the row `state` carries their sum (exclusive or), their number and a
checksum of its own. So a changed, lost or returned row is noticed when the gallery is read, beyond what SQLite itself
can tell (`sqlite_file`). Crops are verified when they are read.

The copy in memory follows the revision in `state`: entries that other processes added are appended, and after any other
change (a deletion, other vectors) everything is read again.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.errors import DataError, GalleryDamaged, GalleryError
from facewright.gallery import sqlite_file, store
from facewright.gallery.store import COLUMNS, Entry, LogRecord, Match, ModelSignature, Row, RowFields, StoreHeader
from facewright.gallery.vector_index import VectorIndex

PAGE = 4_096  # rows read at a time


class SqliteStore:
    """A `GalleryStore` in one file, created if it is missing and a signature is given.

    Args:
        path: the file; one that may not be written is opened for reading. signature: of a new gallery; an existing one
            keeps its own.
    Raises:
        GalleryError: no such gallery, or it cannot be opened. GalleryDamaged: it is not what was written.
    """

    def __init__(self, path: Path, signature: ModelSignature | None = None) -> None:
        self.location, self.remains = str(path), ""
        self._path = path
        self._lock = threading.RLock()
        if signature is not None and not path.exists():
            body = StoreHeader(signature=signature, identity=secrets.token_hex(8)).to_json()
            sqlite_file.create(path, body, store.digest_of(body.encode()))
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

    def header(self) -> StoreHeader:
        """As `GalleryStore.header`."""
        with self._reading() as header:
            return header

    def add(self, entries: Sequence[Entry]) -> list[int | None]:
        """As `GalleryStore.add`."""
        numbers: list[int | None] = []
        with self._writing() as header:
            following, total = header.next_number, header.total
            for entry in entries:
                fields = store.fields_of(following, store.check_entry(entry, header.signature.width))
                new = self._connection.execute(
                    f"INSERT INTO entries ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING", fields
                ).rowcount
                numbers.append(following if new else None)
                if new:
                    if entry.crop is not None:
                        self._connection.execute("INSERT INTO crops VALUES (?, ?)", (following, entry.crop))
                    following, total = following + 1, store.total_of([fields[7]], total)
            count = header.entries + following - header.next_number
            if count > header.entries:
                self._write(header.updated(only_added=True, entries=count, next_number=following, total=total))
                self._log("enroll", count - header.entries, header.next_number, following - 1)
        self._truncate_log()
        return numbers

    def rows(self, people: Sequence[str] = ()) -> Iterator[Row]:
        """As `GalleryStore.rows`."""
        last = 0
        condition, values = (
            ("AND person IN (SELECT value FROM json_each(?))", (json.dumps(list(people)),)) if people else ("", ())
        )
        while True:
            with self._reading():
                page = self._connection.execute(
                    f"SELECT {COLUMNS} FROM entries WHERE number > ? {condition} ORDER BY number LIMIT {PAGE}",
                    (last, *values),
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
            crop = self._connection.execute(
                "SELECT png, crop_digest FROM crops JOIN entries USING (number) WHERE number = ?", (number,)
            ).fetchone()
            if crop is None or not isinstance(crop[0], bytes) or store.digest_of(crop[0]) != crop[1]:
                raise self._damaged(f"the crop of entry {number} is not what was stored")
            return crop[0]

    def people(self) -> dict[str, int]:
        """As `GalleryStore.people`."""
        with self._reading():
            counts = self._connection.execute("SELECT person, COUNT(*) FROM entries GROUP BY person ORDER BY person")
            return {str(person): int(count) for person, count in counts}

    def nearest(self, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[list[Match]]:
        """As `GalleryStore.nearest`."""
        with self._reading() as header:
            self._refresh(header)
            return [[self._match(*hit) for hit in hits] for hits in self._index.nearest(vectors, k, where)]

    def delete(self, people: Sequence[str] = (), numbers: Sequence[int] = (), *, action: str = "delete") -> int:
        """As `GalleryStore.delete`."""
        with self._writing() as header:
            chosen = [("person = ?", name) for name in people] + [("number = ?", number) for number in numbers]
            total, count = header.total, 0
            for condition, value in chosen:
                rows = self._connection.execute(f"SELECT {COLUMNS} FROM entries WHERE {condition}", (value,)).fetchall()
                for fields in rows:
                    self._connection.execute("DELETE FROM crops WHERE number = ?", (fields[0],))
                    total, count = store.total_of([fields[7]], total), count + 1
                self._connection.execute(f"DELETE FROM entries WHERE {condition}", (value,))
            if count:
                left = header.entries - count
                self._write(header.updated(only_added=False, entries=left, total=total, erasing=True))
                self._log(action, count)
        self.erase()
        return count

    def rename(self, people: Sequence[str], name: str) -> int:
        """As `GalleryStore.rename`."""
        count, removed = 0, 0
        with self._writing() as header:
            total = header.total
            rows = self._connection.execute(
                f"SELECT {COLUMNS} FROM entries WHERE person IN (SELECT value FROM json_each(?)) AND person <> ?",
                (json.dumps(list(people)), name),
            ).fetchall()
            for fields in rows:
                number = self._row(fields).number
                new = store.with_checksum((number, name, *fields[2:7]))
                renamed = self._connection.execute(
                    "UPDATE OR IGNORE entries SET person = ?, checksum = ? WHERE number = ?", (name, new[7], number)
                ).rowcount
                total, count = store.total_of([fields[7], *([new[7]] if renamed else [])], total), count + 1
                if not renamed:  # this photo is enrolled under the new name
                    removed += 1
                    for table in ("entries", "crops"):
                        self._connection.execute(f"DELETE FROM {table} WHERE number = ?", (number,))
            if count:
                left = header.entries - removed
                self._write(header.updated(only_added=False, entries=left, total=total, erasing=True))
                self._log("rename", count)
        self.erase()
        return count

    def log(self) -> list[LogRecord]:
        """As `GalleryStore.log`."""
        with self._reading():
            if not self._has_log():
                return []
            rows = self._connection.execute("SELECT time, action, entries, first, last FROM log ORDER BY id").fetchall()
            return [LogRecord(**dict(zip(LogRecord.model_fields, row, strict=True))) for row in rows]

    def erase(self) -> None:
        """As `GalleryStore.erase`."""
        with self._lock, sqlite_file.translated(self._path):
            with self._reading() as header:
                pending = header.erasing
            if not pending:
                return
            self._index, self._indexed = VectorIndex(1), None  # the copy in memory holds deleted bytes too
            sqlite_file.erase(self._connection, self._path)
            with self._writing() as now:
                if now.erased == header.erased:  # else another process has deleted since, and will erase
                    self._write(now.updated(only_added=True, erasing=False))
            self._truncate_log()

    def reembed(self, signature: ModelSignature, vectors: Mapping[int, NDArray[np.float32]]) -> None:
        """As `GalleryStore.reembed`."""
        with self._writing() as header:
            old_rows = self._connection.execute(f"SELECT {COLUMNS} FROM entries").fetchall()
            if {fields[0] for fields in old_rows} != set(vectors):
                raise GalleryError(f"{self.location}: the gallery changed meanwhile, nothing was migrated; try again")
            total = 0
            for old in old_rows:
                row = self._row(old)
                entry = store.check_entry(replace(row.entry, vector=vectors[row.number]), signature.width)
                new = store.with_checksum((*store.fields_of(row.number, entry)[:6], old[6]))
                self._connection.execute(
                    "UPDATE entries SET vector = ?, checksum = ? WHERE number = ?", (new[5], new[7], row.number)
                )
                total = store.total_of([new[7]], total)
            changes = {"signature": signature, "threshold": None, "total": total, "erasing": True}
            self._write(header.updated(only_added=False, **changes))
            self._log("reembed", header.entries)
        self.erase()

    def set_threshold(self, facts: Mapping[str, Any] | None) -> None:
        """As `GalleryStore.set_threshold`."""
        with self._writing() as header:
            self._write(header.updated(only_added=True, threshold=facts))
            self._log("calibrate", header.entries)
        self._truncate_log()

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
        """Exclusive access; committed when the block succeeds, else rolled back."""
        with self._reading("BEGIN IMMEDIATE") as header:
            yield header
        with sqlite_file.translated(self._path):
            self._check_files()  # else what was just committed could not be found again

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

    def _check_files(self) -> None:
        if self._files is None:
            return
        same = sqlite_file.identity(self._path, self._read_only) == self._files
        if same and not self._read_only and self._seen is not None:
            content = sqlite_file.content(self._path)
            if content != self._content:  # by a checkpoint, or by other bytes that were copied over ours
                with sqlite_file.fresh(self._path) as connection:
                    found = self._header_of(connection)
                same = found.identity == self._seen.identity and found.revision >= self._seen.revision
                self._content = content if same else None
        if not same:
            raise GalleryError(
                f"{self.location}: the file was moved, deleted, replaced or restored while it was open, so nothing is "
                "read from it or written to it; open the gallery again (restart the server)"
            )

    def _read_header(self) -> StoreHeader:
        self._seen = self._header_of(self._connection)
        return self._seen

    def _header_of(self, connection: sqlite3.Connection) -> StoreHeader:
        rows = connection.execute("SELECT body, checksum FROM state").fetchall()
        if len(rows) != 1 or not isinstance(rows[0][0], str) or store.digest_of(rows[0][0].encode()) != rows[0][1]:
            raise self._damaged("its header is not what was written")
        try:
            return StoreHeader.from_json(rows[0][0])
        except DataError as error:
            raise self._damaged(f"its header holds an invalid value ({error})") from None

    def _write(self, header: StoreHeader) -> None:
        body = header.to_json()
        self._connection.execute("UPDATE state SET body = ?, checksum = ?", (body, store.digest_of(body.encode())))

    def _log(self, action: str, entries: int, first: int | None = None, last: int | None = None) -> None:
        if not self._has_log():
            self._connection.execute(sqlite_file.LOG)
        values = (store.now(), action, entries, first, last)
        self._connection.execute("INSERT INTO log (time, action, entries, first, last) VALUES (?, ?, ?, ?, ?)", values)

    def _has_log(self) -> bool:
        query = "SELECT 1 FROM sqlite_master WHERE name = 'log'"
        return self._connection.execute(query).fetchone() is not None

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
        (count,) = self._connection.execute("SELECT COUNT(*) FROM entries").fetchone()
        if count != header.entries:  # before memory is reserved for them
            raise self._damaged(f"it has {count} entries and not the {header.entries} that were written")
        if indexed is None or indexed.revision < header.erased:
            self._index, indexed = VectorIndex(header.signature.width, count), None
        self._indexed, total = None, 0 if indexed is None else indexed.total  # None until everything is verified
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM entries WHERE number > ? ORDER BY number", (self._index.last,)
        )
        while page := rows.fetchmany(PAGE):
            for fields in page:
                self._verify(fields, header.signature.width)
            total = store.total_of((fields[7] for fields in page), total)
            numbers, people, _, metadata, _, vectors, _, _ = zip(*page, strict=True)
            self._index.add(numbers, people, b"".join(vectors), metadata)
        if self._index.count != header.entries or total != header.total:
            raise self._damaged(f"its {self._index.count} entries are not the {header.entries} that were written")
        self._indexed = header

    def _match(self, number: int, score: float) -> Match:
        row = self._row_of(number)
        if row is None:
            raise self._damaged(f"entry {number} is gone")
        entry = row.entry
        return Match(person=entry.person, score=score, number=number, photo=entry.photo, metadata=dict(entry.metadata))

    def _row_of(self, number: int) -> Row | None:
        fields = self._connection.execute(f"SELECT {COLUMNS} FROM entries WHERE number = ?", (number,)).fetchone()
        return None if fields is None else self._row(fields)

    def _row(self, fields: RowFields) -> Row:
        self._verify(fields, len(fields[5]) // 4)
        number, person, photo, metadata, digest, vector, crop_digest, _ = fields
        entry = Entry(person, np.frombuffer(vector, "<f4"), digest, photo, json.loads(metadata))
        return Row(number, entry, bool(crop_digest))

    def _verify(self, fields: RowFields, width: int) -> None:
        try:
            valid = store.checksum_of(fields[:7]) == fields[7] and len(fields[5]) == 4 * width
        except (TypeError, AttributeError, ValueError):  # a damaged row may hold values of other types
            valid = False
        if not valid:
            raise self._damaged(f"entry {fields[0]} is not what was written")

    def _damaged(self, what: str) -> GalleryDamaged:
        return GalleryDamaged(f"{self.location}: the gallery is damaged: {what}; restore a copy or an export of it")
