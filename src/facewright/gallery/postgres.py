"""Enrolled faces on a PostgreSQL server with pgvector, which stores the rows, verifies and searches them.

A gallery is a schema (`postgres_connection`); the header is the row of `book`, which a writer locks. A row's checksum
is made as in a file, but so that SQL can compute it: it is the first half of SHA-256; the vector's numbers are
big-endian, as `vector_send` gives them; the metadata is written as the server writes it.

The search takes candidates by pgvector in float32 and computes their scores again in float64. The exact one returns so
many of the nearest rows that the k best people are among them whatever the rounding. The index (HNSW) may miss rows; if
it ends before k people are found, the search is done exactly.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from facewright.errors import GalleryError
from facewright.gallery import postgres_connection as server
from facewright.gallery.entries import Entry, Match, ModelSignature, RowFields, StoreHeader
from facewright.gallery.postgres_connection import Connection, address_of, connect, has_gallery, translated
from facewright.gallery.store import VERSION, GalleryStore, absent, bytes_remain

COLUMNS = "number, person, photo, metadata::text, digest, substr(vector_send(vector), 5), crop_digest, checksum"
CHECKSUM = """substr(sha256(
    convert_to(concat_ws(',', number, octet_length(person), octet_length(photo), octet_length(metadata::text),
        octet_length(digest), 4 * vector_dims(vector), length(crop_digest)) || ':'
        || person || photo || metadata::text || digest, 'UTF8')
    || substr(vector_send(vector), 5) || crop_digest), 1, 16)"""
# `book` comes first here as everywhere: locking in another order could deadlock.
VERIFIED = f"""
WITH header AS MATERIALIZED (SELECT version, body, checksum FROM book)
SELECT count(*), coalesce(bit_xor(('x' || encode(checksum, 'hex'))::bit(128)), 0::bit(128))::text,
    min(number) FILTER (WHERE checksum IS DISTINCT FROM {CHECKSUM}),
    (SELECT version FROM header), (SELECT body FROM header), (SELECT checksum FROM header)
FROM entries
"""
VERIFIED_CROPS = """
SELECT min(number) FROM entries LEFT JOIN crops USING (number)
WHERE crop_digest <> '' AND substr(sha256(png), 1, 16) IS DISTINCT FROM crop_digest
"""
COLUMN_TYPES = ["int8", "text", "text", "jsonb", "text", "vector", "bytea", "bytea"]  # of the columns of `entries`
ROUNDING = 1.2e-7  # a number of a vector: twice the error of a float32 dot product of unit vectors
FEWEST, GROWTH = 64, 8  # rows requested at first, and the factor if they are too few
EF_SEARCH, MOST_EF = 400, 1_000  # candidates of the index; the most that pgvector takes
BY_INDEX = "vector <#> %(probe)b"
BY_SCAN = f"({BY_INDEX}) + 0"  # the same number, but not an order that an index provides
FILTER = "WHERE metadata @> %(where)s::jsonb"
# The inner query may read all rows and must be lean; only the nearest are converted.
NEAREST = """
SELECT {columns}, distance
FROM (SELECT *, {by_index} AS distance FROM entries {where} ORDER BY {order} LIMIT %(most)s) AS nearest
ORDER BY distance
"""

Row = tuple[Any, ...]  # of COLUMNS, and the distance


class PostgresStore(GalleryStore):
    """A store on a server, created if it is missing and a signature is given.

    Args:
        url: see `postgres_connection`; with `index=hnsw` the search is approximate, by an index made if missing.
    Raises:
        UsageError: no such address. GalleryError: no gallery, or no server. GalleryDamaged: not what was written.
    """

    header_table = "book"
    columns = COLUMNS
    among = "= ANY(?)"
    vector_type = ">f4"
    _digest = staticmethod(server.digest_of)

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
                    server.create(connection, self._address, StoreHeader(signature=signature))
            header = self._verified_header()
            if self._address.hnsw and not server.has_index(self._connection):
                with self._writing() as header:
                    server.make_index(self._connection, header.signature.width)
            if header.erasing and server.is_owner(self._connection):
                self.erase()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """As `GalleryStore.check`."""
        self._verified_header()
        with self._session():
            ((number,),) = self._run(VERIFIED_CROPS)
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
                server.check_schema(connection, self._address)
                yield header
            finally:
                self._in_transaction = False

    def _verified_header(self) -> StoreHeader:
        """The header, after the server compared all rows with it."""
        with self._session() as connection:
            server.check_schema(connection, self._address)
            ((count, total, wrong, version, body, checksum),) = connection.execute(VERIFIED).fetchall()
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
        texts = [as_json(entry.metadata) for entry in entries]
        different = list(dict.fromkeys(texts))
        query = "SELECT text::jsonb::text FROM unnest(?::text[]) WITH ORDINALITY AS given (text, at) ORDER BY at"
        written = dict(zip(different, (row[0] for row in self._run(query, (different,))), strict=True))
        return [written[text] for text in texts]

    def _insert(self, rows: Sequence[RowFields], crops: Sequence[tuple[int, bytes]]) -> None:
        fill(self._connection, rows, crops)

    def _replace_vectors(self, rows: Sequence[RowFields], width: int) -> None:
        self._run("TRUNCATE entries")
        self._run(server.set_width(width))
        fill(self._connection, rows, ())

    def _has_log(self, *, make: bool = False) -> bool:
        there = self._run("SELECT to_regclass('log') IS NULL") == [(False,)]
        if make and not there and server.is_owner(self._connection):
            self._run(server.LOG)
            there = True
        return there

    def _overwrite(self) -> None:
        """As `GalleryStore._overwrite`; `remains` then names what is out of this role's reach."""
        with self._session() as connection:
            try:
                server.rewrite(connection)
            except psycopg.errors.LockNotAvailable:
                raise bytes_remain(self.location, "the tables") from None
            self.remains = server.empty_log(connection)

    def _nearest(
        self, header: StoreHeader, vectors: NDArray[np.float32], k: int, where: Mapping[str, str]
    ) -> list[list[Match]]:
        find = by_index if self._address.hnsw else exact
        results = []
        for probe in vectors:
            rows = find(self._connection, probe, k, where)
            for row in rows:
                self._verified(row[:8])
            results.append(best(rows, probe, k))
        return results


