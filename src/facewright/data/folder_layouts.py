"""A folder per class, also under train/ val/ test/; and numbered images with a label file.

    train_img/000001.jpg …, label_train.txt      the file's name and the folder's share a part (train)
    images/1.png …, labels.txt                   one folder of images beside the file
    1.png …, label.txt                           the images and the file in one folder

The label file holds one label a line. An image's number is what its name ends in, from 1, or from 0 where some image is
number 0; numbers must fit the lines one to one. Several label files, each with its folder, are the parts of a split.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from facewright.data.label_files import UNLABELLED, class_names
from facewright.data.records import SPLIT_NAMES, Broken, Dataset, Labelled, split_of
from facewright.data.text_tables import decode
from facewright.data.trees import Tree, folder_of, top, unlisted
from facewright.errors import DataError, EmptyClass, UsageError
from facewright.images import is_image, unread_reason

_SHOWN = 5  # folders that an error names


def split_folders(tree: Tree) -> dict[str, str]:
    """Return top folder → split where a tree is laid out by splits, else nothing.

    Folders called train and test are split folders only where every top folder has such a name and one of them holds
    folders; otherwise they are classes (toy trains), or folders of unlabelled images. Raises DataError: two folders
    name one split, or one of them holds no class folders.
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
    parts = [SPLIT_NAMES.get(folder.casefold(), "") for folder in tree.folders]
    return len(parts) > 1 and "train" in parts and "" not in parts


def rows_of_folders(tree: Tree, expected: str) -> tuple[list[Labelled], list[Broken]]:
    """Return the images of class folders, and those that lie outside; `expected` says the layouts that are known.

    Raises DataError: this is no layout of class folders; says what was found instead. EmptyClass: a class has no image.
    """
    splits = split_folders(tree)
    depth = 2 if splits else 1
    classes = [f for f in tree.folders if f.count("/") == depth - 1 and (not splits or top(f) in splits)]
    _check_folders(tree, splits, classes, expected)
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
        rows = [replace(row, label=names.get(row.label, row.label)) for row in rows]
    return Dataset.of(tree.name, tree.where, rows, tree.source, **facts).without(broken)


def _check_folders(tree: Tree, splits: dict[str, str], classes: list[str], expected: str) -> None:
    if not classes:
        found = f"{len(tree.files)} images without class folders" if tree.files else "no folder and no image"
        raise DataError(f"{tree.where}: found {found}; {expected}")
    filled = {folder_of(path) for path in tree.files}
    depth = classes[0].count("/")
    nested = sorted(f for f in tree.folders if f.count("/") > depth and f in filled)
    if nested:
        hint = "" if splits else "; of several data sets open one; of splits keep only train, val and test"
        raise DataError(f"{tree.where}: expected images right in each class folder; found some in {nested[0]}/{hint}")
    empty = [folder for folder in classes if folder not in filled]
    if empty:
        below = (b for b in tree.broken if b.path == empty[0] or b.path.startswith(f"{empty[0]}/"))
        left_out = next((f" ({b.path} {b.reason})" for b in below), "")
        shown = ", ".join(f"{PurePosixPath(folder)}/" for folder in empty[:_SHOWN])
        more = f" and {len(empty) - _SHOWN:,} more" if len(empty) > _SHOWN else ""
        raise EmptyClass(
            f"{tree.where}: expected at least one image in each class folder; found none in {shown}{more}{left_out}; "
            "add some or remove the folder"
        )


_LABEL_FILE = re.compile(r"labels?(?:[_.-](.+))?\.txt")
_NUMBER = re.compile(r"([0-9]{1,18})$")


@dataclass(frozen=True)
class LabelFile:
    """A label file and the folder of its images; `name` is what both share ("train"), or empty."""

    labels: str
    folder: str
    name: str


def label_files(tree: Tree) -> tuple[LabelFile, ...]:
    """Return the label files of a tree that have a folder of images; none where it is laid out in another way.

    Raises DataError: it cannot be told which folder a label file is for.
    """
    filled = sorted({folder_of(file) for file in tree.files})
    found: list[LabelFile] = []
    lost: list[str] = []
    for text in tree.texts:
        match = _LABEL_FILE.fullmatch(PurePosixPath(text).name.casefold())
        if match is None:
            continue
        name = SPLIT_NAMES.get(match[1], match[1]) or ""
        near = [folder for folder in filled if folder_of(text) in (folder, folder_of(folder))]
        folders = [folder for folder in near if name in _words(folder)] if name else []
        folders = folders or (near if len(near) == 1 else [])
        if len(folders) > 1:
            both = " and ".join(f"{folder}/" for folder in folders)
            raise DataError(f"{tree.where}: {text} may be for {both}; keep one of them")
        if folders:
            found.append(LabelFile(text, folders[0], name))
        elif name:
            lost.append(text)
    _check(tree.where, found, lost)
    return tuple(found)


def _words(folder: str) -> set[str]:
    """The parts of a folder's own name, by which it is told what it holds."""
    words = re.split(r"[^a-z0-9]+", PurePosixPath(folder).name.casefold())
    return {SPLIT_NAMES.get(word, word) for word in words}


