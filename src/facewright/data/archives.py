"""Pictures inside a zip, read in memory: nothing is ever extracted to the disk.

An archive is refused whole when one entry is dangerous: a path that leaves the archive (`..`, absolute), a link, two
entries of one name, an encrypted entry, or when it declares more than `ArchiveLimits` (a zip bomb). Half an archive is
never used: whoever made one bad entry may have made the others too.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
import threading
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.data.records import Broken, Listing, Record
from facewright.errors import BadArchive, BadImage
from facewright.images.files import is_hidden, is_image, unread_reason


@dataclass(frozen=True)
class ArchiveLimits:
    """The largest archive that is opened, all by what it declares.

    entries: files and folders in it.
    directory: bytes of its table of contents, checked before that is read.
    bytes: all entries together, unpacked.
    ratio: unpacked to packed bytes of one entry, where it unpacks to more than `ratio_from` bytes (photos hardly pack,
        and a few kilobytes of one colour harm nobody).
    """

    entries: int = 1_000_000
    directory: int = 128 * 2**20
    bytes: int = 256 * 2**30
    ratio: float = 200.0
    ratio_from: int = 2**20


_DEFAULT_LIMITS = ArchiveLimits()
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def is_text(name: str) -> bool:
    """Whether a file name ends like a plain text's."""
    return name.lower().endswith(".txt")


def escapes(path: str) -> bool:
    """Whether a path with / or \\ between its parts could lead out of the folder it is relative to.

    >>> [escapes(path) for path in ("ann/1.jpg", "../1.jpg", "/etc/passwd", "C:/x", "a/../b", "a..b/1.jpg")]
    [False, True, True, True, True, False]
    """
    return path.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", path) or re.match("[A-Za-z]:", path) is not None


