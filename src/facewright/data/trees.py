"""A tree of files, in a folder or in an archive: its images, folders and texts, and what reads them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from facewright.data.image_records import LINK, ContentSource, FileSource, reason_of, unusable
from facewright.data.records import Broken
from facewright.errors import DataError
from facewright.images import is_hidden, is_image, unread_reason

_TEXTS = (".txt", ".csv", ".tsv", ".lst")
PACKED = (".rec", ".parquet", ".arrow", ".tar", ".tar.gz", ".tgz")
DEPTH = 5  # names on the way to an image: one more than a layout needs


@dataclass
class Tree:
    """The images, folders and texts below a root, as posix paths relative to it, each list sorted."""

    where: str  # the address
    name: str  # of the data set
    source: ContentSource
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    packed: list[str] = field(default_factory=list)  # files that hold many images
    broken: list[Broken] = field(default_factory=list)
    whole: bool = True  # False: the tree is one table, and its images are looked up one by one

    def find(self, name: str, near: str = "", word: str = "") -> str | None:
        """Return the image that a label file calls `name`. Raises DataError: several fit.

        Args:
            name: a path from the label file's folder or from the root, a file name, or one without its suffix.
            near: the label file's folder. word: which of several is meant: the one in a folder of that name (train).
        """
        for path in (_joined(near, name), name):
            if path in self._known or (not self.whole and self.reason(path) != "no such file"):
                return path
        names = self._by_name if self.whole else self._listed._by_name
        key = PurePosixPath(name).name.casefold()
        fitting = [path for path in names.get(key, ()) if _ends_with(path, name)]
        if len(fitting) > 1 and word:
            fitting = [path for path in fitting if word in path.casefold()] or fitting
        if len(fitting) > 1:
            raise DataError(f"{self.where}: {name!r} fits {fitting[0]} and {fitting[1]}; write the path")
        return fitting[0] if fitting else None

    def reason(self, path: str) -> str | None:
        """Return why an image cannot be used, or None."""
        if self.whole:
            return None if path in self._usable else next((b.reason for b in self.broken if b.path == path), None)
        return unusable(Path(self._root), path)

    @property
    def _root(self) -> str:
        assert isinstance(self.source, FileSource)  # an archive is listed whole
        return self.source.root

    @cached_property
    def _listed(self) -> Tree:
        return list_folder(Path(self._root))

    @cached_property
    def _usable(self) -> set[str]:
        return set(self.files)

    @cached_property
    def _known(self) -> set[str]:
        """Images, and files that are left out: each has its line in a label file."""
        return {*self.files, *(broken.path for broken in self.broken)}

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Lower-case file name, with and without its suffix → paths."""
        found: dict[str, list[str]] = {}
        for path in self.files:
            name = path.rpartition("/")[2].casefold()
            found.setdefault(name, []).append(path)
            found.setdefault(name.rpartition(".")[0], []).append(path)
        return found


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _ends_with(path: str, name: str) -> bool:
    """Tell whether `name`, with or without a suffix, is the end of a path."""
    path, name = f"/{path.casefold()}", f"/{name.casefold()}"
    return path.endswith(name) or path.rpartition(".")[0].endswith(name)


def top(path: str) -> str:
    """Return the first folder of a path: "train" of "train/ann/1.jpg"."""
    return path.partition("/")[0]


def folder_of(path: str) -> str:
    """Return the folder of a path; empty at the root."""
    return path.rpartition("/")[0]


def add_name(tree: Tree, path: str, *, folder: bool = False) -> None:
    """Put a name into the list of a tree that it belongs to."""
    reason = None if folder else unread_reason(path)
    if folder:
        tree.folders.append(path)
    elif is_image(path):
        tree.files.append(path)
    elif path.lower().endswith(_TEXTS):
        tree.texts.append(path)
    elif path.lower().endswith(PACKED):
        tree.packed.append(path)
    elif reason is not None:
        tree.broken.append(Broken(path, reason))


def list_folder(root: Path) -> Tree:
    """List the tree below `root`, five names deep. Hidden names are left out, links are never followed.

    Raises DataError: a folder cannot be listed.
    """
    tree = Tree(str(root), root.name, FileSource(str(root)))
    pending = [""]
    while pending:
        folder = pending.pop()
        for entry in _entries(root / folder):
            path = _joined(folder, entry.name)
            reason = _left_out(entry)
            is_folder = reason is None and entry.is_dir(follow_symlinks=False)
            if reason is not None:
                tree.broken.append(Broken(path.encode("utf-8", "backslashreplace").decode(), reason))
            else:
                add_name(tree, path, folder=is_folder)
            if is_folder and path.count("/") < DEPTH - 1:
                pending.append(path)
    for names in (tree.files, tree.folders, tree.texts, tree.packed):
        names.sort()
    return tree


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed ({reason_of(error)}); allow reading") from error


def _left_out(entry: os.DirEntry[str]) -> str | None:
    """The reason why an entry of a folder is skipped although a user may expect it to be used, or None."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 arrive as lone surrogates
        return "has a name that is not UTF-8; rename it"
    if entry.is_symlink():
        return LINK
    if is_image(entry.name) and not entry.is_dir() and not entry.is_file(follow_symlinks=False):
        return "is not a regular file"
    return None


def unlisted(tree: Tree, used: Iterable[str], by: str) -> list[Broken]:
    """Name the images that no label is for, folder by folder."""
    counts: dict[str, int] = {}
    known = set(used)
    for path in tree.files:
        if path not in known:
            counts[folder_of(path)] = counts.get(folder_of(path), 0) + 1
    return [Broken(folder or ".", f"its {count:,} images are not in {by}") for folder, count in sorted(counts.items())]
