"""The tables of a gallery on PostgreSQL: their checksums, which the server can verify, and how they are searched.

A row's checksum is made as in a file, with three differences, so that SQL can compute it: it is the first half of
SHA-256; the vector's numbers are big-endian, as `vector_send` gives them; the metadata is written as the server writes
it. The index by person is a hash: it holds no names. Columns with personal data have no statistics: these are copies.

The search takes candidates by pgvector in float32 and computes their scores again in float64. The exact one returns so
many of the nearest rows that the k best people are among them whatever the rounding; the answer is that of a gallery in
a file. The index (HNSW) may miss rows; if it ends before k people are found, the search is done exactly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.errors import GalleryError, UsageError
from facewright.gallery.addresses import Address
from facewright.gallery.entries import Match, RowFields, StoreHeader
from facewright.gallery.postgres_connection import Connection, has_gallery
from facewright.gallery.store import VERSION, foreign_schema

INLINE = 1_400  # D up to which a vector fits in its row's page (8 KB); a wider one is stored apart: slower
INDEXABLE = 2_000  # D up to which pgvector has an index
INDEX = "entries_by_likeness"
TABLES = """
CREATE TABLE book (
    one integer PRIMARY KEY CHECK (one = 1), version integer NOT NULL, body text NOT NULL, checksum bytea NOT NULL
);
CREATE TABLE entries (
    number bigint PRIMARY KEY, person text COLLATE "C" NOT NULL, photo text NOT NULL, metadata jsonb NOT NULL,
    digest text NOT NULL, vector vector NOT NULL, crop_digest bytea NOT NULL, checksum bytea NOT NULL
);
CREATE INDEX entries_by_person ON entries USING hash (person);
CREATE TABLE crops (number bigint PRIMARY KEY, png bytea NOT NULL);
ALTER TABLE crops ALTER png SET STORAGE EXTERNAL;
ALTER TABLE entries ALTER person SET STATISTICS 0, ALTER photo SET STATISTICS 0, ALTER metadata SET STATISTICS 0,
    ALTER digest SET STATISTICS 0, ALTER vector SET STATISTICS 0, ALTER crop_digest SET STATISTICS 0,
    ALTER checksum SET STATISTICS 0;
ALTER TABLE crops ALTER png SET STATISTICS 0;
ALTER TABLE book ALTER body SET STATISTICS 0, ALTER checksum SET STATISTICS 0;
"""
LOG = """
CREATE TABLE log (
    id bigint PRIMARY KEY, time text NOT NULL, action text NOT NULL, entries bigint NOT NULL, first bigint, last bigint
)"""
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
OBJECTS = """
SELECT relkind::text, relname::text FROM pg_class WHERE relnamespace = %(schema)s::regnamespace
UNION ALL SELECT 'trigger', tgname::text FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
    WHERE relnamespace = %(schema)s::regnamespace
UNION ALL SELECT 'rule', rulename::text FROM pg_rewrite JOIN pg_class ON pg_class.oid = ev_class
    WHERE relnamespace = %(schema)s::regnamespace
UNION ALL SELECT 'policy', polname::text FROM pg_policy JOIN pg_class ON pg_class.oid = polrelid
    WHERE relnamespace = %(schema)s::regnamespace
