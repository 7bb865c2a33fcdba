"""Which files of a folder or an archive are images: one rule for everything that lists them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

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


def is_hidden(path: str) -> bool:
    """Tell whether a part of a path is hidden, or is what macOS and notebooks add.

    >>> [is_hidden(path) for path in ("._1.jpg", "__MACOSX/1.jpg", "ann/.ipynb_checkpoints/1.jpg", "ann/1.jpg")]
    [True, True, True, False]
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


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
