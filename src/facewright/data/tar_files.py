"""Images inside .tar and .tar.gz files, and WebDataset shards: tars whose images have their labels beside them.

    faces.tar              what a folder holds: ann/1.jpg, bob/1.jpg …, or any other layout
    shards/train-000.tar   WebDataset: 0001.jpg and 0001.cls (the class), or 0001.json (facts by name)

A tar is refused whole for what a zip is refused for. Source: POSIX.1-2017, pax, "ustar Interchange Format";
https://github.com/webdataset/webdataset (a sample's name ends at the first dot of the file name).
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from facewright.data import archives
from facewright.data.archives import ArchiveLimits, danger_of_name, plain_path
from facewright.data.label_files import ROLES, part_of
from facewright.data.layout_reading import Options, described
from facewright.data.packed import DAMAGE, LIMITS, PackedSource, opened
from facewright.data.pixel_sources import ContentSource
from facewright.data.records import Broken, Dataset
from facewright.data.trees import Tree, folder_of
from facewright.errors import BadArchive, BadImage, DataError
from facewright.files import parse_json

TAR = (".tar", ".tar.gz", ".tgz")
_MOST_HEADER = 2**20  # bytes of one extended header
_MOST_LABEL = 2**16  # bytes of a .cls or .json
_FACTS = (".cls", ".json")


def is_archive(path: Path) -> bool:
    """Tell whether a file is a zip or a tar by its name."""
    return path.name.lower().endswith((".zip", *TAR))


def open_archive(path: Path) -> tuple[Tree, ContentSource]:
    """Return the tree in a zip or a tar and the source of its pixels. Raises BadArchive."""
    if path.name.lower().endswith(".zip"):
        return archives.open_archive(path)
    tree = open_tars([path])
    return tree, tree.source


def open_tars(paths: Sequence[Path], root: Path | None = None, limits: ArchiveLimits = LIMITS) -> Tree:
    """Return the tree in one tar, or in several that are parts of one set.

    Args:
        root: the folder of several; each one's images are then below its name without suffix.
    Raises:
        BadArchive: see the top of this file; names the entry and says why.
    """
    names: dict[str, bool] = {}
    runs: dict[str, tuple[int, ...]] = {}
    size = 0
    for number, path in enumerate(paths):
        below = "" if root is None else _stem(path.relative_to(root).as_posix())
        if below:
            names[below] = True
        for name, start, length in _members(path, limits):
            full = f"{below}/{name}" if below else name
            if full in names:
                raise _refused(path, name, "comes twice")
            names[full] = start == 0
            size += length
            if start:
                runs[full] = (number, start, length)
            if len(names) > limits.entries or size > limits.bytes:
                raise BadArchive(
                    f"{path}: {len(names):,} entries of {size:,} bytes; the limits are {limits.entries:,} and "
                    f"{limits.bytes:,}"
                )
    inside, tree = archives.tree_of(root or paths[0], names)
    kept = {name.removeprefix(inside): run for name, run in runs.items() if name.startswith(inside)}
    tree.source = PackedSource([str(path) for path in paths], kept)
    return tree


def _stem(name: str) -> str:
    return next(name[: -len(suffix)] for suffix in TAR if name.lower().endswith(suffix))


def _members(path: Path, limits: ArchiveLimits) -> Iterator[tuple[str, int, int]]:
    """Path, start (0: a folder) and bytes of each entry, each found harmless."""
    with opened(path, limits) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        headers: Any = _Headers(file)
        try:
            with tarfile.TarFile(fileobj=headers, encoding="utf-8", errors="surrogateescape") as archive:
                while (entry := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined]  # a tarfile keeps a kilobyte an entry otherwise
                    reason = _danger(entry, end)
                    if reason is not None:
                        raise _refused(path, entry.name, reason)
                    if name := plain_path(entry.name):
                        yield name, 0 if entry.isdir() else entry.offset_data, entry.size
                last = archive.offset
            file.seek(last)  # tarfile takes a damaged header for the end
            if file.read(512) != b"\0" * 512:
                raise BadArchive(f"{path}: is cut short or damaged at byte {last:,}; expected an entry or the end")
        except (tarfile.TarError, OverflowError, *DAMAGE) as error:
            raise BadArchive(f"{path}: expected a tar; it cannot be read ({error})") from error


def _danger(entry: tarfile.TarInfo, end: int) -> str | None:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    reason = danger_of_name(entry.name)
    if reason is not None:
        return reason
    if entry.issym() or entry.islnk():
        return "is a link"
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or entry.sparse is not None:
        return "is neither a file nor a folder"
    if entry.size < 0 or entry.offset_data + entry.size > end:
        return f"declares {entry.size:,} bytes; the file ends before them"
    return None


def _refused(path: Path, name: str, reason: str) -> BadArchive:
    return BadArchive(f"{path}: entry {name[:200]!r} {reason}; the archive is refused whole")


class _Headers:
    """A file of which only headers are read: one that declares a gigabyte is refused before it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.name, self.mode = file, "", "rb"

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes; the limit is {_MOST_HEADER:,}")
        return self.file.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        return self.file.seek(place, whence)

    def tell(self) -> int:
        return self.file.tell()


