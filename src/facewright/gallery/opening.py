"""From the name of a gallery to its store: a file, or a database on a server."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from facewright.errors import UsageError
from facewright.gallery.postgres_address import address_of, is_address
from facewright.gallery.sqlite import SqliteStore
from facewright.gallery.store import GalleryStore, Pin


def open_store(where: str | Path, pin: Pin | None = None) -> GalleryStore:
    """Open a gallery; make it where it is missing and a pin is given.

    Args:
        where: a file, or postgresql://user@host/database?gallery=name (`postgres_address`).
    Raises:
        UsageError: neither of the two, or no library for the second. GalleryError, GalleryDamaged: as the stores.
    """
    if is_address(where):
        _need_libraries()
        from facewright.gallery.postgres import PostgresStore

        return PostgresStore(str(where), pin)
    return SqliteStore(path_of(where), pin)


def exists(where: str | Path) -> bool:
    """Whether there is such a gallery. Raises: as `open_store`."""
    if is_address(where):
        _need_libraries()
        from facewright.gallery.postgres import exists_there

        return exists_there(str(where))
    return path_of(where).exists()


def shown(where: str | Path) -> str:
    """What may be shown of where a gallery is: all but a password. Raises: as `open_store`."""
    return address_of(str(where)).shown if is_address(where) else str(path_of(where))


def path_of(where: str | Path) -> Path:
    """The file of a gallery.

    Raises:
        UsageError: it is no file's name, or a folder's.
    """
    path, scheme = Path(where), str(where).partition("://")[0]
    if "://" in str(where) or str(where).startswith("postgresql:/") or path.is_dir():  # `Path` merges slashes
        raise UsageError(
            "expected the file of a gallery, such as people.gallery, or postgresql://user@host/database?gallery=name "
            f"as text; got {where if scheme == str(where) else scheme + '://...'}"
        )
    return path


def _need_libraries() -> None:
    missing = [name for name in ("psycopg", "pgvector") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"a gallery on PostgreSQL needs {' and '.join(missing)}, not installed: pip install 'facewright[postgres]'"
        )
