"""What is done to the tables of a gallery on PostgreSQL: made, indexed, filled, and asked who is in them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from facewright.errors import GalleryError
from facewright.gallery.postgres_address import Address
from facewright.gallery.postgres_connection import Connection, has_gallery
from facewright.gallery.postgres_rows import INDEX, TABLES, VERSION, as_json, digest_of, index, shape
from facewright.gallery.sealed_rows import Book, Fields
from facewright.gallery.store import Entry

KINDS = ["int8", "text", "text", "jsonb", "text", "vector", "bytea", "bytea"]  # of the columns of `entries`


def create(connection: Connection, address: Address, book: Book) -> None:
    """Make a new gallery, or leave the one that is there; nobody ever sees half of one.

    Raises:
        GalleryError: this role may not use the schema.
    """
    name, body = address.gallery, book.to_json()
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"facewright {name}",))
        if has_gallery(connection, address):  # another process was first: its gallery it is
            return
        if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)).fetchall():
            connection.execute(f'CREATE SCHEMA "{name}"')
        if connection.execute("SELECT current_schema()").fetchall() != [(name,)]:  # or the tables would lie elsewhere
            raise GalleryError(f"{address.shown}: this role may not use the schema {name}; GRANT ALL ON SCHEMA to it")
        connection.execute(TABLES)
        connection.execute(shape(book.state.pin.width))
        values = (VERSION, body, digest_of(body.encode()))
        connection.execute("INSERT INTO book VALUES (1, %s, %s, %s)", values)


def is_ours(connection: Connection) -> bool:
    """Whether this role may rewrite the tables: others may read, and leave that to the owner."""
    query = (
        "SELECT pg_has_role(relowner, 'USAGE') AND NOT pg_is_in_recovery() FROM pg_class WHERE oid = 'book'::regclass"
    )
    return connection.execute(query).fetchall() == [(True,)]


def has_index(connection: Connection) -> bool:
    """Whether the approximate index is there."""
    return connection.execute("SELECT to_regclass(%s) IS NULL", (INDEX,)).fetchall() == [(False,)]


def make_index(connection: Connection, width: int) -> None:
    """Make it where it is missing; the caller holds the book.

    Raises:
        UsageError: the vectors are too wide for it.
    """
    statement = index(width)
    if not has_index(connection):
        connection.execute(statement)


def present(connection: Connection, entries: Sequence[Entry]) -> set[tuple[str, str]]:
    """The (person, digest) of those that are enrolled already."""
    found = connection.execute(
        "SELECT person, digest FROM unnest(%s::text[], %s::text[]) AS given (person, digest) "
        "JOIN entries USING (person, digest)",
        ([entry.person for entry in entries], [entry.digest for entry in entries]),
    )
    return {(person, digest) for person, digest in found}


def as_written(connection: Connection, entries: Sequence[Entry]) -> list[str]:
    """The metadata of each as the server writes it."""
    texts = [as_json(entry.metadata) for entry in entries]
    different = list(dict.fromkeys(texts))
    query = "SELECT text::jsonb::text FROM unnest(%s::text[]) WITH ORDINALITY AS given (text, at) ORDER BY at"
    written = [row[0] for row in connection.execute(query, (different,))]
    of = dict(zip(different, written, strict=True))
    return [of[text] for text in texts]


def fill(connection: Connection, rows: Sequence[Fields], crops: Sequence[tuple[int, bytes]]) -> None:
    """Put rows and crops, by the numbers of their rows, into the tables."""
    with connection.cursor() as cursor:
        with cursor.copy("COPY entries FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(KINDS)
            for number, person, photo, metadata, digest, vector, crop_digest, checksum in rows:
                values = np.frombuffer(vector, ">f4").astype(np.float32)
                tags = json.loads(metadata)
                copy.write_row((number, person, photo, tags, digest, values, crop_digest, checksum))
        with cursor.copy("COPY crops FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "bytea"])
            for crop in crops:
                copy.write_row(crop)