def gallery_exists(url: str) -> bool:
    """Tell if there is such a gallery. Raises: as `PostgresStore`."""
    address = address_of(url)
    with contextlib.closing(connect(address)) as connection:
        return has_gallery(connection, address)


def as_json(metadata: Mapping[str, str]) -> str:
    """Metadata for the server to read."""
    return json.dumps(dict(metadata), ensure_ascii=False)


def fill(connection: Connection, rows: Sequence[RowFields], crops: Sequence[tuple[int, bytes]]) -> None:
    """Insert rows, and crops by the numbers of their rows."""
    with connection.cursor() as cursor:
        with cursor.copy("COPY entries FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(COLUMN_TYPES)
            for number, person, photo, metadata, digest, vector, crop_digest, checksum in rows:
                values = np.frombuffer(vector, ">f4").astype(np.float32)
                tags = json.loads(metadata)
                copy.write_row((number, person, photo, tags, digest, values, crop_digest, checksum))
        with cursor.copy("COPY crops FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "bytea"])
            for crop in crops:
                copy.write_row(crop)


def exact(connection: Connection, probe: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[Row]:
    """Rows that certainly include the best one of each of the k nearest people."""
    most = max(FEWEST, 4 * k)
    while True:
        rows = _rows(connection, BY_SCAN, probe, where, most)
        people = list(dict.fromkeys(row[1] for row in rows))
        if len(rows) < most:
            return rows
        if len(people) >= k:
            kth = next(row[8] for row in rows if row[1] == people[k - 1])
            if rows[-1][8] > kth + ROUNDING * len(probe):
                return rows
        most *= GROWTH


def by_index(connection: Connection, probe: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[Row]:
    """Rows of k near people by the index; as `exact` if it finds fewer."""
    most = max(FEWEST, 4 * k)
    while True:
        with connection.transaction():
            connection.execute(
                "SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('enable_seqscan', 'off', "
                "true), set_config('hnsw.ef_search', %s, true)",
                (str(min(MOST_EF, max(EF_SEARCH, most))),),
            )
            rows = _rows(connection, BY_INDEX, probe, where, most)
        if len({row[1] for row in rows}) >= k:
            return rows
        if len(rows) < most:
            return exact(connection, probe, k, where)
        most *= GROWTH


def best(rows: Sequence[Row], probe: NDArray[np.float32], k: int) -> list[Match]:
    """The best entry of each of the k best people among rows, by score, name and number."""
    if not rows:
        return []
    vectors = np.frombuffer(b"".join(row[5] for row in rows), ">f4").reshape(len(rows), -1).astype(np.float64)
    scores = np.clip((vectors * probe).sum(axis=1), -1.0, 1.0)
    matches: dict[str, Match] = {}
    for at in np.lexsort(([row[0] for row in rows], -scores)):
        number, person, photo, metadata = rows[at][:4]
        if person not in matches:
            tags = json.loads(metadata)
            matches[person] = Match(person=person, score=float(scores[at]), number=number, photo=photo, metadata=tags)
    return sorted(matches.values(), key=lambda match: (-match.score, match.person))[:k]


def _rows(
    connection: Connection, order: str, probe: NDArray[np.float32], where: Mapping[str, str], most: int
) -> list[Row]:
    values = {"probe": probe, "where": as_json(where), "most": most}
    with connection.cursor(binary=True) as cursor:
        query = NEAREST.format(columns=COLUMNS, by_index=BY_INDEX, where=FILTER if where else "", order=order)
        return cursor.execute(query, values).fetchall()
