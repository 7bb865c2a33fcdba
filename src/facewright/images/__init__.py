"""Any image file to upright RGB pixels, safely; and which files of a folder are images.

`read` decodes JPEG, PNG, WebP, AVIF, HEIC (extra `heic`), BMP, GIF (first frame), PBM/PGM/PPM and TIFF (first page):
the format is told by the first bytes, limits on size and work are checked on the header, what is damaged is refused.

    grey, 1-bit           the three channels are equal; 1-bit is 0 and 255
    palette               its colours
    alpha, transparency   laid over white, rounded to nearest
    CMYK, YCbCr, HSV      converted without a colour profile
    16-bit grey           the whole range 0..65535 onto 0..255, rounded; never clipped
    32-bit integer grey   as 16-bit where it fits 0..65535, else its own minimum..maximum onto 0..255
    floating point, Lab   refused: no range, or no profile-free meaning

A JPEG that lacks only its end marker is read; one of more than `Limits.pixels` is decoded at 1/2, 1/4 or 1/8 of its
size. `FACEWRIGHT_MAX_MEGAPIXELS` raises the limit.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright.errors import BadImage, UsageError
from facewright.images.decoding import QUIET, UNNAMED, decode, reason_of, recognize, upright
from facewright.images.decoding import Limits as Limits
from facewright.images.decoding import Pixels as Pixels

LOG = logging.getLogger("facewright.images")


@dataclass(frozen=True, eq=False)
class MemoryImage:
    """An image in memory with a name, for lists that hold files too."""

    name: str
    pixels: Pixels  # (H, W, 3) uint8

    @property
    def stem(self) -> str:
        return self.name

    def __str__(self) -> str:
        return self.name


IMAGE_TYPES = (str, Path, bytes, np.ndarray, Image.Image, MemoryImage)
ImageLike = str | Path | bytes | NDArray[np.uint8] | Image.Image | MemoryImage
"""A path, the bytes of a file, an H x W x 3 uint8 array, or a PIL image."""


def as_image(source: ImageLike) -> Pixels:
    """Return the pixels of an image, wherever it is.

    Args:
        source: a path, the bytes of a file, an (H, W, 3) uint8 RGB array, or a PIL image.
    Returns:
        (H, W, 3) uint8 RGB, contiguous; files and PIL images upright by EXIF.
    Raises:
        BadImage: a file that `read` refuses. UsageError: anything else, such as a float, grey or C x H x W array.

    >>> as_image(np.zeros((4, 6, 3), np.uint8)).shape
    (4, 6, 3)
    """
    if isinstance(source, (str, Path, bytes)):
        return read(source)
    if isinstance(source, MemoryImage):
        return source.pixels
    if isinstance(source, Image.Image):
        try:
            source.load()
            return upright(source)
        except (OSError, ValueError) as error:
            raise BadImage(UNNAMED, f"the PIL image cannot be read ({error})") from None
    is_array = isinstance(source, np.ndarray)
    if is_array and source.dtype == np.uint8 and source.ndim == 3 and source.shape[2] == 3 and source.size:
        return np.ascontiguousarray(source)
    found = f"{source.dtype} of shape {source.shape}" if is_array else type(source).__name__
    raise UsageError(f"expected a path, an H x W x 3 uint8 RGB array or a PIL image, got {found}")


def read(
    source: ImageLike, *, limits: Limits | None = None, name: str | None = None, at_least: int | None = None
) -> Pixels:
    """Decode one image.

    Args:
        source: a file (a link to one is followed: the caller named it), the bytes of one, an array or a PIL image.
        limits: what is refused from the header; the default where None.
        name: what error messages call it; default: the path.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps this many
            pixels (several times faster for big photos); None decodes at full size.
    Returns:
        (H, W, 3) uint8 RGB, upright by EXIF, contiguous.
    Raises:
        BadImage: truncated, damaged, over a limit, or of an unsupported format; names the file and says why.
    """
    return read_sized(source, limits=limits, name=name, at_least=at_least)[0]


def read_sized(
    source: ImageLike, *, limits: Limits | None = None, name: str | None = None, at_least: int | None = None
) -> tuple[Pixels, tuple[int, int]]:
    """Decode one image as `read`, and return the height and width that it has in the file, upright, too."""
    if at_least is not None and at_least < 1:
        raise UsageError(f"expected at_least of 1 pixel or more, got {at_least}")
    if not isinstance(source, (str, Path, bytes)):
        pixels = as_image(source)
        return pixels, (pixels.shape[0], pixels.shape[1])
    limits = Limits() if limits is None else limits
    source = Path(source) if isinstance(source, str) else source
    called = name if name is not None else (str(source) if isinstance(source, Path) else UNNAMED)
    data = read_bytes(source, limits, called) if isinstance(source, Path) else source
    if len(data) > limits.bytes:
        raise BadImage(called, f"has {len(data):,} bytes; the limit is {limits.bytes:,}")
    try:
        kind, reader = recognize(data)
        with QUIET:
            pixels, (height, width) = decode(kind, reader, data, limits, at_least)
        if at_least is None and pixels.shape[0] < height:
            LOG.warning(
                "%s: read at %d x %d px of its %d x %d, in which faces are smaller; FACEWRIGHT_MAX_MEGAPIXELS raises "
                "the limit of %g megapixels",
                called, *pixels.shape[1::-1], width, height, limits.pixels / 1e6,
            )  # fmt: skip
        return pixels, (height, width)
    except BadImage as refusal:  # one of our own rules, which does not know the name
        raise BadImage(called, refusal.reason) from None
    except Image.DecompressionBombError:  # a GIF's frame is checked by Pillow itself, before we can ask
        raise BadImage(called, f"declares far too many pixels; the limit is {limits.pixels:,}") from None
    except Exception as error:  # Pillow raises a dozen types on damaged data; each means that this file is unusable
        raise BadImage(called, reason_of(kind, error)) from error


def try_read(
    source: ImageLike, *, limits: Limits | None = None, name: str | None = None, at_least: int | None = None
) -> Pixels | str:
    """Decode one image as `read`, or return the reason why it cannot be used."""
    try:
        return read(source, limits=limits, name=name, at_least=at_least)
    except BadImage as error:
        return error.reason


def read_bytes(path: Path, limits: Limits, name: str) -> bytes:
    """Return the content of a regular file that is within the limit. Raises BadImage."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block or never end
            raise BadImage(name, "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
        if status.st_size > limits.bytes:
            raise BadImage(name, f"has {status.st_size:,} bytes; the limit is {limits.bytes:,}")
        with path.open("rb") as file:
            return file.read(limits.bytes + 1)
    except FileNotFoundError:
        raise BadImage(name, "no such file") from None
    except (OSError, ValueError) as error:
        raise BadImage(name, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


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

    Raises UsageError: a path does not exist, an array is no image, or there is no image at all.
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


def pixel_digest(image: Pixels) -> str:
    """Return 32 hex characters that stand for the pixels and the shape of an image, whatever file they came from.

    Args:
        image: (H, W, 3) uint8.
    >>> pixel_digest(np.zeros((2, 3, 3), np.uint8)) == pixel_digest(np.zeros((3, 2, 3), np.uint8))
    False
    """
    height, width = image.shape[:2]
    state = hashlib.blake2b(f"{height}x{width}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(image).data)
    return state.hexdigest()


def png_of(image: Pixels) -> bytes:
    """Return an image (H, W, 3) as a PNG file."""
    return _encoded(image, "PNG")


def _encoded(image: Pixels, kind: str, **options: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, kind, **options)
    return out.getvalue()


def data_uri(image: Pixels, quality: int | None = None) -> str:
    """Return an image (H, W, 3) as an address that holds it: a PNG, or a JPEG of a quality from 1 to 95."""
    kind, options = ("png", {}) if quality is None else ("jpeg", {"quality": quality, "optimize": True})
    return f"data:image/{kind};base64,{base64.b64encode(_encoded(image, kind, **options)).decode()}"
