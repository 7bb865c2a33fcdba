"""Enrolled faces on a PostgreSQL server with pgvector: the rows stay there, and so does the search.

A gallery is a schema with three tables (`postgres_rows`). Each row is sealed, and the book says what all rows add up
to: a row that was changed, lost or brought back behind our back is noticed when the gallery is opened (the server goes
over all rows for it, no vector travels), and each row once more when it is read. Crops are verified when they are read.

Who writes holds the book's row, so that writers come one after another. Who reads says one statement, which sees one
moment of the gallery.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from facewright.errors import GalleryDamaged, GalleryError, UsageError
from facewright.gallery import postgres_erasing, postgres_search
from facewright.gallery import postgres_tables as tables
from facewright.gallery.postgres_address import address_of
from facewright.gallery.postgres_connection import Connection, connect, has_gallery, translated
from facewright.gallery.postgres_rows import (
    COLUMNS,
    VERIFIED,
    VERIFIED_CROPS,
    VERSION,
    digest_of,
    seal,
    sealed,
    shape,
)
from facewright.gallery.sealed_rows import Book, Fields, as_number
from facewright.gallery.store import Entry, Match, Pin, Row, State, checked

PAGE = 4_096  # rows read at a time


class PostgresStore:
    """A `GalleryStore` on a server, made at once where there is none and a pin is given.

    Args:
        url: see `postgres_address`; with `index=hnsw` the search is approximate, by an index that is made where it is
            missing. pin: of a new gallery; one that is there keeps its own.
    Raises:
        UsageError: no such address. GalleryError: no such gallery, or no server. GalleryDamaged: it is not what was
        written.
    """

    def __init__(self, url: str, pin: Pin | None = None) -> None:
        self._address = address_of(url)
        self.where, self.remains = self._address.shown, ""
        self._lock = threading.RLock()
        self._closed = self._within = False  # within a transaction
        self._connection = connect(self._address, make=pin is not None)
        try:
            if not has_gallery(self._connection, self._address):
                if pin is None:
                    raise GalleryError(f"{self.where}: there is no such gallery; to make it, enrol somebody")
                with self._session() as connection:
                    tables.create(connection, self._address, Book(State(pin, 0, 0, 0, None), 1, 0, False))
            book = self._verified()
            if self._address.hnsw and not tables.has_index(self._connection):
                with self._writing() as book:
                    tables.make_index(self._connection, book.state.pin.width)
            if book.erasing and tables.is_ours(self._connection):
                self.erase()
        except BaseException:
            self.close()
            raise

    def state(self) -> State:
        """As `GalleryStore.state`."""
        with self._session():
            return self._read_book().state

    def add(self, entries: Sequence[Entry]) -> list[int | None]:
        """As `GalleryStore.add`."""
        with self._writing() as book:
            for entry in entries:
                checked(entry, book.state.pin.width)
            present = tables.present(self._connection, entries)
            texts = tables.as_written(self._connection, entries)
            numbers: list[int | None] = []
            rows: list[Fields] = []
            crops: list[tuple[int, bytes]] = []
            for entry, text in zip(entries, texts, strict=True):
                new = (entry.person, entry.digest) not in present
                numbers.append(book.next + len(rows) if new else None)
                if new:
                    present.add((entry.person, entry.digest))
                    crop = b"" if entry.crop is None else digest_of(entry.crop)
                    if entry.crop is not None:
                        crops.append((book.next + len(rows), entry.crop))
                    rows.append(sealed(book.next + len(rows), entry, text, crop))
            if rows:
                tables.fill(self._connection, rows, crops)
                self._write(_with(book, rows))
        return numbers

    def rows(self, people: Sequence[str] = ()) -> Iterator[Row]:
        """As `GalleryStore.rows`."""
        last = 0
        whose, given = ("AND person = ANY(%s::text[])", (list(people),)) if people else ("", ())
        while True:
            page = self._select(f"WHERE number > %s {whose} ORDER BY number LIMIT {PAGE}", (last, *given))
            yield from (self._row(fields) for fields in page)
            if len(page) < PAGE:
                return
            last = page[-1][0]

    def crop(self, number: int) -> bytes | None:
        """As `GalleryStore.crop`."""
        found = self._select("LEFT JOIN crops USING (number) WHERE number = %s", (number,), ", png")
        if not found or not self._row(found[0][:8]).has_crop:
            return None
        png = found[0][8]
        if png is None or digest_of(png) != found[0][6]:
            raise self._damaged(f"the crop of entry {number} is not what was kept")
        return bytes(png)

    def people(self) -> dict[str, int]:
        """As `GalleryStore.people`."""
        with self._session() as connection:
            return dict(
                connection.execute("SELECT person, count(*) FROM entries GROUP BY person ORDER BY person").fetchall()
            )

    def nearest(self, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[list[Match]]:
        """As `GalleryStore.nearest`."""
        find = postgres_search.by_index if self._address.hnsw else postgres_search.exact
        found = []
        with self._session() as connection:
            width = self._read_book().state.pin.width
            if vectors.ndim != 2 or vectors.shape[1] != width or k < 1:
                raise UsageError(f"expected probes (Q, {width}) and at least one person, got {vectors.shape} and {k}")
            for probe in np.ascontiguousarray(vectors, np.float32):
                rows = find(connection, probe, k, where)
                for row in rows:
                    self._row(row[:8])
                found.append(postgres_search.best(rows, probe, k))
        return found

    def delete(self, people: Sequence[str] = (), numbers: Sequence[int] = ()) -> int:
        """As `GalleryStore.delete`. All of them at once: each deletion rewrites the tables."""
        with self._writing() as book:
            gone = self._connection.execute(
                "DELETE FROM entries WHERE person = ANY(%s::text[]) OR number = ANY(%s::bigint[]) "
                "RETURNING number, checksum",
                (list(people), list(numbers)),
            ).fetchall()
            if gone:
                self._connection.execute("DELETE FROM crops WHERE number = ANY(%s)", ([row[0] for row in gone],))
                total = book.total
                for _, checksum in gone:
                    total ^= int.from_bytes(checksum, "big")
                left = book.state.entries - len(gone)
                self._write(replace(book, total=total, erasing=True).changed(only_added=False, entries=left))
        self.erase()
        return len(gone)

    def erase(self) -> None:
        """As `GalleryStore.erase`; `remains` says afterwards what is out of this role's reach."""
        with self._session() as connection:
            book = self._read_book()
            if not book.erasing:
                return
            try:
                postgres_erasing.rewrite(connection)
            except psycopg.errors.LockNotAvailable:
                raise GalleryError(
                    f"{self.where}: deleted, but another process keeps reading, so that bytes of it remain in the "
                    "tables; end that process, then delete again"
                ) from None
            self.remains = postgres_erasing.empty_log(connection)
        with self._writing() as now:
            if now.state.erased == book.state.erased:  # else somebody else has deleted since, and will come here
                self._write(replace(now, erasing=False).changed(only_added=True))

    def reembed(self, pin: Pin, vectors: Mapping[int, NDArray[np.float32]]) -> None:
        """As `GalleryStore.reembed`."""
        with self._writing() as book:
            held = self._select("ORDER BY number")
            if {fields[0] for fields in held} != set(vectors):
                raise GalleryError(f"{self.where}: the gallery changed meanwhile, nothing was migrated; do it again")
            rows = []
            for old in held:
                entry = checked(replace(self._row(old).entry, vector=vectors[old[0]]), pin.width)
                rows.append(sealed(old[0], entry, old[3], old[6]))
            self._connection.execute("TRUNCATE entries")
            self._connection.execute(shape(pin.width))
            tables.fill(self._connection, rows, ())
            erasing = replace(book, total=_total(rows), erasing=True)
            self._write(erasing.changed(only_added=False, pin=pin, threshold=None))
        self.erase()

    def keep_threshold(self, facts: Mapping[str, Any] | None) -> None:
        """As `GalleryStore.keep_threshold`."""
        with self._writing() as book:
            self._write(book.changed(only_added=True, threshold=facts))

    def check(self) -> None:
        """As `GalleryStore.check`."""
        self._verified()
        with self._session() as connection:
            ((number,),) = connection.execute(VERIFIED_CROPS).fetchall()
        if number is not None:
            raise self._damaged(f"the crop of entry {number} is not what was kept")

    def close(self) -> None:
        """As `GalleryStore.close`."""
        with self._lock:
            self._closed = True
            self._connection.close()

    @contextlib.contextmanager
    def _session(self) -> Iterator[Connection]:
        """The session to ourselves; begun anew where the server has ended it."""
        with self._lock, translated(self._address):
            if not self._within:
                if self._closed:
                    raise GalleryError(f"{self.where}: was closed")
                try:
                    self._connection.execute("SELECT 1")
                except psycopg.OperationalError:
                    self._connection.close()
                    self._connection = connect(self._address)
            yield self._connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Book]:
        """The gallery to ourselves; kept when the block ends well, else nothing has happened."""
        with self._session() as connection, connection.transaction():
            self._within = True
            try:
                yield self._read_book("FOR UPDATE")
            finally:
                self._within = False

    def _verified(self) -> Book:
        """The book, all rows having been compared with it by the server."""
        with self._session() as connection:
            ((count, total, wrong, version, body, checksum),) = connection.execute(VERIFIED).fetchall()
        if version is not None and version != VERSION:
            raise GalleryError(f"{self.where}: is a gallery of version {version}, expected {VERSION}")
        book = self._sound(body, checksum)
        if wrong is not None:
            raise self._damaged(f"entry {wrong} is not what was written")
        if count != book.state.entries or int(total, 2) != book.total:
            raise self._damaged(f"its {count} entries are not the {book.state.entries} that were written")
        return book

    def _read_book(self, lock: str = "") -> Book:
        found = self._connection.execute(f"SELECT body, checksum FROM book {lock}").fetchall()
        return self._sound(*found[0]) if found else self._sound(None, None)

    def _sound(self, body: str | None, checksum: bytes | None) -> Book:
        if body is None or digest_of(body.encode()) != checksum:
            raise self._damaged("its row of totals is not what was written")
        return Book.from_json(body)

    def _write(self, book: Book) -> None:
        body = book.to_json()
        self._connection.execute("UPDATE book SET body = %s, checksum = %s", (body, digest_of(body.encode())))

    def _select(self, rest: str, given: Sequence[object] = (), more: str = "") -> list[tuple[Any, ...]]:
        with self._session() as connection, connection.cursor(binary=True) as cursor:
            return cursor.execute(f"SELECT {COLUMNS}{more} FROM entries {rest}", given).fetchall()

    def _row(self, fields: Sequence[Any]) -> Row:
        number, person, photo, metadata, digest, vector, crop_digest, checksum = fields
        if seal((number, person, photo, metadata, digest, vector, crop_digest)) != checksum:
            raise self._damaged(f"entry {number} is not what was written")
        values = np.frombuffer(vector, ">f4").astype(np.float32)
        return Row(number, Entry(person, values, digest, photo, json.loads(metadata)), bool(crop_digest))

    def _damaged(self, what: str) -> GalleryDamaged:
        return GalleryDamaged(
            f"{self.where}: the gallery is damaged: {what}; restore a backup, or take an export of it"
        )


def exists_there(url: str) -> bool:
    """Whether there is such a gallery. Raises: as `PostgresStore`."""
    address = address_of(url)
    with contextlib.closing(connect(address)) as connection:
        return has_gallery(connection, address)


def _with(book: Book, rows: Sequence[Fields]) -> Book:
    """The book with rows added."""
    added = replace(book, next=book.next + len(rows), total=book.total ^ _total(rows))
    return added.changed(only_added=True, entries=book.state.entries + len(rows))


def _total(rows: Sequence[Fields]) -> int:
    total = 0
    for row in rows:
        total ^= as_number(row)
    return total
