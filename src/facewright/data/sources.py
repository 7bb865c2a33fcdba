"""Where a data set comes from: `open_dataset` lists folders, tables of files, archives and drawn faces.

Listing only: no picture is decoded here. Symbolic links are never followed; they are listed as broken. Everything is
sorted, so the same files give the same data set on every machine. What `open_dataset` knows is the table `_OPENERS`;
a new kind is one function and one row.

    faces/ann/1.jpg …                      a folder per class
    faces/train/ann/1.jpg …                the same in train/, val/ and test/ (validation/ and valid/ are val/)
    faces.csv, faces.tsv                   a header `path,label[,identity][,split]`: tables.py
    faces.zip                              a folder per class, or split folders, in an archive: archives.py
    faces/img/000001.jpg … label.txt       numbered pictures and their labels, one a line; also in a .zip: numbered.py
    faces.npz, faces.npz?colour-order=bgr  pictures and targets in arrays: arrays.py
    synthetic:faces?identities=20          faces drawn on demand
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from facewright.data import archives, arrays, numbered
from facewright.data.folders import FileSource, list_folder, said
from facewright.data.records import SPLIT_NAMES, Broken, Dataset, Listing, Record, merge_broken
from facewright.data.tables import open_table
from facewright.errors import DataError, EmptyClass
from facewright.input_spec import ColourOrder

_EXPECTED = (
    "expected a folder per class (faces/ann/1.jpg, faces/bob/1.jpg), train/ val/ test/ folders that each hold a folder "
    "per class, a .csv or .tsv with the columns path,label[,identity][,split], numbered pictures with a label file "
    "(train_img/000001.jpg …, label_train.txt), a .zip of any of these folders, an .npz, or synthetic:faces"
)


def open_dataset(where: str | Path, colour_order: ColourOrder | None = None) -> Dataset:
    """List the data set at `where`.

    Args:
        where: a folder, a .csv, .tsv, .zip or .npz, or "synthetic:…"; the kinds are at the top of this file.
        colour_order: of an .npz, where `where` does not say it; None is RGB. The data set's own `where` says it, so
            that opening that gives the same pixels.
    Returns:
        A data set whose records are sorted by path and whose classes are sorted by name (by code point: two names that
        differ in case or in Unicode form only are two classes).
    Raises:
        EmptyClass: a class has no picture; names it.
        BadArchive: an archive with a dangerous entry, refused whole.
        UsageError: a colour order for what is no .npz, or an .npz of floating point without its range.
        DataError: anything else that cannot be understood; says what was expected, what came and what to do.
    """
    address = arrays.with_colour_order(str(where), colour_order)
    if address.startswith("synthetic:"):
        from facewright.data.synthetic import open_synthetic  # drawing is needed by nobody else

        return open_synthetic(address)
    file, query = arrays.without_query(address)
    try:
        path = Path(file).resolve(strict=True)
        found = path.stat()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link that leads to itself, on Python 3.11
        missing = isinstance(error, FileNotFoundError)
        why = "there is no such file or folder" if missing else f"it cannot be opened ({said(error)})"
        raise DataError(f"{where}: {why}; {_EXPECTED}") from error
    for opener in _OPENERS:
        if opener.accepts(path, found):
            return opener.open(path, query)
    raise DataError(
        f"{where}: {_EXPECTED}; got {'a file' if stat.S_ISREG(found.st_mode) else 'something'} of another kind"
    )


def _open_folder(path: Path) -> Dataset:
    return _arrange(path.name, list_folder(path), FileSource(str(path)))


def _arrange(name: str, listing: Listing, source: FileSource | archives.ArchiveSource) -> Dataset:
    """Classes and records of a tree: numbered pictures, a folder per class, or the same under split folders."""
    by_number = numbered.parts(listing)
    if by_number:
        return numbered.arrange(name, listing, by_number, source)
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
    ordered = tuple(sorted(records, key=lambda record: record.path))
    return Dataset(name, listing.where, classes, ordered, source, merge_broken(broken, ()))


def _split_folders(listing: Listing) -> dict[str, str]:
    """Top folder → split where the tree is laid out by splits, else empty.

    Folders called train and test are split folders only where every top folder has such a name and one of them holds
    folders; otherwise they are classes (toy trains).
    """
    tops = [folder for folder in listing.folders if "/" not in folder]
    splits = {folder: SPLIT_NAMES.get(folder.casefold(), "") for folder in tops}
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
        hint = "" if splits else "; of several data sets open one; of splits keep only train, val and test"
        found = f"found some in {nested[0]}/{hint}"
        raise DataError(f"{listing.where}: expected pictures directly in each class folder; {found}")
    empty = [folder for folder in class_folders if folder not in filled]
    if empty:
        left_out = next((f" ({b.path} {b.reason})" for b in listing.broken if _within(empty[0], b.path)), "")
        raise EmptyClass(
            f"{listing.where}: expected at least one picture in each class folder; found none in "
            f"{', '.join(f'{folder}/' for folder in empty)}{left_out}; add some or remove the folder"
        )


def _top(path: str) -> str:
    return path.partition("/")[0]


def _within(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _open_archive(path: Path) -> Dataset:
    listing, source = archives.open_archive(path)
    return _arrange(path.stem, listing, source)


@dataclass(frozen=True)
class _Opener:
    """One kind of data set: what it accepts, by path and `stat`, and how it is opened."""

    accepts: Callable[[Path, os.stat_result], bool]
    open: Callable[[Path, str], Dataset]  # and the query of the address, which only an .npz has


_OPENERS: tuple[_Opener, ...] = (
    _Opener(lambda path, found: stat.S_ISDIR(found.st_mode), lambda path, _: _open_folder(path)),
    _Opener(lambda path, found: _is_file(path, found, ".csv", ".tsv"), lambda path, _: open_table(path)),
    _Opener(lambda path, found: _is_file(path, found, ".zip"), lambda path, _: _open_archive(path)),
    _Opener(lambda path, found: _is_file(path, found, ".npz"), arrays.open_arrays),
)


def _is_file(path: Path, found: os.stat_result, *suffixes: str) -> bool:
    return stat.S_ISREG(found.st_mode) and path.suffix.lower() in suffixes
