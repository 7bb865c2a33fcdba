"""The files of a folder or an archive that are images: one rule for everything that lists them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from facewright.errors import UsageError
from facewright.images import IMAGE_TYPES, ImageLike, MemoryImage, as_image

SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".pbm", ".pgm", ".ppm", ".pnm", ".avif", ".heic", ".heif"}
)

# Images by their names that nothing here decodes; who lists files can say so instead of passing over them.
UNREAD_SUFFIXES: frozenset[str] = frozenset(
    {".jxl", ".jp2", ".j2k", ".psd", ".tga", ".svg", ".eps", ".ico", ".pcx"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"}
)


def is_image(name: str) -> bool:
    """Tell whether a file name ends like an image's.

    >>> is_image("ann/1.JPG"), is_image("notes.txt")
    (True, False)
    """
    return _suffix(name) in SUFFIXES


ADDED_FOLDERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


def is_hidden(path: str) -> bool:
    """Tell whether a part of a path is hidden, or is what systems, NAS devices and notebooks add.

    >>> [is_hidden(path) for path in ("._1.jpg", "__MACOSX/1.jpg", "ann/@eaDir/1.jpg", "ann/1.jpg")]
    [True, True, True, False]
    """
    return any(part.startswith(".") or part in ADDED_FOLDERS for part in path.split("/"))


def unread_reason(name: str) -> str | None:
    """Return why a file that is an image by its name is not read, or None."""
    suffix = _suffix(name)
    return f"is a {suffix} file, which is not read; save it as JPEG or PNG" if suffix in UNREAD_SUFFIXES else None


def _suffix(name: str) -> str:
    """The suffix in lower case. An archive may have 300,000 names, so no path object is made of each."""
    file = name.rpartition("/")[2]
    dot = file.rfind(".")
    return file[dot:].lower() if dot > 0 else ""


def images_below(folder: Path) -> list[Path]:
    """Return the images below a folder at any depth, sorted; hidden files and links are left out."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [Path(parent, name) for name in names if is_image(name) and not is_hidden(name)]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def none_found(paths: Iterable[Path | str]) -> str:
    """Say that no image is below some paths, and what is there instead."""
    folders = [Path(path) for path in paths]
    below = (file for folder in folders for file in folder.rglob("*") if not is_hidden(file.name))
    bare = sum(file.is_file() and not file.suffix for file in below)
    there = f"; {bare} files have no suffix, add it (.jpg)" if bare else ""
    return f"{', '.join(map(str, folders))}: found no image{there}; expected {', '.join(sorted(SUFFIXES))}"


def images_in(paths: ImageLike | Sequence[ImageLike]) -> list[Path | MemoryImage]:
    """List images: files as they are, the images below folders in order (links are not followed), images in memory.

    Raises:
        UsageError: a path does not exist, an array is no image, or there is no image at all.
    """
    listed = as_list(paths)
    found = [image for one in listed for image in images_at(one)]
    if not found:
        raise UsageError(none_found(str(one) for one in listed))
    return found


def as_list(paths: ImageLike | Sequence[ImageLike]) -> list[Path | MemoryImage]:
    """Return one image or several as a list; those in memory are named by their place in it."""
    several: Sequence[ImageLike] = [paths] if isinstance(paths, IMAGE_TYPES) else paths
    return [
        Path(one) if isinstance(one, (str, Path)) else MemoryImage(f"image-{number}", as_image(one))
        for number, one in enumerate(several, start=1)
    ]


def images_at(one: Path | MemoryImage) -> list[Path | MemoryImage]:
    """Return an image, or those below a folder, in order. Raises UsageError: there is no such path."""
    if isinstance(one, Path) and one.is_dir():
        return sorted(images_below(one), key=in_order)
    if isinstance(one, Path) and not one.exists():
        raise UsageError(f"{one}: no such file or folder")
    return [one]


def in_order(image: object) -> list[str | int]:
    """Return a key that sorts by name, and numbers in names by their value.

    >>> [str(path) for path in sorted([Path("10.png"), Path("9.png")], key=in_order)]
    ['9.png', '10.png']
    """
    parts = re.split(r"([0-9]+)", str(image))
    return [int(part) if number % 2 else part for number, part in enumerate(parts)]
