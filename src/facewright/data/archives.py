"""Images inside a zip, read in memory: nothing is ever extracted to the disk. What holds for a tar too stands here.

An archive is refused whole when one entry is dangerous: a path that leaves the archive (`..`, absolute), a link, a name
that cannot be seen, two entries of one name, an encrypted entry, or when it declares more than `ArchiveLimits` (a zip
bomb). Half an archive is never used: whoever made one bad entry may have made the others too.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from facewright.data.image_records import ContentSource, Record, stamp_of, within_limit
from facewright.data.trees import Tree, add_name
from facewright.errors import BadArchive, BadImage, DataError
from facewright.images import is_hidden, is_image
from facewright.names import invisible


@dataclass(frozen=True)
class ArchiveLimits:
    """The largest archive that is opened, all by what it declares."""

    entries: int = 1_000_000  # files and folders
    directory: int = 128 * 2**20  # bytes of its table of contents, checked before that is read
    bytes: int = 256 * 2**30  # of all entries, unpacked
    ratio: float = 200.0  # unpacked to packed bytes of one entry that unpacks to more than `ratio_from`
    ratio_from: int = 2**20


_DEFAULT_LIMITS = ArchiveLimits()
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def escapes(path: str) -> bool:
    """Tell whether a path with / or \\ between its parts could lead out of the folder it is relative to.

    >>> [escapes(path) for path in ("ann/1.jpg", "../1.jpg", "/etc/passwd", "C:/x", "a/../b", "a..b/1.jpg")]
    [False, True, True, True, True, False]
    """
    return path.startswith(("/", "\\")) or path[1:2] == ":" or (".." in path and ".." in re.split(r"[/\\]", path))


def path_inside(text: str, where: str) -> str:
    """Return a path of a list, / between its parts. Raises DataError, called `where`: it leads out of the folder."""
    path = text.replace("\\", "/")
    if not path or "\0" in path or escapes(path):
        raise DataError(f"{where}: expected a path inside the folder of images, got {text!r:.200}")
    return PurePosixPath(path).as_posix()


class ArchiveSource(ContentSource):
    """Pixels of a zip's entries. Safe to share between threads, to fork and to pickle.

    Args:
        inside: the folder in the zip that record paths are relative to; "" or "faces/".
        stored: path in the archive → name of the entry, where that is written otherwise (`.\\ann\\1.jpg`).
    """

    def __init__(self, path: str, inside: str = "", stored: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.inside = inside
        self.stored = dict(stored or {})
        self._lock = threading.Lock()
        self._zip: zipfile.ZipFile | None = None
        self._owner = 0

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`, of the archive."""
        return stamp_of(Path(self.path), record.path)

    def content(self, name: str) -> bytes:
        """Return the bytes of the entry called `name`. Raises BadImage."""
        try:
            archive = self._open()
            entry = archive.getinfo(self.stored.get(self.inside + name, self.inside + name))
            with archive.open(entry) as file:
                return file.read(within_limit(name, entry.file_size) + 1)
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
        return {"path": self.path, "inside": self.inside, "stored": self.stored}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


@dataclass(frozen=True)
class ArchivedImage:
    """An image in an archive, where a file would do."""

    where: str  # of the archive
    source: ContentSource
    name: str

    def __str__(self) -> str:
        return f"{self.where}/{self.name}"

    def content(self) -> bytes:
        """Return its bytes. Raises BadImage."""
        return self.source.content(self.name)


def open_zip(path: Path, limits: ArchiveLimits = _DEFAULT_LIMITS) -> Tree:
    """Return the tree in a zip, after every entry has been found harmless.

    A single folder around everything (faces/ann/1.jpg in faces.zip) is looked through. Raises BadArchive: see the top
    of this file; names the entry and says why.
    """
    stored = checked_entries(path, limits)
    inside, tree = tree_of(path, {name: entry.is_dir() for name, entry in stored.items()})
    written = {name: entry.filename for name, entry in stored.items() if entry.filename.rstrip("/") != name}
    tree.source = ArchiveSource(str(path), inside, written)
    return tree


def tree_of(path: Path, names: Mapping[str, bool]) -> tuple[str, Tree]:
    """Return the folders around everything ("faces/"), and the tree, without them, of names (name → is it a folder)."""
    shown = [name for name in names if not is_hidden(name)]
    folders = {name for name in shown if names[name]}
    files = [name for name in shown if not names[name]]
    parents = {name.rpartition("/")[0] for name in (*files, *folders)} - {""}
    while parents:
        folders |= parents
        parents = {name.rpartition("/")[0] for name in parents} - {""} - folders
    inside = _wrapper(files, folders)
    tree = Tree(str(path), path.stem.removesuffix(".tar"), ArchiveSource(str(path), inside))
    for name in sorted(folders):
        if name.startswith(inside) and name != inside.rstrip("/"):
            add_name(tree, name.removeprefix(inside), folder=True)
    for name in sorted(files):
        if name.startswith(inside):
            add_name(tree, name.removeprefix(inside))
    return inside, tree


