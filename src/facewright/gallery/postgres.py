"""Enrolled faces on a PostgreSQL server with pgvector, which stores the rows and searches them.

A gallery is a schema with its tables (`postgres_tables`); the header is the row of `book`. When a gallery is opened the
server reads all rows and compares them with their checksums; no vector is transferred for it.

A writer locks the row of `book`, so that writers follow each other. A reader's one statement sees one snapshot.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from facewright.errors import GalleryError
from facewright.gallery import postgres_connection
from facewright.gallery import postgres_tables as tables
from facewright.gallery.addresses import address_of
from facewright.gallery.entries import Entry, Match, ModelSignature, RowFields, StoreHeader
from facewright.gallery.postgres_connection import Connection, connect, has_gallery, translated
from facewright.gallery.store import VERSION, GalleryStore, absent, bytes_remain


class PostgresStore(GalleryStore):
    """A store on a server, created if it is missing and a signature is given.

    Args:
        url: see `addresses`; with `index=hnsw` the search is approximate, by an index that is created if missing.
            signature: of a new gallery; an existing one keeps its own.
    Raises:
        UsageError: no such address. GalleryError: no such gallery, or no server. GalleryDamaged: it is not what was
        written.
    """

    header_table = "book"
    columns = tables.COLUMNS
    among = "= ANY(?)"
    vector_type = ">f4"
    _digest = staticmethod(tables.digest_of)

    def __init__(self, url: str, signature: ModelSignature | None = None) -> None:
        self._address = address_of(url)
        self.location = self._address.shown
        self._lock = threading.RLock()
        self._closed = self._in_transaction = False
        self._connection = connect(self._address, make=signature is not None)
        try:
            if not has_gallery(self._connection, self._address):
                if signature is None:
                    raise absent(self.location)
                with self._session() as connection:
                    tables.create(connection, self._address, StoreHeader(signature=signature))
            header = self._verified_header()
            if self._address.hnsw and not tables.has_index(self._connection):
                with self._writing() as header:
                    tables.make_index(self._connection, header.signature.width)
            if header.erasing and tables.is_owner(self._connection):
                self.erase()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """As `GalleryStore.check`."""
        self._verified_header()
        with self._session():
            ((number,),) = self._run(tables.VERIFIED_CROPS)
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
                    raise GalleryError(f"{self.location}: was closed; open it again")
                try:
                    self._connection.execute("SELECT 1")
                except psycopg.OperationalError:
                    self._connection.close()
                    self._connection = connect(self._address)
            yield self._connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[StoreHeader]:
        with self._session():
            yield self._read_header()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[StoreHeader]:
        with self._session() as connection, connection.transaction():
            self._in_transaction = True
            try:
                header = self._read_header("FOR UPDATE")
                tables.check_schema(connection, self._address)
                yield header
            finally:
                self._in_transaction = False

    def _verified_header(self) -> StoreHeader:
        """The header, after the server compared all rows with it."""
        with self._session() as connection:
            tables.check_schema(connection, self._address)
            ((count, total, wrong, version, body, checksum),) = connection.execute(tables.VERIFIED).fetchall()
        if version is not None and version != VERSION:
            raise GalleryError(f"{self.location}: is a gallery of version {version}, expected {VERSION}")
        header = self._header_of([(body, checksum)])
        if wrong is not None:
            raise self._damaged(f"entry {wrong} is not what was written")
        if count != header.entries or int(total, 2) != header.total:
            raise self._damaged(f"its {count} entries are not the {header.entries} that were written")
        return header

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._connection.cursor(binary=True) as cursor:
            cursor.execute(statement.replace("?", "%s"), values or None)
            return cursor.fetchall() if cursor.description else []

    def _run_many(self, statement: str, values: Sequence[tuple[object, ...]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(statement.replace("?", "%s"), values)

    def _enrolled(self, entries: Sequence[Entry]) -> set[tuple[str, str]]:
        rows = self._run(
            "SELECT person, digest FROM unnest(?::text[], ?::text[]) AS given (person, digest) "
            "JOIN entries USING (person, digest)",
            ([entry.person for entry in entries], [entry.digest for entry in entries]),
        )
        return {(person, digest) for person, digest in rows}

    def _metadata(self, entries: Sequence[Entry]) -> list[str]:
        texts = [tables.as_json(entry.metadata) for entry in entries]
        different = list(dict.fromkeys(texts))
        query = "SELECT text::jsonb::text FROM unnest(?::text[]) WITH ORDINALITY AS given (text, at) ORDER BY at"
        written = dict(zip(different, (row[0] for row in self._run(query, (different,))), strict=True))
        return [written[text] for text in texts]

    def _insert(self, rows: Sequence[RowFields], crops: Sequence[tuple[int, bytes]]) -> None:
        tables.fill(self._connection, rows, crops)

    def _replace_vectors(self, rows: Sequence[RowFields], width: int) -> None:
        self._run("TRUNCATE entries")
        self._run(tables.set_width(width))
        tables.fill(self._connection, rows, ())

    def _has_log(self, *, make: bool = False) -> bool:
        there = self._run("SELECT to_regclass('log') IS NULL") == [(False,)]
        if make and not there and tables.is_owner(self._connection):
            self._run(tables.LOG)
            there = True
        return there

    def _overwrite(self) -> None:
        """As `GalleryStore._overwrite`; `remains` then names what is out of this role's reach."""
        with self._session() as connection:
            try:
                postgres_connection.rewrite(connection)
            except psycopg.errors.LockNotAvailable:
                raise bytes_remain(self.location, "the tables") from None
            self.remains = postgres_connection.empty_log(connection)

    def _nearest(
        self, header: StoreHeader, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]
    ) -> list[list[Match]]:
        find = tables.by_index if self._address.hnsw else tables.exact
        results = []
        for probe in vectors:
            rows = find(self._connection, probe, k, where)
            for row in rows:
                self._verified(row[:8])
            results.append(tables.best(rows, probe, k))
        return results


def gallery_exists(url: str) -> bool:
    """Tell if there is such a gallery. Raises: as `PostgresStore`."""
    address = address_of(url)
    with contextlib.closing(connect(address)) as connection:
        return has_gallery(connection, address)
