"""Sources of data sets: `open_dataset` lists folders, tables of files, archives, arrays and synthetic faces.

Listing only: no image is decoded here. Symbolic links are never followed; they are listed as broken. Everything is
sorted, so the same files give the same data set on every machine. A tree of files is read by the first layout that
recognizes it; `--layout NAME` overrules. docs/data.md shows each kind.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from facewright.data.addresses import join_address, refuse_options, split_address, with_options
from facewright.data.archives import may_hold_labels
from facewright.data.arrays import open_arrays
from facewright.data.folder_layouts import (
    dataset_of_folders,
    dataset_of_names,
    dataset_of_numbered,
    label_files,
    looks_like_splits_only,
    rows_of_folders,
)
from facewright.data.image_records import ContentSource, FileSource, Record, reason_of
from facewright.data.known_layouts import FACE_LAYOUTS
from facewright.data.label_files import (
    UNLABELLED,
    LabelTable,
    class_names,
    dataset_of_labels,
    is_listed,
    read_label_table,
)
from facewright.data.layout_reading import Layout, packed_alone
from facewright.data.packed import TAR, is_archive, open_archive, open_tars
from facewright.data.parquet_files import KINDS, read_parquet
from facewright.data.record_files import is_webdataset, read_rec, read_webdataset
from facewright.data.records import SPLIT_NAMES, Dataset, merge_broken
from facewright.data.remote_files import RemoteSource, exists, fetch, is_remote, list_remote
from facewright.data.text_tables import text_of
from facewright.data.trees import PACKED, Tree, list_folder
from facewright.errors import DataError, EmptyClass, UnknownName, UsageError
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
EXPECTED = (
    "expected a folder per class (faces/ann/1.jpg, faces/bob/1.jpg), train/ val/ test/ folders that each hold a folder "
    "per class, images with a label file (labels.csv with the columns path,label), a .csv or .tsv alone, numbered "
    "images (train_img/000001.jpg …, label_train.txt), a .zip or .tar of any of these folders, WebDataset shards, "
    "a .rec, a .parquet or .arrow with images, an .npz, or synthetic:faces"
)
_MOST_TEXTS = 1_000
_GENERIC = ("folders", "labels", "numbered")
_PLAIN_FOLDERS = {"images", "image", "imgs", "img", "photos", "faces", "data", "jpg", "png", "files", "all"}
KNOWN: tuple[Layout, ...] = (
    Layout("rec", partial(packed_alone, kinds=(".rec",)), read_rec),
    Layout("parquet", partial(packed_alone, kinds=KINDS), read_parquet),
    Layout("webdataset", is_webdataset, read_webdataset),
    *FACE_LAYOUTS,
)


def open_dataset(where: str | Path, colour_order: ColourOrder | None = None, *, labels: bool = True) -> Dataset:
    """List the data set at `where`.

    Args:
        where: a folder, a .csv, .tsv, .zip, .tar, .tar.gz, .rec, .parquet, .arrow or .npz, or "synthetic:…".
            Options stand in it, as "photos/?layout=folders" (`addresses.with_options` puts them there).
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
    if tree is None:
        return _open_pixels(str(where))
    bare = tree.files and not (tree.folders or tree.texts)
    return unlabelled(tree) if bare else _arranged(tree, str(where), labels)


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


def _with_tars(tree: Tree) -> Tree:
    """A folder of tars and no image is one set in parts: the tree in all of them."""
    tars = [Path(tree.where, name) for name in tree.packed if name.lower().endswith(TAR)]
    return open_tars(tars, Path(tree.where)) if tars and not tree.files else tree


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


def _open_pixels(address: str) -> Dataset:
    if address.startswith("synthetic:"):
        from facewright.data.synthetic import open_synthetic  # needed by nobody else

        return open_synthetic(address)
    file, options = split_address(address)
    refuse_options(address, options, ("colour-order", "range"), "an .npz")
    if is_remote(file) and not file.startswith("file://"):
        return replace(open_arrays(fetch(file), options), where=address)
    return open_arrays(Path(file.removeprefix("file://")).resolve(), options)


def _arranged(tree: Tree, address: str, labels: bool) -> Dataset:
    options = split_address(address)[1]
    data = _arrange(tree, options if labels else {**options, UNLABELLED: "yes"})
    return _movable(replace(data, where=join_address(data.where, options)))


def _arrange(tree: Tree, options: Mapping[str, str]) -> Dataset:
    """Make a data set of a tree, by the layout that is chosen or recognized.

    Raises UnknownName: no such layout. DataError: no layout fits, or it is in doubt which does.
    """
    _leave_out_captions(tree)
    chosen = options.get("layout")
    known = {layout.name: layout for layout in KNOWN}
    if chosen is not None and chosen not in (*known, *_GENERIC):
        raise UnknownName("layout", chosen, (*known, *_GENERIC))
    if "label-from" in options:
        pattern = options["label-from"]
        return dataset_of_names(tree, pattern, options, layout="names", notes=(f"labels are the paths' {pattern}",))
    for layout in KNOWN:
        reason = layout.recognizes(tree) if chosen is None else ""
        if chosen != layout.name and not reason:
            continue
        try:
            data = layout.read(tree, options)
        except UnknownName:  # a column of a label file that lies beside
            if chosen is not None or not tree.texts:
                raise
            continue
        why = f"read as {layout.name}: {reason}" if reason else f"read as {layout.name}, as asked"
        return replace(data, layout=layout.name, notes=(why, *data.notes))
    return _generic(tree, options, chosen)


