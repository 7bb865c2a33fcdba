"""Enrolled faces: a store, the search in it, and the identification of a person; and where a gallery lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facewright.errors import UsageError, require_extra

if TYPE_CHECKING:
    from facewright.gallery.entries import ModelSignature
    from facewright.gallery.store import GalleryStore


def open_store(location: str | Path, signature: ModelSignature | None = None) -> GalleryStore:
    """Open a gallery; create it if it is missing and a signature is given.

    Args:
        location: a file, or postgresql://user@host/database?gallery=name.
    Raises:
        UsageError: neither of the two, or no library for the second. GalleryError, GalleryDamaged: as the stores.
    """
    if _is_address(location):
        from facewright.gallery.postgres import PostgresStore

        return PostgresStore(str(location), signature)
    from facewright.gallery.sqlite import SqliteStore

    return SqliteStore(path_of(location), signature)


def exists(location: str | Path) -> bool:
    """Tell if there is such a gallery. Raises: as `open_store`."""
    if _is_address(location):
        from facewright.gallery.postgres import gallery_exists

        return gallery_exists(str(location))
    return path_of(location).exists()


def shown(location: str | Path) -> str:
    """The location without a password. Raises: as `open_store`."""
    if _is_address(location):
        from facewright.gallery.postgres_connection import address_of

        return address_of(str(location)).shown
    return str(path_of(location))


def path_of(location: str | Path) -> Path:
    """The file of a gallery. Raises UsageError: it is no file's name, or a folder's."""
    path, scheme = Path(location), str(location).partition("://")[0]
    if "://" in str(location) or str(location).startswith("postgresql:/") or path.is_dir():  # `Path` merges slashes
        raise UsageError(
            "expected the file of a gallery, such as people.gallery, or postgresql://user@host/database?gallery=name "
            f"as text; got {location if scheme == str(location) else scheme + '://...'}"
        )
    return path


def _is_address(location: str | Path) -> bool:
    """Tell a gallery on a server from one in a file. Raises UsageError: no library for it."""
    if not str(location).startswith(("postgresql://", "postgres://")):
        return False
    require_extra("postgres", "a gallery on PostgreSQL")
    return True
