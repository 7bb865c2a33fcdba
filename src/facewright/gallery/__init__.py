"""Enrolled faces: a store, the search in it, and the identification of a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facewright.errors import require_extra

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
    from facewright.gallery.addresses import is_address, path_of

    if is_address(location):
        require_extra("postgres", "a gallery on PostgreSQL")
        from facewright.gallery.postgres import PostgresStore

        return PostgresStore(str(location), signature)
    from facewright.gallery.sqlite import SqliteStore

    return SqliteStore(path_of(location), signature)


def exists(location: str | Path) -> bool:
    """Tell if there is such a gallery. Raises: as `open_store`."""
    from facewright.gallery.addresses import is_address, path_of

    if is_address(location):
        require_extra("postgres", "a gallery on PostgreSQL")
        from facewright.gallery.postgres import gallery_exists

        return gallery_exists(str(location))
    return path_of(location).exists()