def _leave_out_captions(tree: Tree) -> None:
    """Of more texts than a data set has label files, keep those that may be one; the others are captions."""
    if len(tree.texts) > _MOST_TEXTS:
        tree.texts = [text for text in tree.texts if may_hold_labels(text)]
    if len(tree.texts) > _MOST_TEXTS:
        raise DataError(f"{tree.where}: {len(tree.texts):,} files may be label files; expected up to {_MOST_TEXTS:,}")


def _generic(tree: Tree, options: Mapping[str, str], chosen: str | None) -> Dataset:
    """A label file, numbered images or class folders: the one that fits, or the one that is chosen."""
    names = class_names(options.get("names"))
    tables, left = _label_tables(tree, options) if chosen in (None, "labels") else ([], [])
    why = "".join(f"; {note}" for note in left)
    if not tables and (chosen == "labels" or "columns" in options or not tree.whole):
        raise DataError(f"{tree.where}: found no label file (a .csv, .tsv or .txt, a row an image){why}; {EXPECTED}")
    if tables and (chosen == "labels" or not _folders_agree(tree, tables, options)):
        note = f"labels are read from {' and '.join(table.name for table in tables)}"
        return dataset_of_labels(tree, tables, options, layout="labels", notes=(note, *left))
    numbered = label_files(tree) if chosen in (None, "numbered") else ()
    if numbered or chosen == "numbered":
        if not numbered:
            raise DataError(f"{tree.where}: expected numbered images and a label file (labels.txt) for their folder")
        return dataset_of_numbered(tree, numbered, names, layout="numbered")
    if chosen is None and looks_like_splits_only(tree):
        raise DataError(
            f"{tree.where}: {' and '.join(f for f in tree.folders)} hold images without classes; expected class "
            f"folders or a label file{why}; if these are the classes, say --layout folders"
        )
    if chosen is None and not tree.folders and tree.files:
        raise DataError(_about_names(tree) + why)
    data = dataset_of_folders(tree, EXPECTED, names, layout="folders")
    agree = (f"{' and '.join(table.name for table in tables)} agrees with the folders",) if tables else ()
    return replace(data, notes=(*agree, *left, *data.notes))


def _label_tables(tree: Tree, options: Mapping[str, str]) -> tuple[list[LabelTable], list[str]]:
    """The label files of a tree whose images are there, and what is said of the other tables."""
    tables, left, refused = list[LabelTable](), list[str](), list[UsageError]()
    for text in tree.texts:
        if tree.whole and "submission" in text.rpartition("/")[2].casefold():
            left.append(f"{text} is left alone: it is a form to fill in (predict --template)")
            continue
        try:
            table = _label_table(tree, text, options)
        except UsageError as error:  # the columns are those of another text
            refused.append(error)
        except DataError as error:
            if not tree.whole or _names_images(tree, tree.source.content(text)):
                raise
            left.append(f"{text} is left alone: {str(error).partition(': ')[2] or error}")  # a table of something else
        else:
            if table is not None:
                tables.append(table)
            elif text.casefold().endswith((".csv", ".tsv")):
                left.append(f"{text} is left alone: it names no image that is here, or no label of one")
    if refused and not tables:
        raise refused[0]
    return tables, left


def _label_table(tree: Tree, text: str, options: Mapping[str, str]) -> LabelTable | None:
    columns, content = options.get("columns"), tree.source.content(text)
    try:
        table = read_label_table(text, content, columns, tree)
    except DataError:
        if tree.whole and text.casefold().endswith(".txt"):
            return None  # notes
        raise
    if table is None or not tree.whole or columns is not None:
        return table
    if "image" not in table.roles or not ({"label", "identity"} & set(table.roles) or UNLABELLED in options):
        return None
    listed = (values[table.roles["image"]] for _, values in table.rows[:200] if table.roles["image"] < len(values))
    return table if any(is_listed(name, text, tree) for name in listed) else None


def _names_images(tree: Tree, content: bytes) -> bool:
    head = text_of(content[: 2**16], "replace").casefold()
    cells = {cell.strip() for cell in re.split(r"[,;\t\r\n\" ]+", head)}
    names = [path.rpartition("/")[2].casefold() for path in tree.files[:1000]]
    return any(name in head for name in names) or sum(name.rpartition(".")[0] in cells for name in names) > 1


def _folders_agree(tree: Tree, tables: list[LabelTable], options: Mapping[str, str]) -> bool:
    """Tell whether class folders say the same as the label files beside them. Raises DataError: something else."""
    try:
        rows, _ = rows_of_folders(tree, EXPECTED)
    except (DataError, EmptyClass):
        return False
    folders = {row.label for row in rows}
    plain = {folder for folder in folders if folder.casefold() in (*_PLAIN_FOLDERS, *SPLIT_NAMES)}
    if len(folders) == 1 or plain == folders or "columns" in options:
        return False
    said = dataset_of_labels(tree, tables, options)
    of_folder = {row.path: row.label for row in rows}
    pairs = {(of_folder.get(record.path), record.label) for record in said.records}
    if len({folder for folder, _ in pairs}) == len(pairs) == len({label for _, label in pairs}):
        return True
    raise DataError(
        f"{tree.where}: the folders say {len(folders)} classes ({', '.join(sorted(folders)[:3])} …) and "
        f"{tables[0].name} says {len(said.classes)} ({', '.join(said.classes[:3])} …); "
        "say which counts: --layout folders or --layout labels"
    )


def _about_names(tree: Tree) -> str:
    """The error for images that no folder and no list gives a class."""
    pattern = r"(?P<label>.+)_\d+\.\w+"
    fits = all(re.fullmatch(pattern, path.rpartition("/")[2]) for path in tree.files)
    hint = f"; their names fit --label-from '{pattern}'" if fits else ""
    return f"{tree.where}: found {len(tree.files)} images without class folders{hint}; {EXPECTED}"
