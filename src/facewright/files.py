"""Writing files so that a reader sees the old content or the new, never half of either; and the user's cache folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from platformdirs import user_cache_path

from facewright.errors import FacewrightError


def cache_folder() -> Path:
    """Where decoded pixels and public weights are kept: $FACEWRIGHT_CACHE, else the system's place for caches."""
    override = os.environ.get("FACEWRIGHT_CACHE", "")
    return Path(override).expanduser() if override else user_cache_path("facewright", appauthor=False)


def write_atomic(path: Path, content: bytes | str, *, mode: int = 0o644) -> None:
    """Replace a file by way of a temporary neighbour: write, flush to disk, rename.

    Args:
        path: the file; its folder must exist.
        content: text is written as UTF-8.
        mode: permission bits of the new file.
    Raises:
        FacewrightError: the content could not be written whole (a full disk, say); the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, mode=mode) as out:
        out.write(data)


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends well, and vanishes when it does not.

    For what is written piece by piece; `write_atomic` is for what is at hand as a whole.

    Args:
        path: the file; its folder must exist.
        mode: permission bits of the new file.
    Raises:
        FacewrightError: it could not be written whole (a full disk, say); the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(descriptor, "wb") as out:  # noqa: PTH123 - a descriptor, not a path
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise FacewrightError(
            f"{path}: could not be written ({error.strerror or error}); what was there before is unchanged"
        ) from error


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Replace a file by facts as JSON; NaN is refused, since JSON has none."""
    write_atomic(path, json.dumps(facts, indent=2, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
