"""A session with PostgreSQL for one gallery, and what the server says, as errors of ours.

What each session is told, and why:

    search_path             the gallery's schema, then that of pgvector: names in statements need no prefix
    synchronous_commit      on, where the role or the database has it off: a commit that returned is on the disk
    lock_timeout            nobody waits for ever for another process
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors

from facewright.errors import GalleryDamaged, GalleryError, UsageError
from facewright.gallery.postgres_address import Address

PATIENCE = 60.0  # seconds to wait for another process
REACHING = 10  # seconds to wait for the server
OLDEST = (0, 8)  # of pgvector: from here on its index goes on under a filter
Connection = psycopg.Connection[tuple[Any, ...]]

FACTS = """
SELECT current_setting('server_encoding'), extversion, quote_ident(nspname)
FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'
"""

BOOKS = """
SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %s AND relname = 'book' AND relkind = 'r'
"""


def connect(address: Address, *, make: bool = False) -> Connection:
    """Begin a session. It commits each statement by itself unless `transaction()` is begun.

    Args:
        make: install pgvector where the database lacks it; there can be no gallery there yet.
    Raises:
        UsageError: libpq does not understand the address. GalleryError: the server cannot be reached, or lacks
        something.
    """
    with translated(address):
        connection = _reach(address)
        try:
            _tell(connection, address, make)
        except BaseException:
            connection.close()
            raise
    return connection


def _reach(address: Address) -> Connection:
    try:
        return psycopg.connect(
            address.server,
            autocommit=True,
            prepare_threshold=None,  # rewriting a table would make prepared statements stale
            client_encoding="utf8",
            **_unless_said(address.server, connect_timeout=str(REACHING), application_name="facewright"),
        )
    except psycopg.OperationalError as error:
        said = address.hidden(_primary(error))
        raise GalleryError(f"{address.shown}: the server cannot be reached ({said})") from None
    except (psycopg.ProgrammingError, ValueError):  # its own words quote parts of the address
        raise UsageError(
            f"{address.shown}: is not an address that libpq understands; expected options as name=value with "
            "names of libpq's (sslmode, connect_timeout, ...), special characters as %XX"
        ) from None


def _unless_said(server: str, **values: str) -> dict[str, Any]:
    """Options of ours that the address leaves open."""
    said = psycopg.conninfo.conninfo_to_dict(server)
    return {name: value for name, value in values.items() if name not in said}


def _tell(connection: Connection, address: Address, make: bool) -> None:
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
            "say ALTER EXTENSION vector UPDATE"
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
            f"{address.shown}: the database lacks pgvector ({_primary(error)}); as a superuser of that database say "
            "CREATE EXTENSION vector"
        ) from None


def has_gallery(connection: Connection, address: Address) -> bool:
    """Whether the schema holds a gallery. Read from the catalogue's tables: what a session remembers may be old."""
    with translated(address):
        return bool(connection.execute(BOOKS, (address.gallery,)).fetchall())


@contextlib.contextmanager
def translated(address: Address) -> Iterator[None]:
    """What PostgreSQL says, as errors of ours; without the password, and without a traceback that might hold it."""
    where = address.shown
    try:
        yield
    except (errors.LockNotAvailable, errors.QueryCanceled, errors.DeadlockDetected) as error:
        raise GalleryError(
            f"{where}: another process has kept it for too long ({_primary(error)}); try again"
        ) from None
    except errors.InsufficientPrivilege as error:
        raise GalleryError(
            f"{where}: this role may not do that ({_primary(error)}); a gallery belongs to the role that made it"
        ) from None
    except (errors.DataCorrupted, errors.IndexCorrupted, errors.InternalError_) as error:
        raise GalleryDamaged(f"{where}: the gallery is damaged ({_primary(error)}); restore a backup of it") from None
    except UnicodeDecodeError:  # its own message quotes a damaged name
        raise GalleryDamaged(f"{where}: the gallery is damaged (no text); restore a backup") from None
    except psycopg.OperationalError as error:
        what = "the server went away" if error.sqlstate is None else "the server could not do it"
        raise GalleryError(
            f"{where}: {what} ({address.hidden(_primary(error))}); what was enrolled before is kept, a change that was "
            "under way perhaps not: look, then try again"
        ) from None
    except psycopg.Error as error:
        raise GalleryError(f"{where}: could not be read or written ({address.hidden(_primary(error))})") from None


def _primary(error: psycopg.Error) -> str:
    """The first thing that it says: details may quote a row."""
    return " ".join((error.diag.message_primary or str(error)).split()).rstrip(".")