def checked_entries(path: Path, limits: ArchiveLimits = _DEFAULT_LIMITS) -> dict[str, zipfile.ZipInfo]:
    """Return the table of contents of a zip, path → entry, of which every entry has been found harmless.

    Paths have single slashes between their parts, no `.` among them, and Unicode's form NFC.
    """
    try:
        directory = _directory_size(path)
        if directory > limits.directory:
            raise BadArchive(f"{path}: declares contents of {directory:,} bytes; the limit is {limits.directory:,}")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, EOFError, struct.error, zipfile.BadZipFile) as error:
        raise BadArchive(f"{path}: expected a zip; it cannot be opened ({error})") from error
    return _checked(path, entries, limits)


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


def _wrapper(files: list[str], folders: set[str]) -> str:
    """The folders around everything, each the only one and without files; a lone train/ is a split, not a wrapper."""
    inside = ""
    while True:
        below = {name[len(inside) :] for name in folders if name.startswith(inside) and len(name) > len(inside)}
        tops = {name for name in below if "/" not in name}
        if len(tops) != 1 or len(below) == 1 or next(iter(tops)).casefold() == "train":
            return inside
        deeper = f"{inside}{next(iter(tops))}/"
        if any(
            not file.startswith(deeper) or "/" not in file[len(deeper) :]
            for file in files
            if is_image(file) or may_hold_labels(file)
        ):
            return inside
        inside = deeper


_LABELS = re.compile(r"\.(csv|tsv)$|(label|list|split|partition|identity|train|test|annot)[^/]*\.txt$", re.IGNORECASE)


def may_hold_labels(name: str) -> bool:
    """Tell whether a file may be a label file, by its name."""
    return _LABELS.search(name) is not None


def _checked(path: Path, entries: list[zipfile.ZipInfo], limits: ArchiveLimits) -> dict[str, zipfile.ZipInfo]:
    if len(entries) > limits.entries:
        raise BadArchive(f"{path}: has {len(entries):,} entries; the limit is {limits.entries:,}")
    unpacked, packed = sum(e.file_size for e in entries), sum(e.compress_size for e in entries)
    if unpacked > limits.bytes:
        raise BadArchive(f"{path}: declares {unpacked:,} bytes unpacked; the limit is {limits.bytes:,}")
    if packed > path.stat().st_size:
        raise BadArchive(f"{path}: its entries overlap (they declare more bytes than the file has); refused whole")
    stored: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name, reason = plain_path(entry.filename), _danger(entry, limits)
        if reason is None and name in stored:
            reason = "comes twice"
        if reason is not None:
            raise BadArchive(f"{path}: entry {entry.filename[:200]!r} {reason}; the archive is refused whole")
        if name:
            stored[name] = entry
    return stored


def plain_path(name: str) -> str:
    """Return a name in an archive with single slashes between its parts, without `.` parts, in Unicode's form NFC."""
    name = name.rstrip("/")
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if "\\" in name or name.startswith("./") or name == ".":
        name = "/".join(part for part in name.replace("\\", "/").split("/") if part != ".").rstrip("/")
    return name


def danger_of_name(name: str) -> str | None:
    """Return the reason why a name in an archive is dangerous, or None."""
    path = plain_path(name)
    if escapes(name):
        return "leads out of the archive"
    if "\0" in name or "//" in path or "/./" in path or path.startswith("/"):
        return "has a path that is not parts joined by single slashes"
    hidden = None if path.isascii() and path.isprintable() else invisible(path)
    return None if hidden is None else f"has a name with the invisible character {hidden}"


def _danger(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if reason := danger_of_name(entry.orig_filename) or danger_of_name(entry.filename):
        return reason
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link" if kind == stat.S_IFLNK else "is neither a file nor a folder"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.compress_type not in _METHODS:
        return "is packed by a rare method (only stored and deflated are read)"
    if entry.file_size > limits.ratio_from and entry.file_size > limits.ratio * max(entry.compress_size, 1):
        return f"unpacks to {entry.file_size:,} bytes from {entry.compress_size:,}, as a zip bomb does"
    return None
