"""Enrolled faces on a PostgreSQL server with pgvector, which stores the rows and searches them.

A gallery is a schema with three tables (`postgres_tables`). Each row has a checksum, and the row of `book` (the header)
holds their sum: a row that was changed, lost or returned is noticed when the gallery is opened (the server reads all
rows for it, no vector is transferred), and each row again when it is read. Crops are verified when they are read.

A writer locks the row of `book`, so that writers follow each other. A reader's one statement sees one snapshot.
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

from facewright.errors import DataError, GalleryDamaged, GalleryError, UsageError
from facewright.gallery import postgres_erasing, postgres_search, store
from facewright.gallery import postgres_tables as tables
from facewright.gallery.addresses import address_of
from facewright.gallery.postgres_connection import Connection, connect, has_gallery, translated
from facewright.gallery.store import Entry, LogRecord, Match, ModelSignature, Row, RowFields, StoreHeader

PAGE = 4_096  # rows read at a time


class PostgresStore:
    """A `GalleryStore` on a server, created if it is missing and a signature is given.

    Args:
        url: see `addresses`; with `index=hnsw` the search is approximate, by an index that is created if missing.
            signature: of a new gallery; an existing one keeps its own.
    Raises:
        UsageError: no such address. GalleryError: no such gallery, or no server. GalleryDamaged: it is not what was
        written.
    """

    def __init__(self, url: str, signature: ModelSignature | None = None) -> None:
        self._address = address_of(url)
        self.location, self.remains = self._address.shown, ""
        self._lock = threading.RLock()
        self._closed = self._in_transaction = False
        self._connection = connect(self._address, make=signature is not None)
        try:
            if not has_gallery(self._connection, self._address):
                if signature is None:
                    raise GalleryError(f"{self.location}: there is no such gallery; enroll photos to create it")
                with self._session() as connection:
                    tables.create(connection, self._address, StoreHeader(signature=signature))
            header = self._verified()
            if self._address.hnsw and not tables.has_index(self._connection):
                with self._writing() as header:
                    tables.make_index(self._connection, header.signature.width)
            if header.erasing and tables.is_owner(self._connection):
                self.erase()
        except BaseException:
            self.close()
            raise

    def header(self) -> StoreHeader:
        """As `GalleryStore.header`."""
        with self._session():
            return self._read_header()

    def add(self, entries: Sequence[Entry]) -> list[int | None]:
        """As `GalleryStore.add`."""
        with self._writing() as header:
            for entry in entries:
                store.check_entry(entry, header.signature.width)
            enrolled = tables.enrolled_keys(self._connection, entries)
            texts = tables.normalized_metadata(self._connection, entries)
            numbers: list[int | None] = []
            rows: list[RowFields] = []
            crops: list[tuple[int, bytes]] = []
            for entry, text in zip(entries, texts, strict=True):
                if (entry.person, entry.digest) in enrolled:
                    numbers.append(None)
                    continue
                enrolled.add((entry.person, entry.digest))
                numbers.append(number := header.next_number + len(rows))
                rows.append(
                    tables.row_of(number, entry, text, b"" if entry.crop is None else tables.digest_of(entry.crop))
                )
                if entry.crop is not None:
                    crops.append((number, entry.crop))
            if rows:
                tables.fill(self._connection, rows, crops)
                self._write(
                    header.updated(
                        only_added=True,
                        entries=header.entries + len(rows),
                        next_number=header.next_number + len(rows),
                        total=store.total_of((row[7] for row in rows), header.total),
                    )
                )
                last = header.next_number + len(rows) - 1
                tables.write_log(self._connection, "enroll", len(rows), header.next_number, last)
        return numbers

    def rows(self, people: Sequence[str] = ()) -> Iterator[Row]:
        """As `GalleryStore.rows`."""
        last = 0
        condition, values = ("AND person = ANY(%s::text[])", (list(people),)) if people else ("", ())
        while True:
            page = self._select(f"WHERE number > %s {condition} ORDER BY number LIMIT {PAGE}", (last, *values))
            yield from (self._row(fields) for fields in page)
            if len(page) < PAGE:
                return
            last = page[-1][0]

    def crop(self, number: int) -> bytes | None:
        """As `GalleryStore.crop`."""
        rows = self._select("LEFT JOIN crops USING (number) WHERE number = %s", (number,), ", png")
        if not rows or not self._row(rows[0][:8]).has_crop:
            return None
        png = rows[0][8]
        if png is None or tables.digest_of(png) != rows[0][6]:
            raise self._damaged(f"the crop of entry {number} is not what was stored")
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
        results = []
        with self._session() as connection:
            width = self._read_header().signature.width
            if vectors.ndim != 2 or vectors.shape[1] != width or k < 1:
                raise UsageError(f"expected probes (Q, {width}) and at least one person, got {vectors.shape} and {k}")
            for probe in np.ascontiguousarray(vectors, np.float32):
                rows = find(connection, probe, k, where)
                for row in rows:
                    self._row(row[:8])
                results.append(postgres_search.best(rows, probe, k))
        return results

    def delete(self, people: Sequence[str] = (), numbers: Sequence[int] = (), *, action: str = "delete") -> int:
        """As `GalleryStore.delete`. All of them at once: each deletion rewrites the tables."""
        with self._writing() as header:
            deleted = self._connection.execute(
                "DELETE FROM entries WHERE person = ANY(%s::text[]) OR number = ANY(%s::bigint[]) "
                "RETURNING number, checksum",
                (list(people), list(numbers)),
            ).fetchall()
            if deleted:
                self._connection.execute("DELETE FROM crops WHERE number = ANY(%s)", ([row[0] for row in deleted],))
                left, total = header.entries - len(deleted), store.total_of((row[1] for row in deleted), header.total)
                self._write(header.updated(only_added=False, entries=left, total=total, erasing=True))
                tables.write_log(self._connection, action, len(deleted), None, None)
        self.erase()
        return len(deleted)

    def rename(self, people: Sequence[str], name: str) -> int:
        """As `GalleryStore.rename`."""
        with self._writing() as header:
            rows = self._select("WHERE person = ANY(%s::text[]) AND person <> %s ORDER BY number", (list(people), name))
            taken = {row[4] for row in self._select("WHERE person = %s", (name,))}
            total, duplicates, renamed = store.total_of((row[7] for row in rows), header.total), [], []
            for number, _, *content, old in rows:
                self._row((number, _, *content, old))
                if content[2] in taken:
                    duplicates.append(number)
                    continue
                taken.add(content[2])
                checksum = tables.checksum_of((number, name, *content))
                total = store.total_of([checksum], total)
                renamed.append((name, checksum, number))
            with self._connection.cursor() as cursor:
                cursor.executemany("UPDATE entries SET person = %s, checksum = %s WHERE number = %s", renamed)
            for table in ("entries", "crops"):
                self._connection.execute(f"DELETE FROM {table} WHERE number = ANY(%s)", (duplicates,))
            if rows:
                left = header.entries - len(duplicates)
                self._write(header.updated(only_added=False, entries=left, total=total, erasing=True))
                tables.write_log(self._connection, "rename", len(rows), None, None)
        self.erase()
        return len(rows)

    def log(self) -> list[LogRecord]:
        """As `GalleryStore.log`."""
        with self._session() as connection:
            if not tables.has_log(connection):
                return []
            rows = connection.execute("SELECT time, action, entries, first, last FROM log ORDER BY id").fetchall()
        return [LogRecord(**dict(zip(LogRecord.model_fields, row, strict=True))) for row in rows]

    def erase(self) -> None:
        """As `GalleryStore.erase`; `remains` then names what is out of this role's reach."""
        with self._session() as connection:
            header = self._read_header()
            if not header.erasing:
                return
            try:
                postgres_erasing.rewrite(connection)
            except psycopg.errors.LockNotAvailable:
                raise GalleryError(
                    f"{self.location}: deleted, but another process keeps reading, so that bytes of it remain in the "
                    "tables; end that process, then delete again"
                ) from None
            self.remains = postgres_erasing.empty_log(connection)
        with self._writing() as now:
            if now.erased == header.erased:  # else another process has deleted since, and will erase
                self._write(now.updated(only_added=True, erasing=False))

    def reembed(self, signature: ModelSignature, vectors: Mapping[int, NDArray[np.float32]]) -> None:
        """As `GalleryStore.reembed`."""
        with self._writing() as header:
            old_rows = self._select("ORDER BY number")
            if {fields[0] for fields in old_rows} != set(vectors):
                raise GalleryError(f"{self.location}: the gallery changed meanwhile, nothing was migrated; try again")
            rows = []
            for old in old_rows:
                entry = store.check_entry(replace(self._row(old).entry, vector=vectors[old[0]]), signature.width)
                rows.append(tables.row_of(old[0], entry, old[3], old[6]))
            self._connection.execute("TRUNCATE entries")
            self._connection.execute(tables.set_width(signature.width))
            tables.fill(self._connection, rows, ())
            total = store.total_of(row[7] for row in rows)
            changes = {"signature": signature, "threshold": None, "total": total, "erasing": True}
            self._write(header.updated(only_added=False, **changes))
            tables.write_log(self._connection, "reembed", header.entries, None, None)
        self.erase()

    def set_threshold(self, facts: Mapping[str, Any] | None) -> None:
        """As `GalleryStore.set_threshold`."""
        with self._writing() as header:
            self._write(header.updated(only_added=True, threshold=facts))
            tables.write_log(self._connection, "calibrate", header.entries, None, None)

    def check(self) -> None:
        """As `GalleryStore.check`."""
        self._verified()
        with self._session() as connection:
            ((number,),) = connection.execute(tables.VERIFIED_CROPS).fetchall()
        if number is not None:
            raise self._damaged(f"the crop of entry {number} is not what was stored")

    def close(self) -> None:
        """As `GalleryStore.close`."""
        with self._lock:
            self._closed = True
            self._connection.close()

    @contextlib.contextmanager
    def _session(self) -> Iterator[Connection]:
        """Exclusive use of the session; reconnected if the server has ended it."""
        with self._lock, translated(self._address):
            if not self._in_transaction:
                if self._closed:
                    raise GalleryError(f"{self.location}: was closed")
                try:
                    self._connection.execute("SELECT 1")
                except psycopg.OperationalError:
                    self._connection.close()
                    self._connection = connect(self._address)
            yield self._connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[StoreHeader]:
        """Exclusive access; committed when the block succeeds, else rolled back."""
        with self._session() as connection, connection.transaction():
            self._in_transaction = True
            try:
                header = self._read_header("FOR UPDATE")
                tables.check_schema(connection, self._address)
                yield header
            finally:
                self._in_transaction = False

    def _verified(self) -> StoreHeader:
        """The header, after the server compared all rows with it."""
        with self._session() as connection:
            tables.check_schema(connection, self._address)
            ((count, total, wrong, version, body, checksum),) = connection.execute(tables.VERIFIED).fetchall()
        if version is not None and version != tables.VERSION:
            raise GalleryError(f"{self.location}: is a gallery of version {version}, expected {tables.VERSION}")
        header = self._valid(body, checksum)
        if wrong is not None:
            raise self._damaged(f"entry {wrong} is not what was written")
        if count != header.entries or int(total, 2) != header.total:
            raise self._damaged(f"its {count} entries are not the {header.entries} that were written")
        return header

    def _read_header(self, lock: str = "") -> StoreHeader:
        rows = self._connection.execute(f"SELECT body, checksum FROM book {lock}").fetchall()
        return self._valid(*rows[0]) if rows else self._valid(None, None)

    def _valid(self, body: str | None, checksum: bytes | None) -> StoreHeader:
        if body is None or tables.digest_of(body.encode()) != checksum:
            raise self._damaged("its header is not what was written")
        try:
            return StoreHeader.from_json(body)
        except DataError as error:
            raise self._damaged(f"its header holds an invalid value ({error})") from None

    def _write(self, header: StoreHeader) -> None:
        body = header.to_json()
        self._connection.execute("UPDATE book SET body = %s, checksum = %s", (body, tables.digest_of(body.encode())))

    def _select(self, rest: str, values: Sequence[object] = (), more: str = "") -> list[tuple[Any, ...]]:
        with self._session() as connection, connection.cursor(binary=True) as cursor:
            return cursor.execute(f"SELECT {tables.COLUMNS}{more} FROM entries {rest}", values).fetchall()

    def _row(self, fields: Sequence[Any]) -> Row:
        number, person, photo, metadata, digest, vector, crop_digest, checksum = fields
        if tables.checksum_of((number, person, photo, metadata, digest, vector, crop_digest)) != checksum:
            raise self._damaged(f"entry {number} is not what was written")
        values = np.frombuffer(vector, ">f4").astype(np.float32)
        return Row(number, Entry(person, values, digest, photo, json.loads(metadata)), bool(crop_digest))

    def _damaged(self, what: str) -> GalleryDamaged:
        return GalleryDamaged(f"{self.location}: the gallery is damaged: {what}; restore a backup, or an export of it")


def gallery_exists(url: str) -> bool:
    """Tell if there is such a gallery. Raises: as `PostgresStore`."""
    address = address_of(url)
    with contextlib.closing(connect(address)) as connection:
        return has_gallery(connection, address)
