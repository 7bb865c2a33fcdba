"""How bytes of deleted rows leave the files of a PostgreSQL server, and which this cannot reach.

DELETE only marks a row. What holds its bytes afterwards, and what is done about it:

    tables and their indexes    rewritten. By ALTER TABLE, for VACUUM FULL keeps each row that some older transaction
                                of the database might still look at.
    files of the old tables     emptied at once, removed by a checkpoint
    the write-ahead log         A checkpoint gives segments up, but renames them for later use, contents and all. So
                                each of them is used now: a switch to the next segment fills the rest with zeros.
    statistics                  there are none (`postgres_rows`)

The log belongs to the server: a role needs leave to have a checkpoint (pg_checkpoint), to see the log's files
(pg_monitor) and to switch (EXECUTE ON FUNCTION pg_switch_wal()). Where it has none, or somebody keeps the log (an
archive, a replica), bytes remain there for as long as the server likes; `empty_log` says so.
"""

from __future__ import annotations

from typing import Any

from psycopg import errors

from facewright.gallery.postgres_connection import Connection

KEYS = {"book": "one", "entries": "number", "crops": "number"}
MESSAGE = "SELECT pg_logical_emit_message(false, 'facewright', '')"  # something in the log, else no switch takes place
SEGMENTS = "SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
CURRENT = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"
KEEPERS = """
SELECT current_setting('archive_mode') <> 'off',
    EXISTS (SELECT FROM pg_stat_replication) OR EXISTS (SELECT FROM pg_replication_slots)
"""
LEAVE = (
    "the server's write-ahead log, which this role may not empty (a superuser can let it: GRANT pg_checkpoint, "
    "pg_monitor TO it; GRANT EXECUTE ON FUNCTION pg_switch_wal() TO it)"
)


def rewrite(connection: Connection) -> None:
    """Write all tables anew, with the rows that there are; in a transaction of its own.

    Raises:
        errors.LockNotAvailable: another process keeps reading.
    """
    with connection.transaction():
        connection.execute(f"LOCK TABLE {', '.join(KEYS)} IN ACCESS EXCLUSIVE MODE")
        for table, key in KEYS.items():
            kind = "integer" if table == "book" else "bigint"  # as it is; "+ 0", or the rewriting would be spared
            connection.execute(f"ALTER TABLE {table} ALTER {key} TYPE {kind} USING {key} + 0")


def empty_log(connection: Connection) -> str:
    """Overwrite the write-ahead log as far as may be. Returns where bytes may remain; empty where nowhere."""
    archived, copied = _row(connection, KEEPERS)
    remains = ["the archive of the write-ahead log"] * bool(archived) + ["the server's replicas"] * bool(copied)
    try:
        kept = _empty_log(connection)
    except errors.InsufficientPrivilege:
        remains.insert(0, LEAVE)
    else:
        remains += [f"{kept} segments of the write-ahead log that the server keeps for somebody"] * bool(kept)
    return "; in ".join(remains)


def _empty_log(connection: Connection) -> int:
    """Returns how many segments of before are still there."""
    (until,) = _row(connection, CURRENT)
    _next_segment(connection)  # removes the files of the old tables too
    (names,) = _row(connection, SEGMENTS)
    while _row(connection, CURRENT)[0] <= names[-1]:  # the last one that was renamed for later use
        _next_segment(connection)
    (names,) = _row(connection, SEGMENTS)
    return sum(name <= until for name in names)


def _next_segment(connection: Connection) -> None:
    """Fill the segment, and give up those before. A checkpoint each time: the server keeps for later use as much log as
    comes between two of them, so that otherwise each deletion would leave more of it to be written over by the next."""
    connection.execute(MESSAGE)
    connection.execute("SELECT pg_switch_wal()")
    connection.execute("CHECKPOINT")


def _row(connection: Connection, query: str) -> tuple[Any, ...]:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found