class ArchiveSource:
    """Pixels of a zip's entries. Safe to share between threads, to fork and to pickle."""

    def __init__(self, path: str, inside: str = "") -> None:
        """
        Args:
            path: the zip.
            inside: the folder in it that record paths are relative to; "" or "faces/".
        """
        self.path = path
        self.inside = inside
        self._lock = threading.Lock()
        self._zip: zipfile.ZipFile | None = None
        self._owner = 0

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`."""
        return images.read(self.content(record.path), name=record.path, at_least=at_least)

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`: a digest of the entry's bytes."""
        return hashlib.blake2b(self.content(record.path), digest_size=16).hexdigest()

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`: size, time of change and inode of the archive."""
        try:
            found = Path(self.path).stat()
        except OSError as error:
            raise BadImage(record.path, f"its archive cannot be read ({error.strerror})") from error
        return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"

    def content(self, name: str) -> bytes:
        """The bytes of the entry called `name`. Raises BadImage."""
        limit = images.Limits().bytes
        try:
            archive = self._open()
            entry = archive.getinfo(self.inside + name)
            if entry.file_size > limit:
                raise BadImage(name, f"has {entry.file_size:,} bytes; the limit is {limit:,}")
            with archive.open(entry) as file:
                return file.read(limit + 1)
        except KeyError:
            raise BadImage(name, "is not in the archive any more") from None
        except (OSError, ValueError, RuntimeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise BadImage(name, f"is damaged in the archive ({error})") from error

    def _open(self) -> zipfile.ZipFile:
        """The open archive of this process: a forked child must not share its parent's position in the file."""
        with self._lock:
            if self._zip is None or self._owner != os.getpid():
                self._zip, self._owner = zipfile.ZipFile(self.path), os.getpid()
            return self._zip

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "inside": self.inside}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(frozen=True)
class ArchivedImage:
    """An image in a zip, where a file would do."""

    source: ArchiveSource
    name: str

    def __str__(self) -> str:
        return f"{self.source.path}/{self.source.inside}{self.name}"

    def content(self) -> bytes:
        """Its bytes. Raises BadImage."""
        return self.source.content(self.name)


def open_archive(path: Path, limits: ArchiveLimits = _DEFAULT_LIMITS) -> tuple[Listing, ArchiveSource]:
    """The tree in a zip and the source of its pixels, after every entry has been found harmless.

    A single folder around everything (faces/ann/1.jpg in faces.zip) is looked through.

    Raises:
        BadArchive: see the top of this file; names the entry and says why.
    """
    entries = checked_entries(path, limits)
    names = [entry.filename for entry in entries if not is_hidden(entry.filename)]
    files = sorted(name for name in names if is_image(name) and not name.endswith("/"))
    folders = {name.rstrip("/") for name in names if name.endswith("/")}
    for name in (*files, *folders):
        folders.update(str(parent) for parent in PurePosixPath(name).parents if parent.name)
    listing, source = _unwrapped(str(path), files, sorted(folders))
    for name in names:
        reason = unread_reason(name)
        below = name.removeprefix(source.inside) if name.startswith(source.inside) else ""
        if below and reason is not None:
            listing.broken.append(Broken(below, reason))
        elif below and is_text(below):
            listing.texts.append(below)
    return listing, source


def checked_entries(path: Path, limits: ArchiveLimits = _DEFAULT_LIMITS) -> list[zipfile.ZipInfo]:
    """The table of contents of a zip of which every entry has been found harmless.

    Raises:
        BadArchive: see the top of this file; names the entry and says why.
    """
    try:
        directory = _directory_size(path)
        if directory > limits.directory:
            raise BadArchive(
                f"{path}: declares a table of contents of {directory:,} bytes; the limit is {limits.directory:,}"
            )
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise BadArchive(f"{path}: expected a zip; it cannot be opened ({error})") from error
    _check(path, entries, limits)
    return entries


def _directory_size(path: Path) -> int:
    """Bytes of the table of contents as the end of the file declares them. Source: PKWARE APPNOTE 6.3.10, 4.3.14-16."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2**16 - 98))
        tail = file.read()
    # The same places in the same order as zipfile looks, so that both see one table of contents.
    plain = tail[-22:].startswith(b"PK\5\6") and tail.endswith(b"\0\0")
    end = len(tail) - 22 if plain else tail.rfind(b"PK\5\6")
    if end < 0:
        raise zipfile.BadZipFile("it is no zip, or its end is missing")
    large = tail[max(0, end - 76) : end]
    if large.startswith(b"PK\6\6") and large[56:60] == b"PK\6\7":
        return int(struct.unpack_from("<Q", large, 40)[0])
    return int(struct.unpack_from("<I", tail, end + 12)[0])


def _unwrapped(where: str, files: list[str], folders: list[str]) -> tuple[Listing, ArchiveSource]:
    """Look through a single top folder as long as it holds folders only; a lone train/ is a split, not a wrapper."""
    inside = ""
    while True:
        tops = [folder for folder in folders if "/" not in folder]
        if len(tops) != 1 or len(folders) == 1 or tops[0].casefold() == "train":
            break
        prefix = f"{tops[0]}/"
        if any(not file.startswith(prefix) or "/" not in file[len(prefix) :] for file in files):
            break
        inside += prefix
        files = [file[len(prefix) :] for file in files]
        folders = [folder[len(prefix) :] for folder in folders if folder != tops[0]]
    return Listing(where, files, folders), ArchiveSource(where, inside)


def _check(path: Path, entries: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    """Raise BadArchive at the first sign of danger."""
    if len(entries) > limits.entries:
        raise BadArchive(f"{path}: has {len(entries):,} entries; the limit is {limits.entries:,}")
    unpacked, packed = sum(e.file_size for e in entries), sum(e.compress_size for e in entries)
    if unpacked > limits.bytes:
        raise BadArchive(f"{path}: declares {unpacked:,} bytes unpacked; the limit is {limits.bytes:,}")
    if packed > path.stat().st_size:
        raise BadArchive(f"{path}: its entries overlap (they declare more bytes than the file has); refused whole")
    seen: set[str] = set()
    for entry in entries:
        reason = _danger(entry, limits)
        if entry.filename.rstrip("/") in seen:
            reason = "comes twice"
        if reason is not None:
            raise BadArchive(f"{path}: entry {entry.filename[:200]!r} {reason}; the archive is refused whole")
        seen.add(entry.filename.rstrip("/"))


def _danger(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> str | None:
    """What is wrong with one entry, or None."""
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if escapes(name) or escapes(entry.filename):
        return "leads out of the archive"
    if "\0" in name or "\\" in name or {"", "."} & set(name.removesuffix("/").split("/")):
        return "has a path that is not parts joined by single slashes"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if kind == stat.S_IFLNK else "is neither a file nor a folder"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.compress_type not in _METHODS:
        return "is packed by a rare method (only stored and deflated are read)"
    if entry.file_size > limits.ratio_from and entry.file_size > limits.ratio * max(entry.compress_size, 1):
        return f"unpacks to {entry.file_size:,} bytes from {entry.compress_size:,}, as a zip bomb does"
    return None
