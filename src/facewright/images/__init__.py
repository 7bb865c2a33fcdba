"""Any image file to upright RGB pixels, safely.

`read` decodes JPEG, PNG, WebP, AVIF, HEIC (extra `heic`), BMP, GIF (first frame), PBM/PGM/PPM and TIFF (first page)
from hostile bytes: the format is told by the first bytes, never by the file's name; limits on size and work are checked
on the header, before pixels are decoded; a truncated or damaged file is refused. Every refusal is a `BadImage` that
gives the reason.

What each kind of pixel becomes (8 bits a channel, RGB):

    grey, 1-bit           the three channels are equal; 1-bit is 0 and 255
    palette               its colours
    alpha, transparency   laid over white, rounded to nearest
    CMYK, YCbCr, HSV      converted without a colour profile
    16-bit grey           the whole range 0..65535 onto 0..255, rounded; never clipped
    32-bit integer grey   as 16-bit where it fits 0..65535, else its own minimum..maximum onto 0..255
    floating point, Lab   refused: no range, or no profile-free meaning

A JPEG that lacks only its end marker is read; one that lacks pixels is refused. A JPEG of more than `Limits.pixels` (a
phone's 108 or 200 megapixels) is decoded at 1/2, 1/4 or 1/8 of its size. `FACEWRIGHT_MAX_MEGAPIXELS` raises the limit.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from facewright.errors import BadImage, UsageError
from facewright.images import formats, jpeg
from facewright.images.formats import Pixels, to_rgb

__all__ = [
    "IMAGE_TYPES",
    "ImageLike",
    "Limits",
    "MemoryImage",
    "Pixels",
    "as_image",
    "pixel_digest",
    "read",
    "read_bytes",
    "read_sized",
    "try_read",
]

# EXIF tag 274: how the stored image must be turned to stand upright (EXIF 2.32, 4.6.4 A).
_ORIENTATION_TAG = 274
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UNNAMED = "image"
_MEGAPIXELS = "FACEWRIGHT_MAX_MEGAPIXELS"


def _pixels() -> int:
    """Read the limit that the user set, in pixels."""
    text = os.environ.get(_MEGAPIXELS, "50")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 2_000):
        raise UsageError(f"{_MEGAPIXELS}: expected a whole number of megapixels from 1 to 2,000, got {text!r}")
    return int(text) * 1_000_000


@dataclass(frozen=True)
class Limits:
    """The largest image that is decoded.

    pixels: height times width that are decoded; 50 million, or as `FACEWRIGHT_MAX_MEGAPIXELS` says.
    bytes: of the file.
    reducible: times `pixels` that a JPEG may declare, which is then decoded at a reduced size.
    """

    pixels: int = field(default_factory=_pixels)
    bytes: int = 64 * 2**20
    reducible: int = 5


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
            upright = _UPRIGHT.get(_orientation(source))
            pixels = to_rgb(source)
        except (OSError, ValueError) as error:
            raise BadImage(_UNNAMED, f"the PIL image cannot be read ({error})") from None
        return pixels if upright is None else np.array(Image.fromarray(pixels).transpose(upright))
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
    called = name if name is not None else (str(source) if isinstance(source, Path) else _UNNAMED)
    data = read_bytes(source, limits, called) if isinstance(source, Path) else source
    if len(data) > limits.bytes:
        raise BadImage(called, f"has {len(data):,} bytes; the limit is {limits.bytes:,}")
    try:
        kind, reader = formats.recognize(data)
        with _QUIET:
            return _decode(kind, reader, data, limits, at_least)
    except BadImage as refusal:  # one of our own rules, which does not know the name
        raise BadImage(called, refusal.reason) from None
    except Image.DecompressionBombError:  # a GIF's frame is checked by Pillow itself, before we can ask
        raise BadImage(called, f"declares far too many pixels; the limit is {limits.pixels:,}") from None
    except Exception as error:  # Pillow raises a dozen types on damaged data; each means that this file is unusable
        raise BadImage(called, formats.reason_of(kind, error)) from error


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
            raise BadImage(name, "is not a regular file")
        if status.st_size > limits.bytes:
            raise BadImage(name, f"has {status.st_size:,} bytes; the limit is {limits.bytes:,}")
        with path.open("rb") as file:
            return file.read(limits.bytes + 1)
    except FileNotFoundError:
        raise BadImage(name, "no such file") from None
    except (OSError, ValueError) as error:
        raise BadImage(name, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


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


def _decode(
    kind: str,
    reader: Callable[[io.BytesIO], ImageFile.ImageFile],
    data: bytes,
    limits: Limits,
    at_least: int | None,
) -> tuple[Pixels, tuple[int, int]]:
    """The pixels, and the size (height, width) in the file."""
    if kind == "WebP":  # its reader makes room for the whole canvas while it opens, so ask the header first
        _check_size(formats.webp_size(data), limits.pixels)
    elif kind == "JPEG":
        scans = jpeg.check(data)
        if not scans.ended:
            return _decode_without_end(reader, data, scans, limits, at_least)
    elif kind in formats.WORK:
        formats.WORK[kind](data)
    return _decode_checked(kind, reader, data, limits, at_least)


def _decode_without_end(
    reader: Callable[[io.BytesIO], ImageFile.ImageFile],
    data: bytes,
    scans: jpeg.Scans,
    limits: Limits,
    at_least: int | None,
) -> tuple[Pixels, tuple[int, int]]:
    """Decode a JPEG that lacks its end marker, if it lacks nothing else.

    Whatever follows complete data is never decoded. So different paddings give the same pixels exactly where nothing is
    missing; a progressive file must have sent every bit of every coefficient, too.
    """
    if not scans.complete:
        raise BadImage(_UNNAMED, "is truncated (JPEG: scans are missing)")
    first, *others = (_decode_checked("JPEG", reader, padded, limits, at_least) for padded in jpeg.with_paddings(data))
    if not all(np.array_equal(first[0], pixels) for pixels, _ in others):
        raise BadImage(_UNNAMED, "is truncated (JPEG)")
    return first


def _decode_checked(
    kind: str,
    reader: Callable[[io.BytesIO], ImageFile.ImageFile],
    data: bytes,
    limits: Limits,
    at_least: int | None,
) -> tuple[Pixels, tuple[int, int]]:
    with reader(io.BytesIO(data)) as image:
        reducible = limits.reducible if kind == "JPEG" else 1
        # A progressive JPEG is held in memory whole, at 3 to 6 bytes a pixel, at whatever size it is decoded.
        if kind == "JPEG" and image.info.get("progressive"):
            reducible = min(reducible, 2)
        _check_size(image.size, limits.pixels * reducible, limits.pixels)
        width, height = image.size
        if kind == "JPEG":
            reduction = jpeg.reduction(width, height, at_least, limits.pixels)
            if reduction > 1:
                image.draft(None, (max(1, width // reduction), max(1, height // reduction)))
        image.load()
        _check_size(image.size, limits.pixels)
        orientation = _orientation(image)
        upright = _UPRIGHT.get(orientation)
        pixels = to_rgb(image)
    size = (width, height) if orientation >= 5 else (height, width)
    return (pixels if upright is None else np.array(Image.fromarray(pixels).transpose(upright))), size


def _check_size(size: tuple[int, int], most: int, told: int | None = None) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(_UNNAMED, f"declares a size of {width} x {height} pixels")
    if width * height > most:
        claim = f"declares {width} x {height} = {width * height:,} pixels"
        hint = f"save it smaller, or set {_MEGAPIXELS}"
        raise BadImage(_UNNAMED, f"{claim}; the limit is {most if told is None else told:,} ({hint})")


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation 1..8; 1 where there is none or the metadata cannot be read (the pixels still can)."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged metadata fails in as many ways as damaged pixels
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


class _Quiet:
    """Hold back Pillow's warnings while any thread decodes.

    They are about odd metadata; an unusable image is refused with an error. `warnings.catch_warnings` alone is no
    answer, because two threads that leave it in the order they came would restore each other's filters.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self._inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(kind, error, at)


_QUIET = _Quiet()
