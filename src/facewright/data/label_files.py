"""Label files: tables that say of each image what it shows, with any columns; and labels in file names.

A column's name tells what it holds where it leaves no doubt (`ROLES`), else `--columns image=filename,label=class`.
Columns without a role are kept as `Dataset.columns`. In doubt the error shows three rows and the option to type.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.data.archives import escapes, path_inside
from facewright.data.records import SPLIT_NAMES, Broken, Dataset, Labelled, split_of
from facewright.data.text_tables import Row, TextTable, decode, parse, read_table
from facewright.data.trees import Tree, folder_of, unlisted
from facewright.errors import DataError, UnknownName, UsageError
from facewright.images import is_image

ROLES: Mapping[str, tuple[str, ...]] = {
    "image": (
        *("path", "file", "filename", "file_name", "image", "image_path", "image_id", "image_name", "img", "img_name"),
        *("img_path", "id", "photo", "pth", "filepath", "file_path", "image_file", "fname"),
    ),
    "label": ("label", "class", "emotion", "expression", "target", "name", "class_name", "label_name", "category"),
    "split": ("split", "usage", "partition"),
    "identity": ("identity", "subject", "person", "identity_id", "subject_id", "person_id"),
}
UNLABELLED = "unlabelled"  # in the options of a reader: a label file needs no column of labels
_ROLE_OF = {name: role for role, names in ROLES.items() for name in names}
_LIKE = 0.8  # a column that is nearly called like a role is a slip
_BOX = ("x", "y", "w", "h")


@dataclass(frozen=True)
class LabelTable:
    """A label file, read and understood: column numbers by role, the other columns by name."""

    name: str
    table: TextTable
    rows: list[Row]
    roles: Mapping[str, int]
    others: Mapping[str, int]

    @property
    def label_column(self) -> str:
        """The name of the column that is the label; "" where it has none."""
        place = self.roles.get("label", self.roles.get("identity"))
        return "" if place is None or self.rows is self.table.rows else self.table.rows[0][1][place]


def chosen_columns(text: str | None) -> dict[str, str]:
    """Return role → column of `image=filename,label=class`. Raises UsageError, UnknownName."""
    chosen: dict[str, str] = {}
    for part in text.split(",") if text else ():
        role, mark, column = part.partition("=")
        if not mark or not column.strip() or role.strip() in chosen:
            raise UsageError(f"--columns {text}: expected ROLE=COLUMN, joined by commas, as image=filename,label=class")
        if role.strip() not in ROLES:
            raise UnknownName("role of a column", role.strip(), ROLES)
        chosen[role.strip()] = column.strip()
    return chosen


def class_names(text: str | None) -> dict[str, str]:
    """Return label → class name of `0=angry,1=disgust`, or of a file of such lines (or one name a line, from 0)."""
    if text is None:
        return {}
    pairs = text.split(",") if "=" in text else _name_lines(text)
    names: dict[str, str] = {}
    for pair in pairs:
        label, mark, name = (part.strip() for part in pair.partition("="))
        if not (label and mark and name) or label in names:
            raise UsageError(f"--names {text[:80]}: expected LABEL=NAME, joined by commas, each once; got {pair!r}")
        names[label] = name
    return names


def _name_lines(path: str) -> list[str]:
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--names {path[:80]}: expected 0=angry,1=disgust or a file of such lines ({error})"
        ) from error
    if all(re.fullmatch(r"[^=,;\t]+[=,;\t].+", line) for line in lines):
        return [re.sub(r"[=,;\t]", "=", line, count=1) for line in lines]
    return [f"{number}={line}" for number, line in enumerate(lines)]


def read_label_table(name: str, content: bytes, columns: str | None, tree: Tree) -> LabelTable | None:
    """Understand a text as a label file; None where it is none: it names no image and nothing was chosen.

    Args:
        columns: which column is what (`chosen_columns`); None where their names tell it.
        tree: where its images are looked up, to tell columns without a name apart.
    Raises:
        DataError: it is a label file, but its columns are in doubt; shows three rows and what to type.
    """
    called = f"{tree.where}/{name}" if tree.whole else tree.where
    table = parse(decode(content, called), called)
    if not table.rows:
        return None
    first = [_folded(value) for value in table.rows[0][1]]
    if {"a", "b", "same"} <= set(first):  # a list of pairs, which `pairs` and `calibrate` read
        return None
    chosen = chosen_columns(columns)
    if len(set(first)) < len(first) and len(set(first) & set(_ROLE_OF)) > 1:
        raise doubt(table, "two columns have one name")
    if len(set(first)) == len(first) and (
        set(first) & set(_ROLE_OF) or {_folded(c) for c in chosen.values()} & set(first)
    ):
        return _with_header(name, table, chosen, tree)
    return _without_header(name, table, chosen, tree)


def _folded(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def _with_header(name: str, table: TextTable, chosen: Mapping[str, str], tree: Tree) -> LabelTable:
    written, rows = table.rows[0][1], table.rows[1:]
    header = [_folded(column) for column in written]
    taken: dict[str, list[int]] = {role: [] for role in ROLES}
    for number, column in enumerate(header):
        if _ROLE_OF.get(column) and _ROLE_OF[column] not in chosen:
            taken[_ROLE_OF[column]].append(number)
    for role, column in chosen.items():
        taken[role] = [_column(table, header, column)]
    roles = {}
    for role, numbers in taken.items():
        free = [number for number in numbers if number not in {taken[other][0] for other in chosen if other != role}]
        if len(free) > 1 and role == "image":
            free = [number for number in free if _are_images(rows, number, name, tree)]
        if len(free) > 1 or (numbers and not free and role == "image"):
            raise doubt(table, f"{' and '.join(written[number] for number in numbers)} may each be the {role}")
        if free:
            roles[role] = free[0]
    others = {written[number]: number for number in range(len(header)) if number not in roles.values()}
    _check_slips(table, others, roles)
    return LabelTable(name, table, rows, roles, others)


def _column(table: TextTable, header: Sequence[str], column: str) -> int:
    """The place of a column that was chosen by its name or its number, from 1."""
    if _folded(column) in header:
        return list(header).index(_folded(column))
    if column.isdigit() and 1 <= int(column) <= len(table.rows[0][1]):
        return int(column) - 1
    raise UnknownName(f"column of {table.name}", column, [*table.rows[0][1], "1", str(len(table.rows[0][1]))])


def _without_header(name: str, table: TextTable, chosen: Mapping[str, str], tree: Tree) -> LabelTable | None:
    width = len(table.rows[0][1])
    roles = {role: _column(table, (), column) for role, column in chosen.items()}
    if not roles:
        images = [number for number in range(width) if _are_images(table.rows, number, name, tree)]
        if not images or width == 1:
            return None
        if width != 2 or len(images) != 1:
            raise doubt(table, "its columns have no names")
        roles = {"image": images[0], "label": 1 - images[0]}
    others = {f"column{number + 1}": number for number in range(width) if number not in roles.values()}
    return LabelTable(name, table, table.rows, roles, others)


def _are_images(rows: Sequence[Row], column: int, name: str, tree: Tree) -> bool:
    """Tell whether most of the first values of a column name images."""
    values = [values[column] for _, values in rows[:50] if column < len(values)]
    named = [value != "" and (is_image(value) or is_listed(value, name, tree)) for value in values]
    return bool(named) and 2 * sum(named) > len(named)


def is_listed(value: str, name: str, tree: Tree) -> bool:
    """Tell whether a value of the text called `name` is an image of the tree."""
    try:
        return value != "" and not escapes(value) and tree.find(value, folder_of(name)) is not None
    except DataError:  # several fit
        return True


def _check_slips(table: TextTable, others: Mapping[str, int], roles: Mapping[str, int]) -> None:
    """Refuse a column that is nearly called like one that matters: `splt` would mix the test part into training."""
    for column in others:
        near = difflib.get_close_matches(_folded(column), ROLES["split"], n=1, cutoff=_LIKE)
        if near and "split" not in roles:
            raise doubt(table, f"the column {column!r} may be meant as {near[0]!r}")


def doubt(table: TextTable, why: str) -> DataError:
    """Return the error that shows three rows and the option to type."""
    shown = " | ".join(table.mark.join(values)[:160] for _, values in table.rows[:3])  # an error is one line
    return DataError(
        f"{table.name}: {why}; its first rows: {shown} | Say which column is what, by name or number: "
        "--columns image=COLUMN,label=COLUMN[,split=COLUMN][,identity=COLUMN]"
    )


def labelled(
    read: LabelTable, tree: Tree, names: Mapping[str, str], chosen: bool = False, unlabelled: bool = False
) -> tuple[list[Labelled], list[Broken]]:
    """Return the images of a label file, and those of its lines that cannot be used.

    Args:
        names: label → class name.
        chosen: the label's column was chosen: an empty one is unknown, and its image left out.
        unlabelled: labels are not needed; where there are none, images get none.
    Raises:
        DataError: a line cannot be understood; names it.
    """
    roles, word = read.roles, part_of(read.name)
    label = roles.get("label", roles.get("identity"))
    if "image" not in roles or (label is None and not unlabelled):
        raise doubt(read.table, f"no column is the {'image' if 'image' not in roles else 'label'}")
    rows: list[Labelled] = []
    broken: list[Broken] = []
    width = len(read.table.rows[0][1])
    seen: set[str] = set()
    for line, values in read.rows:
        where = f"{read.table.name}: line {line}"
        if len(values) != width:
            raise DataError(f"{where}: expected {width} values, got {len(values)}")
        path, reason = _located(read, tree, path_inside(values[roles["image"]], where))
        if path in seen:
            raise DataError(f"{where}: {path} is listed twice; keep one row an image")
        seen.add(path)
        value = "" if label is None else values[label]
        if not value and not (chosen or unlabelled):
            raise DataError(f"{where}: the label of {path} is empty")
        reason = reason or ("" if value or unlabelled else "has no label")
        broken += [Broken(path, reason)] * bool(reason)
        split = split_of(values[roles["split"]], where) if "split" in roles else word
        person = values[roles["identity"]] if "identity" in roles else ""
        others = tuple(values[number] for number in read.others.values())
        rows.append(Labelled(path, names.get(value, value), person, split, others))
    _check_rows(read, rows)
    return rows, broken


def _located(read: LabelTable, tree: Tree, name: str) -> tuple[str, str]:
    """The path of an image that a label file names, and why it cannot be used, or ""."""
    near = folder_of(read.name)
    path = tree.find(name, near, part_of(read.name))
    if path is None:
        return f"{near}/{name}" if near else name, "no such file"
    return path, tree.reason(path) or ""


def _check_rows(read: LabelTable, rows: Sequence[Labelled]) -> None:
    if not rows:
        raise DataError(f"{read.table.name}: expected a row an image below the header; found none")
    if "split" in read.roles and len({bool(row.split) for row in rows}) == 2:
        raise DataError(f"{read.table.name}: expected a split in every row or in none; some rows leave it empty")


def part_of(name: str) -> str:
    """Return the split that a file's name says, or "".

    >>> part_of("label_train.txt"), part_of("val.csv"), part_of("labels.txt")
    ('train', 'validation', '')
    """
    words = re.split(r"[^a-z0-9]+", PurePosixPath(name).stem.casefold())
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else ""


def dataset_of_labels(tree: Tree, tables: Sequence[LabelTable], options: Mapping[str, str], **facts: object) -> Dataset:
    """Build the data set of one label file, or of several that are parts of a split.

    Raises DataError: as `labelled`; or label files of other columns, or no image that is there.
    """
    names, chosen = class_names(options.get("names")), "label" in chosen_columns(options.get("columns"))
    rows: list[Labelled] = []
    broken = list(tree.broken)
    for read in tables:
        if tuple(read.others) != tuple(tables[0].others):
            raise DataError(f"{tree.where}: {tables[0].name} and {read.name} have other columns; make them alike")
        more, lost = labelled(read, tree, names, chosen, UNLABELLED in options)
        rows += more
        broken += lost
    if len(tables) == 1 and "split" not in tables[0].roles:
        rows = [replace(row, split="") for row in rows]
    parts, columns = " and ".join(read.name for read in tables), tuple(tables[0].others)
    return dataset_of_rows(tree, rows, broken, parts, label_column=tables[0].label_column, columns=columns, **facts)


def dataset_of_rows(
    tree: Tree, rows: Sequence[Labelled], broken: Sequence[Broken], lists: str, *, label_column: str, **facts: Any
) -> Dataset:
    """Build the data set of the rows of lists, called `lists`; images that no row is for are named as broken.

    Raises DataError: there is no row, or not one of the images can be used.
    """
    if len({b.path for b in broken} & {row.path for row in rows}) == len(rows):
        first = f"the first: {broken[-1].path}: {broken[-1].reason}" if broken else "there is none"
        raise DataError(f"{tree.where}: not one of the {len(rows):,} images of {lists} can be used ({first})")
    extra = unlisted(tree, (row.path for row in rows), lists) if tree.whole else []
    data = Dataset.of(tree.name, tree.where, rows, tree.source, **facts)
    return replace(data, label_column=label_column).without([*broken, *extra])


@dataclass(frozen=True)
class TrueBoxes:
    """The boxes of each photo of a table."""

    boxes: Mapping[str, NDArray[np.float64]]  # file -> (T, 4) x, y, width, height
    splits: Mapping[str, str]  # file -> train, validation or test; "" where the table has no splits

    def entry_of(self, photo: Path) -> str | None:
        """The file of the table that a photo is, or None. Raises DataError: its name alone would fit several."""
        parts = photo.resolve().parts
        fitting = [file for file in self.boxes if PurePath(file).parts == parts[-len(PurePath(file).parts) :]]
        if len(fitting) > 1:
            raise DataError(f"{photo}: fits {len(fitting)} files of the boxes ({', '.join(fitting[:3])}); rename one")
        return fitting[0] if fitting else None


def read_boxes(path: Path) -> TrueBoxes:
    """Read a table of boxes. Raises DataError: not understood, or a photo stands in two splits; names the line."""
    boxes: dict[str, list[list[float]]] = {}
    splits: dict[str, str] = {}
    needs = {"file", *_BOX}
    rows = read_table(path, "a table of boxes", lambda header: {*header} - {"split"} == needs, "file[,split],x,y,w,h")
    for line, row in rows:
        where, file = f"{path}: line {line}", row["file"].replace("\\", "/")
        if not file:
            raise DataError(f"{where}: expected the name of a photo, got nothing")
        split = split_of(row.get("split", ""), where)
        if splits.setdefault(file, split) != split:
            raise DataError(f"{where}: {file} is in two splits; keep one")
        found = boxes.setdefault(file, [])
        if any(row[name] for name in _BOX):
            found.append(_box(where, row))
    return TrueBoxes({file: np.array(found).reshape(-1, 4) for file, found in boxes.items()}, splits)


def _box(where: str, row: Mapping[str, str]) -> list[float]:
    try:
        box = [float(row[name]) for name in _BOX]
    except ValueError:
        box = []
    if not box or not all(map(math.isfinite, box)) or min(box[2:]) <= 0:
        given = ",".join(row[name] for name in _BOX)
        raise DataError(f"{where}: expected x, y and a width and height above 0, all in pixels, got {given!r}")
    return box


def splits_of(files: Sequence[str], table: TrueBoxes) -> dict[str, list[int]]:
    """Positions of the files of each split that occurs, in the order train, validation, test; {} without splits."""
    named = [table.splits[file] for file in files]
    return {
        split: [index for index, name in enumerate(named) if name == split]
        for split in ("train", "validation", "test")
        if split in named
    }