def is_webdataset(tree: Tree) -> str | None:
    """Tell why a tree is a set of WebDataset shards, or None."""
    found = _labels(tree)
    if not found:
        return None
    lacking = sum(_key(path) not in found for path in tree.files)
    return f"{len(tree.files) - lacking:,} of {len(tree.files):,} images have a .cls or .json of their name"


def _labels(tree: Tree) -> dict[str, list[str]]:
    """Sample → its .cls and .json; none where the tree is no tar."""
    found: dict[str, list[str]] = {}
    if isinstance(tree.source, PackedSource) and tree.files:
        for row in range(len(tree.source.names)):
            name = tree.source.names[row]
            if name.endswith(_FACTS):
                found.setdefault(_key(name), []).append(name)
    return found


def _key(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"


def read_webdataset(tree: Tree, options: Options) -> Dataset:
    """Read WebDataset shards: the class is the `.cls`, else what the `.json` calls label, class, identity …"""
    found = _labels(tree)
    images: list[tuple[str, dict[str, str]]] = []
    lost: list[Broken] = []
    known = {"cls": 0}
    for path in tree.files:
        facts: dict[str, str] = {}
        for name in found.get(_key(path), ()):
            try:
                facts |= _facts(tree, name)
            except (DataError, UnicodeDecodeError) as error:
                lost.append(Broken(path, f"the label {name} cannot be read ({error})"))
        known |= dict.fromkeys(facts, 0)
        split = facts.pop("split", "") or part_of(folder_of(path).replace("/", "-"))
        images.append((path, facts | ({"split": split} if split else {})))
    usual = next((name for name in ("cls", *ROLES["label"], *ROLES["identity"]) if _fills(name, images)), "cls")
    columns = [name for name in known if name != "split" and (name != "cls" or _fills("cls", images))]
    if usual not in columns:
        raise DataError(
            f"{tree.where}: expected a .cls beside each image, or a .json with {', '.join(ROLES['label'][:3])} …; "
            f"found {', '.join(columns) or 'nothing'}; choose one with --columns label=NAME"
        )
    return described(tree, options, images, columns, usual).without(lost)


def _fills(name: str, images: Sequence[tuple[str, Mapping[str, str]]]) -> bool:
    return any(facts.get(name) for _, facts in images)


def _facts(tree: Tree, name: str) -> dict[str, str]:
    """Name → value as text of a sample's .cls or .json; what is no plain value is left out."""
    try:
        content = tree.source.content(name)
    except BadImage as error:
        raise DataError(error.reason) from None
    if len(content) > _MOST_LABEL:
        raise DataError(f"has {len(content):,} bytes; the limit is {_MOST_LABEL:,}")
    if name.endswith(".cls"):
        return {"cls": content.decode().strip()}
    values: dict[str, Any] = parse_json(content, dict[str, Any], name, error=DataError)
    return {key: str(value).strip() for key, value in values.items() if isinstance(value, (str, int, float))}
