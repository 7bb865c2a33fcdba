"""The file of an SQLite gallery: made whole or not at all, opened strictly, and rid of deleted bytes.

What SQLite is told, and why:

    journal_mode WAL       readers and a writer do not wait for each other; kept in the file's header
    synchronous FULL       a commit that returned is on the disk
    secure_delete ON       deleted content is overwritten with zeros
    temp_store MEMORY      VACUUM builds its copy in memory, not in a file of the system's temporary folder
    cell_size_check ON     a damaged page is noticed when it is read

secure_delete alone does not keep the promise: moving rows between pages leaves copies in the unused part of a page,
and the write-ahead log holds pages as they were. So `erase` rewrites the file (VACUUM) and empties the log.

After each change the log is emptied into the file, where every bit is watched over by `sqlite`. A log that a killed
process left is watched over by SQLite's checksums alone: if it rots before it is read, its last changes are undone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from facewright.errors import GalleryDamaged, GalleryError
from facewright.files import sync_folder

APPLICATION = 0x46574721  # in the header of the file: an SQLite database that is a gallery of ours
VERSION = 1
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


def create(path: Path, body: str, checksum: bytes) -> None:
    """Make a new gallery, or leave the one that is there; nobody ever sees half of one.

    Args:
        path: its folder is made, for the user alone, where there is none. body, checksum: the row of the table `state`.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))
    try:
        with translated(path), contextlib.closing(_connect(temporary)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(SCHEMA)
            connection.execute("INSERT INTO state VALUES (1, ?, ?)", (body, checksum))
        with contextlib.suppress(FileExistsError):  # another process was first: its gallery it is
            os.link(temporary, path)
        sync_folder(path.parent)
    finally:
        for left in (temporary, *(temporary.with_name(temporary.name + end) for end in ("-wal", "-shm"))):
            left.unlink(missing_ok=True)


def connect(path: Path) -> sqlite3.Connection:
    """Open a gallery.

    Raises:
        GalleryError: no such file, or none of ours. GalleryDamaged: the file is not what was written.
    """
    if not path.is_file():
        raise GalleryError(f"{path}: there is no such gallery; to make it, enrol somebody")
    with translated(path):
        connection = _connect(path)
        try:
            kind = _value(connection, "PRAGMA application_id"), _value(connection, "PRAGMA user_version")
            if kind != (APPLICATION, VERSION):
                raise GalleryError(f"{path}: is no gallery of this version, or its first bytes are damaged")
            if _value(connection, "PRAGMA journal_mode") != "wal":
                raise GalleryDamaged(f"{path}: the gallery's header is damaged; take a copy or an export of it")
            wrong = _value(connection, "PRAGMA integrity_check(1)")
            if wrong != "ok":
                raise GalleryDamaged(
                    f"{path}: the gallery is damaged ({' '.join(str(wrong).split())}); take a copy or an export of it"
                )
        except BaseException:
            connection.close()
            raise
    return connection


def erase(connection: sqlite3.Connection, path: Path) -> None:
    """Rewrite the file without what was deleted, and empty the write-ahead log.

    Raises:
        GalleryError: another process reads for so long that the log cannot be emptied.
    """
    connection.execute("VACUUM")
    if not empty_log(connection):
        raise GalleryError(
            f"{path}: deleted, but another process keeps reading, so that bytes of it remain in {path.name}-wal; "
            "end that process, then delete again"
        )


def empty_log(connection: sqlite3.Connection) -> bool:
    """Move the write-ahead log into the file and cut it to nothing; False where somebody else is at work."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """What SQLite says, as errors of ours."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a closed connection, say: a mistake in a program
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if code in BUSY:
            raise GalleryError(f"{path}: another process has kept it for {PATIENCE:g} s; try again") from error
        if code in UNWRITABLE:
            raise GalleryError(
                f"{path}: could not be read or written ({error}); what was enrolled before is unchanged"
            ) from error
        raise GalleryDamaged(f"{path}: the gallery is damaged ({error}); take a copy or an export of it") from error
    except UnicodeDecodeError as error:  # SQLite's own message quotes a damaged name
        raise GalleryDamaged(f"{path}: the gallery is damaged (no text); take a copy or an export of it") from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    for pragma in ("synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _value(connection: sqlite3.Connection, query: str) -> object:
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]