def _check(where: str, found: Sequence[LabelFile], lost: Sequence[str]) -> None:
    if found and lost:
        raise DataError(f"{where}: found no folder of images for {lost[0]}; add it or remove the file")
    for number, file in enumerate(found):
        for other in found[:number]:
            if file.folder == other.folder:
                raise DataError(f"{where}: {other.labels} and {file.labels} are for one folder; keep one of them")
            if file.name == other.name:
                raise DataError(f"{where}: {other.labels} and {file.labels} name the same part; keep one of them")
        if len(found) > 1 and file.name not in SPLIT_NAMES.values():
            raise DataError(
                f"{where}: of several label files each is for a part of the split (label_train.txt, label_val.txt, "
                f"label_test.txt); got {file.labels}"
            )


def dataset_of_numbered(tree: Tree, files: Sequence[LabelFile], names: Mapping[str, str], **facts: object) -> Dataset:
    """Build the data set of numbered images, of what `label_files` gave; `names`: label → class name.

    Raises DataError: a label file cannot be read, or its lines and the images' numbers do not fit one to one.
    EmptyClass: none of a class's images can be used.
    """
    rows: list[Labelled] = []
    for file in files:
        split = file.name if len(files) > 1 else ""
        labels = _labels(tree.where, file, tree.source.content(file.labels))
        images = _numbered(tree, file, len(labels))
        rows += [Labelled(path, names.get(label, label), "", split) for path, label in zip(images, labels, strict=True)]
    used = {file.folder for file in files}
    others = unlisted(tree, (path for path in tree.files if folder_of(path) in used), "a label file")
    return Dataset.of(tree.name, tree.where, rows, tree.source, **facts).without([*tree.broken, *others])


def _labels(where: str, file: LabelFile, content: bytes) -> list[str]:
    """One label a line; empty lines at the end do not count."""
    text = decode(content, f"{where}: {file.labels}")
    labels = [line.strip() for line in text.rstrip().split("\n")]
    if not any(labels):
        raise DataError(f"{where}: {file.labels}: expected labels, one a line; it is empty")
    if "" in labels:
        raise DataError(f"{where}: {file.labels}: line {labels.index('') + 1}: expected a label, got an empty line")
    return labels


def _numbered(tree: Tree, file: LabelFile, count: int) -> list[str]:
    """The images of a label file in the order of their numbers, `count` of them.

    Also those that will be left out (a link, a kind that is not read): they have a line of the labels too.
    """
    left_out = [item.path for item in tree.broken if is_image(item.path) or unread_reason(item.path) is not None]
    images: dict[int, str] = {}
    for path in sorted(name for name in {*tree.files, *left_out} if folder_of(name) == file.folder):
        match = _NUMBER.search(PurePosixPath(path).stem)
        if match is None:
            raise DataError(
                f"{tree.where}: {path}: expected a name that ends in the image's number, as 000001.jpg, since "
                f"{file.labels} holds the labels; rename or remove one of the two"
            )
        if int(match[1]) in images:
            raise DataError(f"{tree.where}: {images[int(match[1])]} and {path} have one number; keep one of them")
        images[int(match[1])] = path
    first = 0 if 0 in images else 1
    missing = next((number for number in range(first, first + count) if number not in images), None)
    surplus = next((path for number, path in sorted(images.items()) if number >= first + count), None)
    if missing is not None or surplus is not None:
        what = f"{surplus} has no line" if missing is None else f"no image has the number {missing}"
        raise DataError(
            f"{tree.where}: expected an image for each of the {count:,} lines of {file.labels}, numbered from "
            f"{first}, got {len(images):,}: {what}"
        )
    return [images[number] for number in sorted(images)]


def dataset_of_names(tree: Tree, pattern: str, options: Mapping[str, str], **facts: object) -> Dataset:
    """Build the data set of images whose paths hold the labels, as named groups of a regular expression.

    Its groups are `label`, `identity` and `split`; any other becomes a column. Raises UsageError: no regular
    expression, or one without `label` or `identity`. DataError: it fits no path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--label-from {pattern}: not a regular expression ({error})") from None
    groups = tuple(expression.groupindex)
    if not {"label", "identity"} & set(groups) and UNLABELLED not in options:
        raise UsageError(f"--label-from {pattern}: expected a group (?P<label>…) or (?P<identity>…)")
    names = class_names(options.get("names"))
    others = tuple(group for group in groups if group not in ("label", "identity", "split"))
    rows: list[Labelled] = []
    broken = list(tree.broken)
    for path in tree.files:
        match = expression.search(path)
        found = {} if match is None else {group: value or "" for group, value in match.groupdict().items()}
        person = found.get("identity", "")
        label = found.get("label", person)
        if match is None or not (label or UNLABELLED in options):
            broken.append(Broken(path, f"its path does not fit {pattern}"))
            continue
        split = split_of(found.get("split", ""), path)
        rows.append(Labelled(path, names.get(label, label), person, split, tuple(found[o] for o in others)))
    if not rows:
        raise DataError(f"{tree.where}: --label-from {pattern} fits none of its {len(tree.files):,} images")
    return Dataset.of(tree.name, tree.where, rows, tree.source, columns=others, **facts).without(broken)