UNION ALL SELECT 'function', proname::text FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
UNION ALL SELECT 'column ' || relname, attname || ' ' || format_type(atttypid, NULL) ||
    CASE WHEN atthasdef THEN ' default' ELSE '' END || CASE WHEN attgenerated <> '' THEN ' generated' ELSE '' END
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = %(schema)s::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
"""  # kind and name of everything in the schema
EXPECTED = frozenset(
    [
        *(("r", name) for name in ("book", "entries", "crops")),
        *(("i", name) for name in ("book_pkey", "entries_pkey", "entries_by_person", "crops_pkey")),
        *(("column book", name) for name in ("one integer", "version integer", "body text", "checksum bytea")),
        *(("column crops", name) for name in ("number bigint", "png bytea")),
        *(("column entries", name) for name in ("number bigint", "person text", "photo text", "metadata jsonb")),
        *(("column entries", name) for name in ("digest text", "vector vector", "crop_digest bytea", "checksum bytea")),
    ]
)
OF_LOG = frozenset(
    [
        ("r", "log"),
        ("i", "log_pkey"),
        *(("column log", name) for name in ("id bigint", "time text", "action text")),
        *(("column log", name) for name in ("entries bigint", "first bigint", "last bigint")),
    ]
)
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


def set_width(width: int) -> str:
    """The statement that sets the vectors' width in the empty table `entries`, and their storage."""
    storage = "PLAIN" if width <= INLINE else "EXTERNAL"
    return f"ALTER TABLE entries ALTER vector TYPE vector({width}), ALTER vector SET STORAGE {storage}"


def digest_of(content: bytes) -> bytes:
    """The first half of SHA-256, 16 bytes."""
    return hashlib.sha256(content).digest()[:16]


def vectors_of(rows: Sequence[Sequence[bytes]]) -> NDArray[np.float64]:
    """The vectors of rows, (N, D)."""
    return np.frombuffer(b"".join(row[5] for row in rows), ">f4").reshape(len(rows), -1).astype(np.float64)


def as_json(metadata: Mapping[str, str]) -> str:
    """Metadata for the server to read."""
    return json.dumps(dict(metadata), ensure_ascii=False)


def create(connection: Connection, address: Address, header: StoreHeader) -> None:
    """Create a gallery atomically, unless there is one. Raises GalleryError: this role may not use the schema."""
    name, body = address.gallery, header.to_json()
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"facewright {name}",))
        if has_gallery(connection, address):  # another process was first: its gallery counts
            return
        if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)).fetchall():
            connection.execute(f'CREATE SCHEMA "{name}"')
        if connection.execute("SELECT current_schema()").fetchall() != [(name,)]:  # or the tables would be elsewhere
            raise GalleryError(f"{address.shown}: this role may not use the schema {name}; GRANT ALL ON SCHEMA to it")
        connection.execute(TABLES)
        connection.execute(LOG)
        connection.execute(set_width(header.signature.width))
        values = (VERSION, body, digest_of(body.encode()))
        connection.execute("INSERT INTO book VALUES (1, %s, %s, %s)", values)


def check_schema(connection: Connection, address: Address) -> None:
    """Refuse what `foreign_schema` describes."""
    objects = set(connection.execute(OBJECTS, {"schema": f'"{address.gallery}"'}).fetchall())
    ours = EXPECTED | OF_LOG if ("r", "log") in objects else EXPECTED
    different = sorted((objects - {("i", INDEX)}) ^ ours)
    if different:
        raise foreign_schema(address.shown, [" ".join(one) for one in different])


def is_owner(connection: Connection) -> bool:
    """Tell if this role may rewrite the tables; others may only read."""
    query = (
        "SELECT pg_has_role(relowner, 'USAGE') AND NOT pg_is_in_recovery() FROM pg_class WHERE oid = 'book'::regclass"
    )
    return connection.execute(query).fetchall() == [(True,)]


def has_index(connection: Connection) -> bool:
    """Tell if there is an approximate index."""
    return connection.execute("SELECT to_regclass(%s) IS NULL", (INDEX,)).fetchall() == [(False,)]


def make_index(connection: Connection, width: int) -> None:
    """Create the approximate index if it is missing; the caller holds the lock of `book`."""
    if width > INDEXABLE:
        raise UsageError(f"pgvector's index takes vectors of up to {INDEXABLE:,} numbers, not {width:,}; use exact")
    if not has_index(connection):  # of unit vectors the inner product is the cosine
        connection.execute(f"CREATE INDEX {INDEX} ON entries USING hnsw (vector vector_ip_ops)")


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
    scores = np.clip((vectors_of(rows) * probe).sum(axis=1), -1.0, 1.0)
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
