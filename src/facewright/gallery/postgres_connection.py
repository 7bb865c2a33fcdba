"""A session with PostgreSQL for one gallery; its errors become ours; removing bytes of deleted rows.

Each session has the gallery's schema and pgvector's in its search_path, synchronous_commit on (a commit that returned
is on the disk), and a lock_timeout.

DELETE only marks a row. Tables and indexes are rewritten by ALTER TABLE, because VACUUM FULL keeps each row that an
older transaction might still read; a checkpoint removes the old files. It frees segments of the write-ahead log too,
but renames them for later use with their contents: so each of them is used now, a switch to the next fills it with
zeros. There are no statistics (`postgres_tables`).

The log belongs to the server: a role needs pg_checkpoint, pg_monitor and EXECUTE ON FUNCTION pg_switch_wal(). Without
them, or if the log is kept (an archive, a replica), bytes remain there; `empty_log` returns that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors

from facewright.errors import GalleryError, UsageError
from facewright.gallery.addresses import Address
from facewright.gallery.store import damaged

PATIENCE = 60.0  # seconds to wait for another process
CONNECT_TIMEOUT = 10  # seconds to wait for a connection
OLDEST = (0, 8)  # of pgvector: the first whose index continues under a filter
Connection = psycopg.Connection[tuple[Any, ...]]

FACTS = """
SELECT current_setting('server_encoding'), extversion, quote_ident(nspname)
FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'
"""

BOOKS = """
SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %s AND relname = 'book' AND relkind = 'r'
"""
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


def connect(address: Address, *, make: bool = False) -> Connection:
    """Begin a session in autocommit mode.

    Args:
        make: install pgvector if the database lacks it; there can be no gallery there yet.
    Raises:
        UsageError: libpq does not understand the address. GalleryError: the server cannot be reached, or lacks
        something.
    """
    with translated(address):
        connection = _open_session(address)
        try:
            _configure(connection, address, make)
        except BaseException:
            connection.close()
            raise
    return connection


def _open_session(address: Address) -> Connection:
    try:
        return psycopg.connect(
            address.server,
            autocommit=True,
            prepare_threshold=None,  # rewriting a table would make prepared statements stale
            client_encoding="utf8",
            **_defaults(address.server, connect_timeout=str(CONNECT_TIMEOUT), application_name="facewright"),
        )
    except psycopg.OperationalError as error:
        message = address.hidden(_primary(error))
        raise GalleryError(f"{address.shown}: the server cannot be reached ({message})") from None
    except (psycopg.ProgrammingError, ValueError):  # their messages quote parts of the address
        raise UsageError(
            f"{address.shown}: is not an address that libpq understands; expected options as name=value with "
            "names of libpq's (sslmode, connect_timeout, ...), special characters as %XX"
        ) from None


def _defaults(server: str, **values: str) -> dict[str, Any]:
    """Our values of options that the address does not set."""
    explicit = psycopg.conninfo.conninfo_to_dict(server)
    return {name: value for name, value in values.items() if name not in explicit}


def _configure(connection: Connection, address: Address, make: bool) -> None:
    facts = connection.execute(FACTS).fetchone()
    if facts is None and make:
        _install_pgvector(connection, address)
        facts = connection.execute(FACTS).fetchone()
    if facts is None:
        return
    encoding, version, schema = facts
    if encoding != "UTF8":
        raise GalleryError(f"{address.shown}: expected a database in UTF8, got {encoding}; create another one")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise GalleryError(
            f"{address.shown}: expected pgvector {'.'.join(map(str, OLDEST))} or newer, got {version}; "
            "run ALTER EXTENSION vector UPDATE"
        )
    path = f'"{address.gallery}", {schema}, pg_temp'
    connection.execute("SELECT set_config('search_path', %s, false)", (path,))
    connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(1000 * PATIENCE)}ms",))
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    register_vector(connection)


def _install_pgvector(connection: Connection, address: Address) -> None:
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (errors.UniqueViolation, errors.DuplicateObject):  # another process made it at the same moment
        pass
    except psycopg.Error as error:
        raise GalleryError(
            f"{address.shown}: the database lacks pgvector ({_primary(error)}); as a superuser of that database run "
            "CREATE EXTENSION vector"
        ) from None


def has_gallery(connection: Connection, address: Address) -> bool:
    """Tell if the schema holds a gallery, from the catalogue's tables: a session's cache may be old."""
    with translated(address):
        return bool(connection.execute(BOOKS, (address.gallery,)).fetchall())


@contextlib.contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn PostgreSQL's errors into ours, without the password, and without a traceback that might hold it."""
    location = address.shown
    try:
        yield
    except (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected) as error:
        raise GalleryError(
            f"{location}: another process has locked it for too long ({_primary(error)}); try again"
        ) from None
    except errors.InsufficientPrivilege as error:
        raise GalleryError(
            f"{location}: this role may not do that ({_primary(error)}); a gallery belongs to the role that made it"
        ) from None
    except (errors.DataCorrupted, errors.IndexCorrupted, errors.InternalError_) as error:
        raise damaged(location, _primary(error)) from None
    except UnicodeDecodeError:  # its own message quotes a damaged name
        raise damaged(location, "no text") from None
    except psycopg.OperationalError as error:
        what = "the server went away" if error.sqlstate is None else "the server could not do it"
        raise GalleryError(
            f"{location}: {what} ({address.hidden(_primary(error))}); what was enrolled before is kept, a change "
            "under way perhaps not: check, then try again"
        ) from None
    except psycopg.Error as error:
        raise GalleryError(f"{location}: could not be read or written ({address.hidden(_primary(error))})") from None


def _primary(error: psycopg.Error) -> str:
    """The primary message: details may quote a row."""
    return " ".join((error.diag.message_primary or str(error)).split()).rstrip(".")


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
