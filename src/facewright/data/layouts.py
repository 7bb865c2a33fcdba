"""The face data sets that people have, as they come: one table, a row and a short reader each.

A row says how its layout is recognized and how it is read. They are tried in order; the first that recognizes a tree
reads it, and `--layout NAME` overrules. What no row knows is a label file, numbered images or class folders: the last
rows of the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from facewright.data.archives import may_hold_labels
from facewright.data.folder_layouts import (
    dataset_of_folders,
    dataset_of_names,
    dataset_of_numbered,
    label_files,
    looks_like_splits_only,
    rows_of_folders,
)
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
from facewright.data.parquet_files import KINDS, read_parquet
from facewright.data.record_files import is_webdataset, read_rec, read_webdataset
from facewright.data.records import SPLIT_NAMES, Dataset
from facewright.data.text_tables import text_of
from facewright.data.trees import Tree
from facewright.errors import DataError, EmptyClass, UnknownName, UsageError

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


def arrange(tree: Tree, options: Mapping[str, str]) -> Dataset:
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
        raise DataError(
            f"{tree.where}: found no label file (a .csv, .tsv or .txt with a row an image){why}; {EXPECTED}"
        )
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
    plain = len(folders) == 1 or all(
        folder.casefold() in _PLAIN_FOLDERS or folder.casefold() in SPLIT_NAMES for folder in folders
    )
    if plain or "columns" in options:
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
