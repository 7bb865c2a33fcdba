"""Sources of data sets: `open_dataset` lists folders, tables of files, archives, arrays and synthetic faces.

Listing only: no image is decoded here. Symbolic links are never followed; they are listed as broken. Everything is
sorted, so the same files give the same data set on every machine. docs/data.md shows each kind.
"""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

from facewright.data import arrays
from facewright.data.addresses import join_address, refuse_options, split_address, with_options
from facewright.data.image_records import ContentSource, FileSource, Record, reason_of
from facewright.data.label_files import UNLABELLED
from facewright.data.layouts import EXPECTED, arrange
from facewright.data.packed import TAR, is_archive, open_archive, open_tars
from facewright.data.records import Dataset, merge_broken
from facewright.data.remote_files import RemoteSource, exists, fetch, is_remote, list_remote
from facewright.data.trees import PACKED, Tree, list_folder
from facewright.errors import DataError
from facewright.input_spec import ColourOrder

_PICKLE = "a file that can only be unpickled is never opened; save its arrays by numpy.savez(input=…, target=…)"
_UNREAD = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "spreadsheets are not supported; save it as CSV"),
    **dict.fromkeys((".pkl", ".pickle", ".pkz", ".pt", ".pth", ".joblib"), _PICKLE),
    ".npy": "an .npy is one array; save images and labels together by numpy.savez(input=…, target=…) and give the .npz",
    ".mat": "a .mat is not read; give the folder of images, whose names often say enough (imdb-wiki), or save a CSV",
    **dict.fromkeys((".h5", ".hdf5"), "HDF5 is not read; save the arrays by numpy.savez(input=…, target=…)"),
}  # kinds of files that people have, and what to do
_OF_FILES = ("columns", "label-from", "layout", "names")


def open_dataset(where: str | Path, colour_order: ColourOrder | None = None, *, labels: bool = True) -> Dataset:
    """List the data set at `where`.

    Args:
        where: a folder, a .csv, .tsv, .zip, .tar, .tar.gz, .rec, .parquet, .arrow or .npz, or "synthetic:…".
            Options stand in it, as "photos/?layout=folders" (`addresses.with_options`
            puts them there).
        colour_order: of an .npz, where `where` does not say it; None is RGB.
        labels: False: a label file needs no column of labels, because the targets stand in other columns.
    Returns:
        A data set whose records are sorted by path and whose classes are sorted by name (by code point, in Unicode's
        form NFC: names that differ in case only are two classes, and `notes` says so).
    Raises:
        EmptyClass: a class has no image; names it.
        BadArchive: an archive with a dangerous entry, refused whole.
        UsageError: an option that does not apply, or an .npz of floating point without its range.
        DataError: anything else that cannot be understood; says what was expected, what came and what to do.
    """
    address = with_options(str(where), {"colour-order": colour_order})
    tree = open_tree(address)
    return _open_pixels(address) if tree is None else _arranged(tree, address, labels)


def open_images(where: str | Path, *, labels: bool = True) -> Dataset:
    """As `open_dataset`; but loose images, without folders and texts, are a data set without labels."""
    tree = open_tree(str(where))
    if tree is None or tree.folders or tree.texts or not tree.files:
        return open_dataset(where, labels=labels) if tree is None else _arranged(tree, str(where), labels)
    return unlabelled(tree)


def unlabelled(tree: Tree) -> Dataset:
    """Return every image of a tree, without labels."""
    records = tuple(Record(path, None) for path in sorted(tree.files))
    return _movable(Dataset(tree.name, tree.where, (), records, tree.source, merge_broken(tree.broken, ())))


def open_tree(address: str) -> Tree | None:
    """List the files at an address, whatever they mean; None where it is no files: an .npz, "synthetic:…".

    Raises DataError: there is nothing, or nothing of a known kind. BadArchive, UsageError: as `open_dataset`.
    """
    if address.startswith("synthetic:"):
        return None
    file, options = split_address(address)
    if is_remote(file) and not file.startswith("file://"):
        return _remote_tree(file, options)
    file = file.removeprefix("file://")
    try:
        path = Path(file).resolve(strict=True)
        mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a link that leads to itself, on Python 3.11
        missing = isinstance(error, FileNotFoundError)
        why = "there is no such file or folder" if missing else f"it cannot be opened ({reason_of(error)})"
        raise DataError(f"{address}: {why}") from error
    suffix = path.suffix.lower() if stat.S_ISREG(mode) else ""
    if suffix == ".npz":
        return None
    refuse_options(address, options, _OF_FILES, "images in files, which say it themselves")
    if stat.S_ISDIR(mode):
        return _with_tars(_listed(path, address))
    if stat.S_ISREG(mode) and is_archive(path):
        return open_archive(path)
    if suffix in PACKED:
        return Tree(str(path), path.stem, FileSource(str(path.parent)), packed=[path.name])
    if suffix in (".csv", ".tsv") or (suffix == ".txt" and options):
        return Tree(str(path), path.stem, FileSource(str(path.parent)), texts=[path.name], whole=False)
    if suffix in _UNREAD:
        raise DataError(f"{address}: {_UNREAD[suffix]}")
    kind = "a file" if stat.S_ISREG(mode) else "something"
    raise DataError(f"{address}: {kind} of an unknown kind; {EXPECTED}")


