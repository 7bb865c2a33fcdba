"""The tables of a gallery on PostgreSQL, and their checksums, which the server itself can check.

A row is sealed as in a file (`sealed_rows`), with three differences, so that SQL can say the same: the checksum is the
first half of SHA-256; the vector's numbers are big-endian, as `vector_send` gives them; the metadata is written as the
server writes it. So a gallery is verified where it lies, and no vector need travel for it.

The index by person is a hash: it holds no names and takes names of any length. There are no statistics of columns that
hold what is personal, for statistics are copies. Crops are PNG: compressing them again gains nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.gallery.sealed_rows import Fields, Parts, written_out
from facewright.gallery.store import Entry

VERSION = 1
INLINE = 1_400  # D up to which a vector fits in its row's page (8 KB) beside the rest; else it is kept apart: slower
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
COLUMNS = "number, person, photo, metadata::text, digest, substr(vector_send(vector), 5), crop_digest, checksum"
SEAL = """substr(sha256(
    convert_to(concat_ws(',', number, octet_length(person), octet_length(photo), octet_length(metadata::text),
        octet_length(digest), 4 * vector_dims(vector), length(crop_digest)) || ':'
        || person || photo || metadata::text || digest, 'UTF8')
    || substr(vector_send(vector), 5) || crop_digest), 1, 16)"""
# The book comes first here as everywhere: who locks in another order waits for another for ever.
VERIFIED = f"""
WITH told AS MATERIALIZED (SELECT version, body, checksum FROM book)
SELECT count(*), coalesce(bit_xor(('x' || encode(checksum, 'hex'))::bit(128)), 0::bit(128))::text,
    min(number) FILTER (WHERE checksum IS DISTINCT FROM {SEAL}),
    (SELECT version FROM told), (SELECT body FROM told), (SELECT checksum FROM told)
FROM entries
"""
VERIFIED_CROPS = """
SELECT min(number) FROM entries LEFT JOIN crops USING (number)
WHERE crop_digest <> '' AND substr(sha256(png), 1, 16) IS DISTINCT FROM crop_digest
"""


def shape(width: int) -> str:
    """The statement that gives the empty table `entries` vectors of a width, and says where they are kept."""
    storage = "PLAIN" if width <= INLINE else "EXTERNAL"
    return f"ALTER TABLE entries ALTER vector TYPE vector({width}), ALTER vector SET STORAGE {storage}"


def index(width: int) -> str:
    """The statement that makes the index. Of unit vectors the inner product is the cosine."""
    if width > INDEXABLE:
        raise UsageError(
            f"pgvector's index takes vectors of up to {INDEXABLE:,} numbers, not {width:,}; leave it exact"
        )
    return f"CREATE INDEX {INDEX} ON entries USING hnsw (vector vector_ip_ops)"


def sealed(number: int, entry: Entry, metadata: str, crop_digest: bytes) -> Fields:
    """An entry as it stands in `entries`; its metadata as the server writes it."""
    vector = entry.vector.astype(">f4").tobytes()
    parts = (number, entry.person, entry.photo, metadata, entry.digest, vector, crop_digest)
    return (*parts, seal(parts))


def seal(parts: Parts) -> bytes:
    """The checksum of a row; `SEAL` in the server's words."""
    return digest_of(written_out(parts))


def digest_of(content: bytes) -> bytes:
    """The first half of SHA-256, 16 bytes."""
    return hashlib.sha256(content).digest()[:16]


def vectors_of(rows: Sequence[Sequence[bytes]]) -> NDArray[np.float64]:
    """The vectors of rows, (N, D)."""
    return np.frombuffer(b"".join(row[5] for row in rows), ">f4").reshape(len(rows), -1).astype(np.float64)


def as_json(metadata: Mapping[str, str]) -> str:
    """For the server to read."""
    return json.dumps(dict(metadata), ensure_ascii=False)
