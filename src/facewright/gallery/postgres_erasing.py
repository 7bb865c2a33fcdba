"""Removing the bytes of deleted rows from the files of a PostgreSQL server, and naming those out of reach.

DELETE only marks a row. Its bytes remain in:

    tables and their indexes    rewritten by ALTER TABLE, because VACUUM FULL keeps each row that an older transaction
                                of the database might still read
    files of the old tables     emptied at once, removed by a checkpoint
    the write-ahead log         A checkpoint frees segments, but renames them for later use with their contents. So
                                each of them is used now: a switch to the next segment fills the rest with zeros.
    statistics                  there are none (`postgres_tables`)

The log belongs to the server: a role needs privileges for a checkpoint (pg_checkpoint), to list the log's files
(pg_monitor) and to switch (EXECUTE ON FUNCTION pg_switch_wal()). Without them, or if the log is kept (an archive, a
replica), bytes remain there until the server removes them; `empty_log` returns that.
"""

from __future__ import annotations

from typing import Any

from psycopg import errors

from facewright.gallery.postgres_connection import Connection

KEYS = {"book": "one", "entries": "number", "crops": "number"}
MESSAGE = "SELECT pg_logical_emit_message(false, 'facewright', '')"  # without a record in the log no switch takes place
SEGMENTS = "SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
CURRENT = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"
KEEPERS = """
SELECT current_setting('archive_mode') <> 'off',
    EXISTS (SELECT FROM pg_stat_replication) OR EXISTS (SELECT FROM pg_replication_slots)
"""
NOT_ALLOWED = (
    "the server's write-ahead log, which this role may not empty (a superuser can let it: GRANT pg_checkpoint, "
    "pg_monitor TO it; GRANT EXECUTE ON FUNCTION pg_switch_wal() TO it)"
)


def rewrite(connection: Connection) -> None:
    """Rewrite all tables with the present rows, in one transaction. Raises LockNotAvailable: another process reads."""
    with connection.transaction():
        connection.execute(f"LOCK TABLE {', '.join(KEYS)} IN ACCESS EXCLUSIVE MODE")
        for table, key in KEYS.items():
            kind = "integer" if table == "book" else "bigint"  # unchanged; without "+ 0" nothing would be rewritten
            connection.execute(f"ALTER TABLE {table} ALTER {key} TYPE {kind} USING {key} + 0")


def empty_log(connection: Connection) -> str:
    """Overwrite the write-ahead log as far as allowed. Returns where bytes may remain; empty: nowhere."""
    archived, copied = _row(connection, KEEPERS)
    remains = ["the archive of the write-ahead log"] * bool(archived) + ["the server's replicas"] * bool(copied)
    try:
        kept = _empty_log(connection)
    except errors.InsufficientPrivilege:
        remains.insert(0, NOT_ALLOWED)
    else:
        remains += [f"{kept} segments of the write-ahead log that the server keeps"] * bool(kept)
    return "; in ".join(remains)


def _empty_log(connection: Connection) -> int:
    """Returns the number of old segments that are still there."""
    (until,) = _row(connection, CURRENT)
    _next_segment(connection)  # removes the files of the old tables too
    (names,) = _row(connection, SEGMENTS)
    while _row(connection, CURRENT)[0] <= names[-1]:  # until the last one that was renamed for later use
        _next_segment(connection)
    (names,) = _row(connection, SEGMENTS)
    return sum(name <= until for name in names)


def _next_segment(connection: Connection) -> None:
    """Fill the segment and free the earlier ones. A checkpoint each time: the server keeps as much log for later use as
    is written between two of them, so that otherwise each deletion would leave more for the next to overwrite."""
    connection.execute(MESSAGE)
    connection.execute("SELECT pg_switch_wal()")
    connection.execute("CHECKPOINT")


def _row(connection: Connection, query: str) -> tuple[Any, ...]:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found
