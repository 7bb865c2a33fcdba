"""Files under one folder: their names, and their pixels. Symbolic links are never followed."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.data import archives
from facewright.data.records import Broken, Listing, Record
from facewright.errors import BadImage, DataError
from facewright.images.files import is_hidden, is_image, unread_reason

LINK = "is a symbolic link, which is not followed; put the file itself there"


@dataclass(frozen=True)
class FileSource:
    """Pixels of files under one folder. Links met on the way are refused, also when they appeared after the listing."""

    root: str

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`."""
        return images.read(self.content(record.path), name=record.path, at_least=at_least)

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`: a digest of the file's bytes."""
        return hashlib.blake2b(self.content(record.path), digest_size=16).hexdigest()

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`: size, time of change and inode."""
        try:
            found = Path(self.root, record.path).lstat()
        except (OSError, ValueError) as error:
            raise BadImage(record.path, f"cannot be read ({said(error)})") from error
        return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"

    def content(self, name: str) -> bytes:
        """The bytes of the file called `name`. Raises BadImage."""
        path = Path(self.root, name)
        if os.path.realpath(path) != str(path):
            raise BadImage(name, LINK)
        return images.read_bytes(path, images.Limits(), name)


def list_folder(root: Path) -> Listing:
    """The tree under `root`, four names deep, which is one more than a layout needs. Hidden names are left out."""
    listing = Listing(str(root))
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{root / folder}: the folder cannot be listed ({said(error)}); allow reading") from error
        for entry in found:
            if is_hidden(entry.name):
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            reason = _left_out(entry)
            if reason is not None:
                listing.broken.append(Broken(path.encode("utf-8", "backslashreplace").decode(), reason))
            elif entry.is_dir(follow_symlinks=False):
                listing.folders.append(path)
                if path.count("/") < 3:
                    pending.append(path)
            elif is_image(entry.name):
                listing.files.append(path)
            elif archives.is_text(entry.name):
                listing.texts.append(path)
    return listing


def _left_out(entry: os.DirEntry[str]) -> str | None:
    """Why an entry of a folder is not used although somebody may think it is, or None."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 arrive as lone surrogates
        return "has a name that is not UTF-8; rename it"
    if entry.is_symlink():
        return LINK
    if entry.is_dir(follow_symlinks=False):
        return None
    if is_image(entry.name) and not entry.is_file(follow_symlinks=False):
        return "is not a regular file"
    return unread_reason(entry.name)


def unusable(root: Path, name: str) -> str | None:
    """Why the file called `name` cannot be used, or None."""
    path = root / name
    try:
        found = path.lstat()
    except (OSError, ValueError) as error:
        return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({said(error)})"
    if os.path.realpath(path) != str(path):
        return LINK
    return None if stat.S_ISREG(found.st_mode) else "is not a regular file"


def said(error: Exception) -> str:
    """What the system said, without number and path."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