def _listed(path: Path, address: str) -> Tree:
    """The tree of a folder. Raises DataError where it holds nothing but files of an unread kind."""
    tree = list_folder(path)
    if not (tree.files or tree.packed or tree.folders):
        unread = sorted(one for one in path.iterdir() if one.suffix.lower() in _UNREAD)
        if unread:
            raise DataError(f"{address}: found no image; {unread[0].name}: {_UNREAD[unread[0].suffix.lower()]}")
    return tree


def _remote_tree(address: str, options: dict[str, str]) -> Tree | None:
    """The tree at the address of a bucket or a server: loose images stay there, packed ones are copied once."""
    file = address.partition("?")[0] if address.startswith("http") else address
    folder, _, name = file.rpartition("/")
    suffix = Path(name).suffix.lower()
    tree: Tree | None
    if suffix == ".npz":
        return None
    if suffix in (".csv", ".tsv"):
        tree = list_remote(folder)
        tree.texts = [name]
    elif suffix == ".rec":
        beside = [f"{name[:-4]}.idx", f"{name[:-4]}.lst", "property"]
        copies = fetch(folder, [name, *(one for one in beside if exists(f"{folder}/{one}"))])
        tree = open_tree(join_address(str(copies / name), options))
    elif suffix in (".zip", *PACKED) or file.lower().endswith(TAR):
        tree = open_tree(join_address(str(fetch(address)), options))
    else:
        tree = list_remote(address)
        if tree.packed and not tree.files:
            tree = _with_tars(list_folder(fetch(address, [*tree.packed, *tree.texts])))
    if tree is not None:
        tree.where, tree.name = address.rstrip("/"), name.partition(".")[0] or tree.name
    return tree


class FetchedSource(ContentSource):
    """The source of files that were copied from an address; elsewhere it copies and lists them again."""

    def __init__(self, address: str, source: Any) -> None:
        self.address, self._source = address, source

    @property
    def source(self) -> Any:
        """The source of the copies on this machine."""
        if self._source is None:
            data = open_images(self.address, labels=False)
            assert isinstance(data.source, FetchedSource)
            self._source = data.source.source
        return self._source

    def stamp(self, record: Record) -> str:
        """As `PixelSource.stamp`."""
        return str(self.source.stamp(record))

    def content(self, name: str) -> bytes:
        """Return the bytes of the image called `name`. Raises BadImage."""
        return self.source.content(name)  # type: ignore[no-any-return]

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address, "_source": None}


def _movable(data: Dataset) -> Dataset:
    """Have the copies of remote files found again by a process on another machine."""
    if not is_remote(data.where) or isinstance(data.source, (RemoteSource, FetchedSource)):
        return data
    return replace(data, source=FetchedSource(data.where, data.source))


def _arranged(tree: Tree, address: str, labels: bool) -> Dataset:
    options = split_address(address)[1]
    data = arrange(tree, options if labels else {**options, UNLABELLED: "yes"})
    return _movable(replace(data, where=join_address(data.where, options)))


def _open_pixels(address: str) -> Dataset:
    if address.startswith("synthetic:"):
        from facewright.data.synthetic import open_synthetic  # needed by nobody else

        return open_synthetic(address)
    file, options = split_address(address)
    refuse_options(address, options, ("colour-order", "range"), "an .npz")
    if is_remote(file) and not file.startswith("file://"):
        return replace(arrays.open_arrays(fetch(file), options), where=address)
    return arrays.open_arrays(Path(file.removeprefix("file://")).resolve(), options)


def _with_tars(tree: Tree) -> Tree:
    """A folder of tars and no image is one set in parts: the tree in all of them."""
    tars = [Path(tree.where, name) for name in tree.packed if name.lower().endswith(TAR)]
    return open_tars(tars, Path(tree.where)) if tars and not tree.files else tree
