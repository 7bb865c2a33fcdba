"""Data sets of label files, and of labels in file names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from facewright.data.archives import escapes
from facewright.data.label_files import UNLABELLED, LabelTable, chosen_columns, class_names, doubt
from facewright.data.records import SPLIT_NAMES, Broken, Dataset, Labelled, split_of
from facewright.data.trees import Tree, folder_of, unlisted
from facewright.errors import DataError, UsageError


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
    roles, near = read.roles, folder_of(read.name)
    label = roles.get("label", roles.get("identity"))
    if "image" not in roles or (label is None and not unlabelled):
        raise doubt(read.table, f"no column is the {'image' if 'image' not in roles else 'label'}")
    word = part_of(read.name)
    rows: list[Labelled] = []
    broken: list[Broken] = []
    width = len(read.table.rows[0][1])
    seen: set[str | None] = set()
    for line, values in read.rows:
        where = f"{read.table.name}: line {line}"
        if len(values) != width:
            raise DataError(f"{where}: expected {width} values, got {len(values)}")
        name = values[roles["image"]].replace("\\", "/")
        if not name or "\0" in name or escapes(name):
            raise DataError(f"{where}: expected a path inside the table's folder, got {values[roles['image']]!r}")
        name = PurePosixPath(name).as_posix()
        path = tree.find(name, near, word)
        if path in seen:
            raise DataError(f"{where}: {name} is listed twice; keep one row an image")
        value = "" if label is None else values[label]
        if path is None:
            path = f"{near}/{name}" if near else name
            broken.append(Broken(path, "no such file"))
        elif (reason := tree.reason(path)) is not None:
            broken.append(Broken(path, reason))
        if not value and not (chosen or unlabelled):
            raise DataError(f"{where}: the label of {name} is empty")
        if not value and not unlabelled:
            broken.append(Broken(path, "has no label"))
        split = split_of(values[roles["split"]], where) if "split" in roles else word
        person = values[roles["identity"]] if "identity" in roles else ""
        others = tuple(values[number] for number in read.others.values())
        rows.append(Labelled(path, names.get(value, value), person, split, others))
        seen.add(path)
    _check_rows(read, rows)
    return rows, broken


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

    Raises:
        DataError: as `labelled`; or label files of other columns, or no image that is there.
    """
    names = class_names(options["names"]) if "names" in options else {}
    chosen = "label" in chosen_columns(options["columns"]) if "columns" in options else False
    rows: list[Labelled] = []
    broken = list(tree.broken)
    for read in tables:
        if tuple(read.others) != tuple(tables[0].others):
            raise DataError(f"{tree.where}: {tables[0].name} and {read.name} have other columns; make them alike")
        more, lost = labelled(read, tree, names, chosen, UNLABELLED in options)
        rows += more
        broken += lost
    there = len(rows) - len({b.path for b in broken} & {row.path for row in rows})
    if not there:
        raise DataError(
            f"{tree.where}: not one of the {len(rows):,} images of {tables[0].name} can be used "
            f"(the first: {broken[-1].path}: {broken[-1].reason})"
        )
    if len(tables) == 1 and "split" not in tables[0].roles:
        rows = [Labelled(row.path, row.label, row.identity, "", row.values) for row in rows]
    parts = " and ".join(read.name for read in tables)
    extra = unlisted(tree, (row.path for row in rows), parts) if tree.whole else []
    data = Dataset.of(tree.name, tree.where, rows, tree.source, columns=tuple(tables[0].others), **facts)
    return replace(data, label_column=tables[0].label_column).without([*broken, *extra])


def dataset_of_names(tree: Tree, pattern: str, options: Mapping[str, str], **facts: object) -> Dataset:
    """Build the data set of images whose paths hold the labels, as named groups of a regular expression.

    Args:
        pattern: groups `label`, `identity`, `split`; any other group becomes a column.
    Raises:
        UsageError: no regular expression, or one without `label` or `identity`. DataError: it fits no path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--label-from {pattern}: not a regular expression ({error})") from None
    groups = tuple(expression.groupindex)
    if not {"label", "identity"} & set(groups) and UNLABELLED not in options:
        raise UsageError(f"--label-from {pattern}: expected a group (?P<label>…) or (?P<identity>…)")
    names = class_names(options["names"]) if "names" in options else {}
    others = tuple(group for group in groups if group not in ("label", "identity", "split"))
    rows: list[Labelled] = []
    broken = list(tree.broken)
    for path in tree.files:
        match = expression.search(path)
        found = {} if match is None else {group: value or "" for group, value in match.groupdict().items()}
        label = found.get("label", found.get("identity", ""))
        if match is None or not (label or UNLABELLED in options):
            broken.append(Broken(path, f"its path does not fit {pattern}"))
            continue
        split = split_of(found.get("split", ""), path)
        rows.append(
            Labelled(path, names.get(label, label), found.get("identity", ""), split, tuple(found[o] for o in others))
        )
    if not rows:
        raise DataError(f"{tree.where}: --label-from {pattern} fits none of its {len(tree.files):,} images")
    return Dataset.of(tree.name, tree.where, rows, tree.source, columns=others, **facts).without(broken)
