"""A session with PostgreSQL for one gallery: address, tables, errors as ours, and removing bytes of deleted rows.

postgresql://user@host:5432/database?gallery=staff&index=hnsw: `gallery` names the schema, `index` is `exact` or `hnsw`;
everything else is libpq's. Columns with personal data have no statistics, and the index by person is a hash: copies.

DELETE only marks a row. Tables and indexes are rewritten by ALTER TABLE, because VACUUM FULL keeps each row that an
older transaction might still read; a checkpoint removes the old files. Segments of the write-ahead log are renamed for
later use with their contents: so each of them is used now, a switch to the next fills it with zeros. That takes
pg_checkpoint, pg_monitor and EXECUTE ON FUNCTION pg_switch_wal(); `empty_log` returns where bytes remain without them.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
from pgvector.psycopg import register_vector
from psycopg import errors

from facewright.errors import GalleryError, UsageError
from facewright.gallery.entries import StoreHeader
from facewright.gallery.store import VERSION, damaged, foreign_schema

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
DEFAULT_GALLERY = "facewright"
NAME = re.compile(r"(?!pg_|public$|information_schema$)[a-z_][a-z0-9_-]{0,62}")  # of a schema, quoted or not
INDEXES = ("exact", "hnsw")
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
_COLUMNS = {
    "book": "one integer, version integer, body text, checksum bytea",
    "crops": "number bigint, png bytea",
    "entries": "number bigint, person text, photo text, metadata jsonb, digest text, vector vector, crop_digest bytea, "
    "checksum bytea",
    "log": "id bigint, time text, action text, entries bigint, first bigint, last bigint",
}


@dataclass(frozen=True, repr=False)  # a password must not get into a traceback
class Address:
    """A gallery on a server."""

    server: str  # the address as libpq takes it, password and all
    gallery: str  # the schema
    hnsw: bool  # search by the approximate index
    shown: str  # without the password

    def hidden(self, text: str) -> str:
        """Remove the password from another program's message."""
        secret = urlsplit(self.server).netloc.rpartition("@")[0].partition(":")[2]
        for form in {secret, unquote(secret)} - {""}:
            text = text.replace(form, "***")
        return text


def address_of(url: str) -> Address:
    """Parse an address.

    Raises:
        UsageError: it is none, or its gallery or index is invalid. The message never quotes the address.
    >>> address_of("postgresql://ann:secret@db:5433/faces?sslmode=require&gallery=staff").shown
    'postgresql://ann@db:5433/faces?gallery=staff'
    """
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    options = [piece.partition("=") for piece in parts.query.split("&") if piece]
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    unclear = "@" in parts.path or parts.fragment or not all(sign for _, sign, _ in options)
    if unclear or not all(port.isdecimal() or not port for port in ports):  # could be a part of a password
        raise UsageError(
            "expected postgresql://user@host:5432/database?gallery=name, special characters of a name or a password "
            "as %XX; got another form (not shown: it may hold a password)"
        )
    own = {name: unquote(value) for name, _, value in options if name in ("gallery", "index")}
    gallery, index = own.get("gallery", DEFAULT_GALLERY), own.get("index", INDEXES[0])
    if not NAME.fullmatch(gallery):
        raise UsageError(
            f"expected gallery=NAME of lower-case letters, digits, _ and -, at most 63, no schema of PostgreSQL's own; "
            f"got {gallery!r}"
        )
    if index not in INDEXES:
        raise UsageError(f"expected index={' or index='.join(INDEXES)}, got {index!r}")
    rest = "&".join(name + sign + value for name, sign, value in options if name not in own)
    kept = [f"host={quote(unquote(value), safe='/')}" for name, _, value in options if name == "host"]
    kept += [f"{name}={value}" for name, value in own.items() if value not in (DEFAULT_GALLERY, INDEXES[0])]
    shown = f"postgresql://{user.partition(':')[0]}{at}{hosts}{parts.path}"
    server = f"postgresql://{parts.netloc}{parts.path}" + (f"?{rest}" if rest else "")
    return Address(server, gallery, index == "hnsw", shown + (f"?{'&'.join(kept)}" if kept else ""))


def connect(address: Address, *, make: bool = False) -> Connection:
    """Begin a session in autocommit mode; `make` installs pgvector if the database lacks it.

    Raises:
        UsageError: libpq does not understand the address. GalleryError: no server, or it lacks something.
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


def set_width(width: int) -> str:
    """The statement that sets the vectors' width in the empty table `entries`, and their storage."""
    storage = "PLAIN" if width <= INLINE else "EXTERNAL"
    return f"ALTER TABLE entries ALTER vector TYPE vector({width}), ALTER vector SET STORAGE {storage}"


def digest_of(content: bytes) -> bytes:
    """The first half of SHA-256, 16 bytes."""
    return hashlib.sha256(content).digest()[:16]


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
    ours = _objects("book", "entries", "crops", *["log"] * (("r", "log") in objects))
    different = sorted((objects - {("i", INDEX)}) ^ ours ^ {("i", "entries_by_person")})
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


def _objects(*tables: str) -> set[tuple[str, str]]:
    """Kind and name of tables, their keys and columns, as `OBJECTS` gives them."""
    columns = {(f"column {name}", column) for name in tables for column in _COLUMNS[name].split(", ")}
    return columns | {("r", name) for name in tables} | {("i", f"{name}_pkey") for name in tables}


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
