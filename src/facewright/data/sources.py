"""Where a data set comes from: `open_dataset` lists folders, tables of files, archives and drawn faces.

Listing only: no picture is decoded here. Symbolic links are never followed; they are listed as broken. Everything is
sorted, so the same files give the same data set on every machine. What `open_dataset` knows is the table `_OPENERS`;
a new kind is one function and one row.

    faces/ann/1.jpg …                      a folder per class
    faces/train/ann/1.jpg …                the same in train/, val/ and test/ (validation/ and valid/ are val/)
    faces.csv, faces.tsv                   a header `path,label[,identity][,split]`, paths relative to the file's folder
    synthetic:faces?identities=20          faces drawn on demand
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.data import archives
from facewright.data.records import SPLITS, Broken, Dataset, Listing, PixelSource, Record, merge_broken
from facewright.errors import BadImage, DataError, EmptyClass

# What people call the three parts, folded to lower case.
_SPLIT_NAMES = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
_COLUMNS = ("path", "label", "identity", "split")
_EXPECTED = (
    "expected a folder per class (faces/ann/1.jpg, faces/bob/1.jpg), train/ val/ test/ folders that each hold a folder "
    "per class, a .csv or .tsv with the columns path,label[,identity][,split], a .zip of a folder per class, or "
    "synthetic:faces"
)


def open_dataset(where: str | Path) -> Dataset:
    """List the data set at `where`.

    Args:
        where: a folder, a .csv, .tsv or .zip, or "synthetic:…"; the kinds are at the top of this file.
    Returns:
        A data set whose records are sorted by path and whose classes are sorted by name (by code point: two names that
        differ in case or in Unicode form only are two classes).
    Raises:
        EmptyClass: a class has no picture; names it.
        BadArchive: an archive with a dangerous entry, refused whole.
        DataError: anything else that cannot be understood; says what was expected, what came and what to do.
    """
    if isinstance(where, str) and where.startswith("synthetic:"):
        from facewright.data.synthetic import open_synthetic  # drawing is needed by nobody else

        return open_synthetic(where)
    try:
        path = Path(where).resolve(strict=True)
        found = path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link that leads to itself, on Python 3.11
        raise DataError(f"{where}: {_EXPECTED}; it cannot be opened ({_said(error)})") from error
    for opener in _OPENERS:
        if opener.accepts(path, found):
            return opener.open(path)
    raise DataError(
        f"{where}: {_EXPECTED}; got {'a file' if stat.S_ISREG(found.st_mode) else 'something'} of another kind"
    )


@dataclass(frozen=True)
class FileSource:
    """Pixels of files under one folder. Links met on the way are refused, also when they appeared after the listing."""

    root: str

    def read(self, record: Record, at_least: int | None) -> NDArray[np.uint8]:
        """As `PixelSource.read`."""
        return images.read(self._bytes(record), name=record.path, at_least=at_least)

    def content_key(self, record: Record) -> str:
        """As `PixelSource.content_key`: a digest of the file's bytes."""
        return hashlib.blake2b(self._bytes(record), digest_size=16).hexdigest()

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`: size, time of change and inode."""
        try:
            found = Path(self.root, record.path).lstat()
        except (OSError, ValueError) as error:
            raise BadImage(record.path, f"cannot be read ({_said(error)})") from error
        return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"

    def _bytes(self, record: Record) -> bytes:
        path = Path(self.root, record.path)
        if os.path.realpath(path) != str(path):
            raise BadImage(record.path, _LINK)
        return images.read_bytes(path, images.Limits(), record.path)


_LINK = "is a symbolic link, which is not followed; put the file itself there"


def _list_folder(root: Path) -> Listing:
    """The tree under `root`, four names deep, which is one more than a layout needs. Hidden names are left out."""
    listing = Listing(str(root))
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"{root / folder}: the folder cannot be listed ({_said(error)}); allow reading") from error
        for entry in found:
            if entry.name.startswith("."):
                continue
            path = f"{folder}/{entry.name}" if folder else entry.name
            reason = _left_out(entry)
            if reason is not None:
                listing.broken.append(Broken(path.encode("utf-8", "backslashreplace").decode(), reason))
            elif entry.is_dir(follow_symlinks=False):
                listing.folders.append(path)
                if path.count("/") < 3:
                    pending.append(path)
            elif archives.is_picture(entry.name):
                listing.files.append(path)
    return listing


def _left_out(entry: os.DirEntry[str]) -> str | None:
    """Why an entry of a folder is not used although somebody may think it is, or None."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 arrive as lone surrogates
        return "has a name that is not UTF-8; rename it"
    if entry.is_symlink():
        return _LINK
    if entry.is_dir(follow_symlinks=False):
        return None
    if archives.is_picture(entry.name) and not entry.is_file(follow_symlinks=False):
        return "is not a regular file"
    return archives.unread(entry.name)


def _open_folder(path: Path) -> Dataset:
    return _arrange(path.name, _list_folder(path), FileSource(str(path)))


def _arrange(name: str, listing: Listing, source: PixelSource) -> Dataset:
    """Classes and records from the names of a tree: a folder per class, or the same under split folders."""
    splits = _split_folders(listing)
    depth = 2 if splits else 1
    class_folders = [f for f in listing.folders if f.count("/") == depth - 1 and (not splits or _top(f) in splits)]
    _check_layout(listing, splits, class_folders)
    classes = tuple(sorted({PurePosixPath(folder).name for folder in class_folders}))
    label_of = {name: label for label, name in enumerate(classes)}
    records, broken = [], list(listing.broken)
    for path in listing.files:
        parts = path.split("/")
        if len(parts) == depth + 1:
            records.append(Record(path, label_of[parts[-2]], split=splits.get(parts[0])))
        else:
            broken.append(Broken(path, "lies outside every class folder; move it into one"))
    return _dataset(name, listing.where, classes, records, source, broken)


def _split_folders(listing: Listing) -> dict[str, str]:
    """Top folder → split where the tree is laid out by splits, else empty.

    Folders called train and test are split folders only where every top folder has such a name and one of them holds
    folders; otherwise they are classes (toy trains).
    """
    tops = [folder for folder in listing.folders if "/" not in folder]
    splits = {folder: _SPLIT_NAMES.get(folder.casefold(), "") for folder in tops}
    if "train" not in splits.values() or "" in splits.values() or len(tops) == len(listing.folders):
        return {}
    for folder in tops:
        twins = [other for other in tops if splits[other] == splits[folder]]
        if len(twins) > 1:
            raise DataError(f"{listing.where}: {' and '.join(twins)} both name the {splits[folder]} part; keep one")
        if not any(_top(other) == folder for other in listing.folders if other != folder):
            raise DataError(f"{listing.where}/{folder}: expected a folder per class in each split folder; found none")
    return splits


def _check_layout(listing: Listing, splits: dict[str, str], class_folders: list[str]) -> None:
    """Refuse what is no layout, in words that say what was found instead."""
    if not class_folders:
        found = f"{len(listing.files)} pictures without class folders" if listing.files else "no folder and no picture"
        raise DataError(f"{listing.where}: {_EXPECTED}; found {found}")
    filled = {path.rpartition("/")[0] for path in listing.files}
    depth = class_folders[0].count("/")
    nested = sorted(f for f in listing.folders if f.count("/") > depth and f in filled)
    if nested:
        hint = (
            ""
            if splits
            else "; if its top folders are data sets or splits, name one of them, or use only train, val, test"
        )
        raise DataError(
            f"{listing.where}: expected pictures directly in each class folder; found some in {nested[0]}/{hint}"
        )
    empty = [folder for folder in class_folders if folder not in filled]
    if empty:
        left_out = next((f" ({b.path} {b.reason})" for b in listing.broken if _within(empty[0], b.path)), "")
        raise EmptyClass(
            f"{listing.where}: expected at least one picture in each class folder; found none in "
            f"{', '.join(f'{folder}/' for folder in empty)}{left_out}; add some or remove the folder"
        )


def _dataset(
    name: str,
    where: str,
    classes: Sequence[str],
    records: Iterable[Record],
    source: PixelSource,
    broken: Iterable[Broken],
) -> Dataset:
    ordered = tuple(sorted(records, key=lambda record: record.path))
    return Dataset(name, where, tuple(classes), ordered, source, merge_broken(broken, ()))


def _top(path: str) -> str:
    return path.partition("/")[0]


def _within(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _open_archive(path: Path) -> Dataset:
    listing, source = archives.open_archive(path)
    return _arrange(path.stem, listing, source)


def _open_table(path: Path) -> Dataset:
    """A .csv or .tsv: one row a picture. A missing file is broken; a path that leaves the folder refuses the table."""
    root = path.parent
    records: dict[str, Record] = {}
    broken: list[Broken] = []
    rows = _rows(path)
    classes = sorted({row["label"] for _, row in rows})
    label_of = {name: label for label, name in enumerate(classes)}
    for line, row in rows:
        name = PurePosixPath(row["path"]).as_posix()
        if name in records:
            raise DataError(f"{path}: line {line}: {name} is listed twice; keep one row a picture")
        records[name] = Record(name, label_of[row["label"]], row["identity"] or None, row["split"] or None)
        reason = _unusable(root, name)
        if reason is not None:
            broken.append(Broken(name, reason))
    everything = _dataset(path.stem, str(path), classes, records.values(), FileSource(str(root)), ())
    return everything.without(broken)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, checked row) pairs; absent columns are empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table in UTF-8; it cannot be read ({_said(error)})") from error
    reader = csv.reader(io.StringIO(text), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        if len(set(header)) != len(header) or not {"path", "label"} <= set(header) <= set(_COLUMNS):
            raise DataError(f"{path}: expected the header path,label[,identity][,split]; got {','.join(header)!r}")
        rows.extend((reader.line_num, _row(path, reader.line_num, header, values)) for values in reader if values)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: cannot be read as a table ({error})") from error
    if not rows:
        raise DataError(f"{path}: expected a row a picture below the header; found none")
    if len({bool(row["split"]) for _, row in rows}) == 2:
        raise DataError(f"{path}: expected a split in every row or in none; some rows leave it empty")
    return rows


def _row(path: Path, line: int, header: list[str], values: list[str]) -> dict[str, str]:
    if len(values) != len(header):
        raise DataError(f"{path}: line {line}: expected {len(header)} values, got {len(values)}")
    row = dict.fromkeys(_COLUMNS, "") | {k: v.strip() for k, v in zip(header, values, strict=True)}
    name = row["path"].replace("\\", "/")
    if not name or "\0" in name or archives.escapes(name):
        raise DataError(f"{path}: line {line}: expected a path inside the table's folder, got {row['path']!r}")
    if not row["label"]:
        raise DataError(f"{path}: line {line}: the label of {row['path']} is empty")
    split = _SPLIT_NAMES.get(row["split"].casefold(), "") if row["split"] else ""
    if row["split"] and not split:
        raise DataError(f"{path}: line {line}: expected the split {', '.join(SPLITS)} or nothing, got {row['split']!r}")
    return row | {"path": name, "split": split}


def _unusable(root: Path, name: str) -> str | None:
    """Why the file called `name` cannot be used, or None."""
    path = root / name
    try:
        found = path.lstat()
    except (OSError, ValueError) as error:
        return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({_said(error)})"
    if os.path.realpath(path) != str(path):
        return _LINK
    return None if stat.S_ISREG(found.st_mode) else "is not a regular file"


def _said(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


@dataclass(frozen=True)
class _Opener:
    """One kind of data set: what it accepts, by path and `stat`, and how it is opened."""

    accepts: Callable[[Path, os.stat_result], bool]
    open: Callable[[Path], Dataset]


_OPENERS: tuple[_Opener, ...] = (
    _Opener(lambda path, found: stat.S_ISDIR(found.st_mode), _open_folder),
    _Opener(lambda path, found: _is_file(path, found, ".csv", ".tsv"), _open_table),
    _Opener(lambda path, found: _is_file(path, found, ".zip"), _open_archive),
)


def _is_file(path: Path, found: os.stat_result, *suffixes: str) -> bool:
    return stat.S_ISREG(found.st_mode) and path.suffix.lower() in suffixes
