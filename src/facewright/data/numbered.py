"""Numbered pictures and a label file: picture k belongs to line k of the labels.

    train_img/000001.jpg …, label_train.txt      the file's name and the folder's share a part (train)
    images/1.png …, labels.txt                   one folder of pictures beside the file
    1.png …, label.txt                           the pictures and the file in one folder

The label file is a plain text called label… .txt or labels… .txt, one label a line; a label is text as it stands, less
the space around it ("0", "1", "mask"), and the classes are the distinct ones, sorted. A picture's number is what its
name ends in, counted from 1, or from 0 where some picture is number 0. Numbers must fit the lines one to one: a picture
too many, a gap or a number twice would give every later picture a wrong label, so each is an error that names it.

Several label files (label_train.txt, label_val.txt, label_test.txt, each with its folder) are the parts of a split.
A folder of pictures that no label file is for (test_img/ alone) is left out and named in the data set's `broken`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from facewright.data.archives import ArchiveSource
from facewright.data.folders import FileSource
from facewright.data.records import SPLIT_NAMES, Broken, Dataset, Listing, Record, merge_broken
from facewright.errors import DataError
from facewright.images.files import is_image, unread_reason

_LABEL_FILE = re.compile(r"labels?(?:[_.-](.+))?\.txt")
_NUMBER = re.compile(r"([0-9]{1,18})$")


@dataclass(frozen=True)
class Part:
    """A label file and the folder of its pictures; `name` is what both share ("train"), or empty."""

    labels: str
    folder: str
    name: str


def parts(listing: Listing) -> tuple[Part, ...]:
    """The label files of a tree that have a folder of pictures; none where the tree is laid out in another way.

    Raises:
        DataError: it cannot be told which folder a label file is for.
    """
    filled = sorted({_folder(file) for file in listing.files})
    found: list[Part] = []
    lost: list[str] = []
    for text in sorted(listing.texts):
        match = _LABEL_FILE.fullmatch(PurePosixPath(text).name.casefold())
        if match is None:
            continue
        name = SPLIT_NAMES.get(match[1], match[1]) or ""
        near = [folder for folder in filled if _folder(text) in (folder, _folder(folder))]
        folders = [folder for folder in near if name in _words(folder)] if name else []
        folders = folders or (near if len(near) == 1 else [])
        if len(folders) > 1:
            both = " and ".join(f"{folder}/" for folder in folders)
            raise DataError(f"{listing.where}: {text} may be for {both}; keep one of them")
        if folders:
            found.append(Part(text, folders[0], name))
        elif name:
            lost.append(text)
    _check(listing.where, found, lost)
    return tuple(found)


def _words(folder: str) -> set[str]:
    """The parts of a folder's own name, by which it is told what it holds."""
    words = re.split(r"[^a-z0-9]+", PurePosixPath(folder).name.casefold())
    return {SPLIT_NAMES.get(word, word) for word in words}


def _check(where: str, found: Sequence[Part], lost: Sequence[str]) -> None:
    if found and lost:
        raise DataError(f"{where}: found no folder of pictures for {lost[0]}; add it or remove the file")
    for number, part in enumerate(found):
        for other in found[:number]:
            if part.folder == other.folder:
                raise DataError(f"{where}: {other.labels} and {part.labels} are for one folder; keep one of them")
            if part.name == other.name:
                raise DataError(f"{where}: {other.labels} and {part.labels} name the same part; keep one of them")
        if len(found) > 1 and part.name not in SPLIT_NAMES.values():
            raise DataError(
                f"{where}: of several label files each is for a part of the split (label_train.txt, label_val.txt, "
                f"label_test.txt); got {part.labels}"
            )


def arrange(name: str, listing: Listing, found: Sequence[Part], source: FileSource | ArchiveSource) -> Dataset:
    """Classes and records of numbered pictures.

    Args:
        name: of the data set.
        listing: the tree.
        found: what `parts` gave; at least one.
        source: reads the label files now, the pictures later.
    Raises:
        DataError: a label file cannot be read, or its lines and the pictures' numbers do not fit one to one.
        EmptyClass: none of a class's pictures can be used.
    """
    labelled: list[tuple[str, str, str | None]] = []  # path, label, split
    for part in found:
        split = part.name if len(found) > 1 else None
        labels = _labels(listing.where, part, source.content(part.labels))
        pictures = _numbered(listing, part, len(labels))
        labelled += [(picture, label, split) for picture, label in zip(pictures, labels, strict=True)]
    classes = tuple(sorted({label for _, label, _ in labelled}))
    number = {label: k for k, label in enumerate(classes)}
    records = tuple(Record(path, number[label], split=split) for path, label, split in sorted(labelled))
    whole = Dataset(name, listing.where, classes, records, source, merge_broken(_without_labels(listing, found), ()))
    return whole.without(listing.broken)


def _labels(where: str, part: Part, content: bytes) -> list[str]:
    """One label a line; empty lines at the end do not count."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: {part.labels}: expected labels in UTF-8, one a line ({error})") from error
    labels = [line.strip() for line in text.rstrip().split("\n")]
    if not any(labels):
        raise DataError(f"{where}: {part.labels}: expected labels, one a line; it is empty")
    if "" in labels:
        raise DataError(f"{where}: {part.labels}: line {labels.index('') + 1}: expected a label, got an empty line")
    return labels


def _numbered(listing: Listing, part: Part, count: int) -> list[str]:
    """The pictures of a part in the order of their numbers, `count` of them.

    Also those that will be left out (a link, a kind that is not read): they have a line of the labels too.
    """
    left_out = [item.path for item in listing.broken if is_image(item.path) or unread_reason(item.path) is not None]
    pictures: dict[int, str] = {}
    for path in sorted(file for file in {*listing.files, *left_out} if _folder(file) == part.folder):
        match = _NUMBER.search(PurePosixPath(path).stem)
        if match is None:
            raise DataError(
                f"{listing.where}: {path}: expected a name that ends in the picture's number, as 000001.jpg, since "
                f"{part.labels} holds the labels; rename or remove one of the two"
            )
        if int(match[1]) in pictures:
            raise DataError(f"{listing.where}: {pictures[int(match[1])]} and {path} have one number; keep one of them")
        pictures[int(match[1])] = path
    first = 0 if 0 in pictures else 1
    missing = next((number for number in range(first, first + count) if number not in pictures), None)
    surplus = next((path for number, path in sorted(pictures.items()) if number >= first + count), None)
    if missing is not None or surplus is not None:
        what = f"{surplus} has no line" if missing is None else f"no picture has the number {missing}"
        raise DataError(
            f"{listing.where}: expected a picture for each of the {count:,} lines of {part.labels}, numbered from "
            f"{first}, got {len(pictures):,}: {what}"
        )
    return [pictures[number] for number in sorted(pictures)]


def _without_labels(listing: Listing, found: Sequence[Part]) -> list[Broken]:
    """The folders of pictures that no label file is for."""
    used = {part.folder for part in found}
    others = [_folder(file) for file in listing.files if _folder(file) not in used]
    return [
        Broken(folder or ".", f"its {others.count(folder):,} pictures have no label file")
        for folder in sorted({*others})
    ]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
