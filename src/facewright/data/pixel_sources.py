"""Sources of pixels: files below one folder, arrays in memory.

Symbolic links are never followed. A source can be pickled, so that worker processes can read too.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.errors import BadImage, DataError, UsageError

LINK = "is a symbolic link, which is not followed; put the file itself there"


class HasPath(Protocol):
    """A record, as far as a source looks at it."""

    @property
    def path(self) -> str: ...


class PixelSource(Protocol):
    """A source of pixels."""

    def read(self, record: HasPath, at_least: int | None) -> NDArray[np.uint8]:
        """Return the image, (H, W, 3) uint8 RGB, upright; `at_least` as in `images.read`. Raises BadImage."""

    def content_key(self, record: HasPath) -> str:
        """Return a digest that changes when the image's content changes. Raises BadImage where it cannot be read."""

    def stamp(self, record: HasPath) -> str:
        """Return a cheap sign of change (size, times): while it stays, so does the content key. Raises BadImage."""


class ContentSource(PixelSource, Protocol):
    """A source whose images are files, or lie in some as files do."""

    def content(self, name: str) -> bytes:
        """Return the bytes of the image called `name`. Raises BadImage."""

    def read(self, record: HasPath, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`."""
        return images.read(self.content(record.path), name=record.path, at_least=at_least)

    def content_key(self, record: HasPath) -> str:
        """As `PixelSource.content_key`: a digest of the image's bytes."""
        return digest(self.content(record.path))


@dataclass(frozen=True)
class FileSource(ContentSource):
    """Pixels of files below one folder. Links met on the way are refused, also when they appeared after the listing."""

    root: str

    def stamp(self, record: HasPath) -> str:
        """As `PixelSource.stamp`."""
        return stamp_of(Path(self.root, record.path), record.path)

    def content(self, name: str) -> bytes:
        """Return the bytes of the file called `name`. Raises BadImage."""
        path = Path(self.root, name)
        if os.path.realpath(path) != str(path):
            raise BadImage(name, LINK)
        return images.read_bytes(path, images.Limits(), name)


@dataclass(frozen=True)
class MemorySource:
    """Pixels of an array in memory: (N, H, W, 3) or a sequence of (H, W, 3), uint8 RGB; a record's path is its row."""

    arrays: tuple[NDArray[np.uint8], ...]

    def read(self, record: HasPath, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`; `at_least` makes nothing cheaper here."""
        return self.arrays[int(record.path)]

    def content_key(self, record: HasPath) -> str:
        """As `PixelSource.content_key`: a digest of the pixels."""
        return images.pixel_digest(self.arrays[int(record.path)])

    def stamp(self, record: HasPath) -> str:
        """As `PixelSource.stamp`: the pixels' digest, since nothing cheaper tells that memory has changed."""
        return self.content_key(record)


def within_limit(name: str, size: int) -> int:
    """Return how many bytes an image may have. Raises BadImage, called `name`: `size` is more."""
    limit = images.Limits().bytes
    if size > limit:
        raise BadImage(name, f"has {size:,} bytes; the limit is {limit:,}")
    return limit


def digest(content: bytes | bytearray) -> str:
    """Return 32 hex characters that stand for some bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def stamp_of(path: Path, name: str) -> str:
    """Return size, times of change and inode of a file. Raises BadImage, called `name`.

    The time of the last status change (ctime) cannot be set back, as the time of modification can.
    """
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        raise BadImage(name, f"cannot be read ({reason_of(error)})") from error
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_ino}"


def unusable(root: Path, name: str) -> str | None:
    """Return why the file called `name` cannot be used, or None."""
    path = root / name
    try:
        status = path.lstat()
    except (OSError, ValueError) as error:
        return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({reason_of(error)})"
    if os.path.realpath(path) != str(path):
        return LINK
    return None if stat.S_ISREG(status.st_mode) else "is not a regular file"


def reason_of(error: Exception) -> str:
    """Return what went wrong without number and path, which stand beside it."""
    if isinstance(error, BadImage):
        return error.reason
    return (isinstance(error, OSError) and error.strerror) or str(error)


def checked_pixels(number: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image in memory as (H, W, 3) uint8. Raises UsageError."""
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise UsageError(
            f"image {number}: expected uint8 pixels from 0 to 255, got {pixels.dtype}; scale floating-point ones: "
            "(255 * images).round().astype('uint8')"
        )
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        hint = "; move its channels to the end" if pixels.ndim == 3 and pixels.shape[0] in (1, 3) else ""
        raise UsageError(f"image {number}: expected H×W×3 or H×W, got {pixels.shape}{hint}")
    return np.ascontiguousarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def path_below(folder: Path, path: str) -> str:
    """Return a path relative to a folder that it is in. Raises DataError."""
    try:
        relative = (folder / path).relative_to(folder)
    except ValueError:
        raise DataError(f"{path}: expected a path below {folder}; give root=") from None
    if not path or ".." in relative.parts or "\0" in path:
        raise DataError(f"{path!r}: expected a path below {folder}; give root=")
    return relative.as_posix()
