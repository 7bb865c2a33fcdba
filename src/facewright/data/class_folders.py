"""A folder per class, and the same under split folders (train/ val/ test/)."""

from __future__ import annotations

from pathlib import PurePosixPath

from facewright.data.records import SPLIT_NAMES, Broken, Dataset, Labelled
from facewright.data.trees import Tree, folder_of, top
from facewright.errors import DataError, EmptyClass


def split_folders(tree: Tree) -> dict[str, str]:
    """Return top folder → split where a tree is laid out by splits, else nothing.

    Folders called train and test are split folders only where every top folder has such a name and one of them holds
    folders; otherwise they are classes (toy trains), or folders of unlabelled images.

    Raises:
        DataError: two folders name one split, or one of them holds no class folders.
    """
    tops = [folder for folder in tree.folders if "/" not in folder]
    splits = {folder: SPLIT_NAMES.get(folder.casefold(), "") for folder in tops}
    if "train" not in splits.values() or "" in splits.values() or len(tops) == len(tree.folders):
        return {}
    for folder in tops:
        twins = [other for other in tops if splits[other] == splits[folder]]
        if len(twins) > 1:
            raise DataError(f"{tree.where}: {' and '.join(twins)} both name the {splits[folder]} part; keep one")
        if not any(top(other) == folder for other in tree.folders if other != folder):
            raise DataError(f"{tree.where}/{folder}: expected a folder per class in each split folder; found none")
    return splits


def looks_like_splits_only(tree: Tree) -> bool:
    """Tell whether the top folders are called train, test, … and hold images, not class folders."""
    tops = {folder for folder in tree.folders if "/" not in folder}
    return (
        len(tops) > 1
        and len(tops) == len(tree.folders)
        and all(folder.casefold() in SPLIT_NAMES for folder in tops)
        and any(SPLIT_NAMES[folder.casefold()] == "train" for folder in tops)
    )


def rows_of_folders(tree: Tree, expected: str) -> tuple[list[Labelled], list[Broken]]:
    """Return the images of class folders, and those that lie outside.

    Args:
        expected: the layouts that are known, for the error.
    Raises:
        DataError: this is no layout of class folders; says what was found instead. EmptyClass: a class has no image.
    """
    splits = split_folders(tree)
    depth = 2 if splits else 1
    classes = [f for f in tree.folders if f.count("/") == depth - 1 and (not splits or top(f) in splits)]
    _check(tree, splits, classes, expected)
    rows: list[Labelled] = []
    broken = list(tree.broken)
    for path in tree.files:
        parts = path.split("/")
        if len(parts) == depth + 1:
            rows.append(Labelled(path, parts[-2], "", splits.get(parts[0], "")))
        else:
            broken.append(Broken(path, "lies outside every class folder; move it into one"))
    return rows, broken


def dataset_of_folders(tree: Tree, expected: str, names: dict[str, str] | None = None, **facts: object) -> Dataset:
    """Build the data set of class folders. Raises: as `rows_of_folders`."""
    rows, broken = rows_of_folders(tree, expected)
    if names:
        rows = [Labelled(row.path, names.get(row.label, row.label), "", row.split) for row in rows]
    return Dataset.of(tree.name, tree.where, rows, tree.source, **facts).without(broken)


def _check(tree: Tree, splits: dict[str, str], classes: list[str], expected: str) -> None:
    if not classes:
        found = f"{len(tree.files)} images without class folders" if tree.files else "no folder and no image"
        raise DataError(f"{tree.where}: {expected}; found {found}")
    filled = {folder_of(path) for path in tree.files}
    depth = classes[0].count("/")
    nested = sorted(f for f in tree.folders if f.count("/") > depth and f in filled)
    if nested:
        hint = "" if splits else "; of several data sets open one; of splits keep only train, val and test"
        raise DataError(
            f"{tree.where}: expected images directly in each class folder; found some in {nested[0]}/{hint}"
        )
    empty = [folder for folder in classes if folder not in filled]
    if empty:
        below = (b for b in tree.broken if b.path == empty[0] or b.path.startswith(f"{empty[0]}/"))
        left_out = next((f" ({b.path} {b.reason})" for b in below), "")
        raise EmptyClass(
            f"{tree.where}: expected at least one image in each class folder; found none in "
            f"{', '.join(f'{PurePosixPath(folder)}/' for folder in empty)}{left_out}; add some or remove the folder"
        )
