"""The store at a location: a file, or a database on a server."""

from __future__ import annotations

from pathlib import Path

from facewright.errors import require_extra
from facewright.gallery.addresses import is_address, path_of
from facewright.gallery.store import GalleryStore, ModelSignature


def open_store(location: str | Path, signature: ModelSignature | None = None) -> GalleryStore:
    """Open a gallery; create it if it is missing and a signature is given.

    Args:
        location: a file, or postgresql://user@host/database?gallery=name.
    Raises:
        UsageError: neither of the two, or no library for the second. GalleryError, GalleryDamaged: as the stores.
    """
    if is_address(location):
        require_extra("postgres", "a gallery on PostgreSQL")
        from facewright.gallery.postgres import PostgresStore

        return PostgresStore(str(location), signature)
    from facewright.gallery.sqlite import SqliteStore

    return SqliteStore(path_of(location), signature)


def exists(location: str | Path) -> bool:
    """Tell if there is such a gallery. Raises: as `open_store`."""
    if is_address(location):
        require_extra("postgres", "a gallery on PostgreSQL")
        from facewright.gallery.postgres import gallery_exists

        return gallery_exists(str(location))
    return path_of(location).exists()
