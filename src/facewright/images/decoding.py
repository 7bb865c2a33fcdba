"""An image's bytes to upright RGB pixels, within limits; whatever Pillow warns of stays inside."""

from __future__ import annotations

import io
import os
import threading
import warnings
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from PIL import Image

from facewright.errors import BadImage, UsageError
from facewright.images import formats, jpeg
from facewright.images.formats import Pixels, Reader, to_rgb

# EXIF tag 274: how the stored image must be turned to stand upright (EXIF 2.32, 4.6.4 A).
_ORIENTATION_TAG = 274
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UNNAMED = "image"
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


def decode(
    kind: str, reader: Reader, data: bytes, limits: Limits, at_least: int | None
) -> tuple[Pixels, tuple[int, int]]:
    """Decode an image of a known format: its pixels, and its size (height, width) in the file. Raises BadImage."""
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
    reader: Reader, data: bytes, scans: jpeg.Scans, limits: Limits, at_least: int | None
) -> tuple[Pixels, tuple[int, int]]:
    """Decode a JPEG of which only the end marker is missing.

    Whatever follows complete data is never decoded. So different paddings give the same pixels exactly where nothing is
    missing; a progressive file must have sent every bit of every coefficient, too.
    """
    if not scans.complete:
        raise BadImage(UNNAMED, "is truncated (JPEG: scans are missing)")
    first, *others = (_decode_checked("JPEG", reader, padded, limits, at_least) for padded in jpeg.with_paddings(data))
    if not all(np.array_equal(first[0], pixels) for pixels, _ in others):
        raise BadImage(UNNAMED, "is truncated (JPEG)")
    return first


def _decode_checked(
    kind: str, reader: Reader, data: bytes, limits: Limits, at_least: int | None
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
        orientation = orientation_of(image)
        upright = UPRIGHT.get(orientation)
        pixels = to_rgb(image)
    size = (width, height) if orientation >= 5 else (height, width)
    return (pixels if upright is None else np.array(Image.fromarray(pixels).transpose(upright))), size


def _check_size(size: tuple[int, int], most: int, told: int | None = None) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(UNNAMED, f"declares a size of {width} x {height} pixels")
    if width * height > most:
        claim = f"declares {width} x {height} = {width * height:,} pixels"
        hint = f"save it smaller, or set {_MEGAPIXELS}"
        raise BadImage(UNNAMED, f"{claim}; the limit is {most if told is None else told:,} ({hint})")


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation 1..8; 1 where there is none or the metadata cannot be read (the pixels still can)."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged metadata fails in as many ways as damaged pixels
        return 1
    return value if isinstance(value, int) and value in UPRIGHT else 1


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


QUIET = _Quiet()
