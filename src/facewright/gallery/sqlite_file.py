"""The file of an SQLite gallery: created atomically, opened strictly, and cleared of deleted bytes.

In WAL mode readers and a writer work at once; a commit that returned is on the disk. secure_delete overwrites deleted
content; moving rows between pages leaves copies in unused parts, and the log holds pages as they were: so `erase`
rewrites the file (VACUUM) and empties the log. After each change the log is moved into the file, where `sqlite`
verifies every bit; one that a killed process left is verified by SQLite's checksums alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from facewright.errors import GalleryDamaged, GalleryError
from facewright.files import sync_folder
from facewright.gallery.store import VERSION, absent, bytes_remain, damaged, foreign_schema
from facewright.platforms import NEW_FILE, publish

APPLICATION = 0x46574721  # in the header of the file: an SQLite database that is a gallery of ours
PATIENCE = 60.0  # seconds to wait for another process
PRIVATE = 0o600
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
UNWRITABLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
)
SCHEMA = """
CREATE TABLE state (one INTEGER PRIMARY KEY CHECK (one = 1), body TEXT NOT NULL, checksum BLOB NOT NULL);
CREATE TABLE entries (
    number INTEGER PRIMARY KEY, person TEXT NOT NULL, photo TEXT NOT NULL, metadata TEXT NOT NULL,
    digest TEXT NOT NULL, vector BLOB NOT NULL, crop_digest BLOB NOT NULL, checksum BLOB NOT NULL
);
CREATE UNIQUE INDEX by_person ON entries (person, digest);
CREATE TABLE crops (number INTEGER PRIMARY KEY, png BLOB NOT NULL);
"""
LOG = """CREATE TABLE log (
    id INTEGER PRIMARY KEY, time TEXT NOT NULL, action TEXT NOT NULL, entries INTEGER NOT NULL, first INTEGER,
    last INTEGER
)"""
OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master"  # of the schema


def create(path: Path, body: str, checksum: bytes) -> None:
    """Create a gallery atomically, unless there is one; its folder, for the user alone, too.

    Args:
        body, checksum: the row of the table `state`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(temporary, NEW_FILE, PRIVATE))
    try:
        with translated(path), contextlib.closing(_connect(temporary, "mode=rw")) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA + LOG)
            connection.execute("INSERT INTO state VALUES (1, ?, ?)", (body, checksum))
        publish(temporary, path)  # where another process was first, its gallery counts
        sync_folder(path.parent)
    finally:
        for left in (temporary, *(temporary.with_name(temporary.name + end) for end in ("-wal", "-shm"))):
            left.unlink(missing_ok=True)


def connect(path: Path) -> tuple[sqlite3.Connection, bool]:
    """Open a gallery; return the connection, and if it is read-only: the file or its folder may not be written.

    Raises:
        GalleryError: no such file, or none of ours. GalleryDamaged: the file is not what was written.
    """
    if path.exists() and not path.is_file():
        raise GalleryError(f"{path}: expected the file of a gallery, got a device, a pipe or a socket")
    if not path.is_file():
        raise absent(path)
    read_only = not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
    if read_only and _log_of(path).exists() and _log_of(path).stat().st_size:
        raise GalleryError(
            f"{path}: may not be written, and its last changes are still in {_log_of(path).name}; "
            "open it once where it may be written, or copy both files"
        )
    with translated(path):
        connection = _connect(path, "mode=ro&immutable=1" if read_only else "mode=rw")
        try:
            version = _value(connection, "PRAGMA application_id"), _value(connection, "PRAGMA user_version")
            if version != (APPLICATION, VERSION):
                raise GalleryError(f"{path}: is no gallery of this version, or its first bytes are damaged")
            check_schema(connection, path)
            if not read_only and _value(connection, "PRAGMA journal_mode") != "wal":
                raise damaged(path, "the file's header")
            wrong = _value(connection, "PRAGMA integrity_check(1)")
            if wrong != "ok":
                raise damaged(path, " ".join(str(wrong).split()))
        except BaseException:
            connection.close()
            raise
    return connection, read_only


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what `foreign_schema` describes."""
    objects = set(connection.execute(OBJECTS))
    different = sorted({row[1] for row in objects ^ _our_schema()}, key=str)
    if different and not (different == ["log"] and not any(row[1] == "log" for row in objects)):
        raise foreign_schema(path, [repr(name) for name in different])


def identity(path: Path, read_only: bool) -> object:
    """The files that a gallery is in, to be compared later; of a read-only one size and time too."""
    facts: list[object] = []
    for file in (path, _log_of(path)):
        try:
            status = file.stat()
        except OSError:
            facts.append(None)
        else:
            content = (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if read_only else ()
            facts.append((status.st_dev, status.st_ino, *content))
    return tuple(facts)


def content(path: Path) -> object:
    """Return size and times of the file: they change with each checkpoint, and when other bytes are copied over it."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def fresh(path: Path) -> contextlib.closing[sqlite3.Connection]:
    """A connection that holds no page of the file in memory, so that it reads what the file holds now."""
    return contextlib.closing(_connect(path, "mode=rw"))


def erase(connection: sqlite3.Connection, path: Path) -> None:
    """Rewrite the file without what was deleted, and empty the log. Raises GalleryError: another process reads it."""
    connection.execute("VACUUM")
    if not empty_log(connection):
        raise bytes_remain(path, _log_of(path).name)


def empty_log(connection: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and truncate it; False if another process is using it."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a closed connection, say: a mistake in a program
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in BUSY:
            raise GalleryError(f"{path}: another process has locked it for {PATIENCE:g} s; try again") from error
        if code in UNWRITABLE:
            raise GalleryError(
                f"{path}: could not be read or written ({error}); what was enrolled before is unchanged"
            ) from error
        if code == sqlite3.SQLITE_NOTADB:
            raise GalleryDamaged(f"{path}: is not a gallery, or its first bytes are damaged") from error
        raise damaged(path, str(error)) from error
    except UnicodeDecodeError as error:  # SQLite's own message quotes a damaged name
        raise damaged(path, "no text") from error


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:  # a damaged file fails here: its descriptor must not stay open
        for pragma in ("synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


@functools.cache
def _our_schema() -> frozenset[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA + LOG)
        return frozenset(connection.execute(OBJECTS))


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _value(connection: sqlite3.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]
