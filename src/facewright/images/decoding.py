"""An image's bytes to upright RGB pixels, within limits; whatever Pillow warns of stays inside.

A JPEG is looked at before: how much work it is, whether it is complete, at which size to decode it. Source: ITU-T T.81,
B.1 (markers), B.2.2 (frame header), B.2.3 (scan header), G.1.1 (progressive scans).
"""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from PIL import Image

from facewright.errors import BadImage, UsageError
from facewright.images import formats
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
# A progressive JPEG may repeat scans over the whole image at ten bytes each. Photos have about ten scans, so up to
# USUAL_SCANS only the limit of pixels counts; a decoder goes over MOST_SCANNED pixels in about half a second.
USUAL_SCANS, MOST_SCANS = 12, 100
MOST_SCANNED = 100_000_000
MOST_SEGMENTS = 100_000
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END = b"\xff\xd9"


@dataclass
class Scans:
    """The scans of a JPEG, as their headers announce them."""

    count: int = 0
    height: int = 0
    width: int = 0
    components: frozenset[int] = frozenset()
    missing_bits: dict[tuple[int, int], int] = field(default_factory=dict)  # (component, coefficient) -> bits to come
    ended: bool = False  # the end marker is there

    @property
    def complete(self) -> bool:
        """True where every bit of every coefficient of every component has its scan."""
        sent = len(self.missing_bits) == 64 * len(self.components) > 0
        return sent and not any(self.missing_bits.values())


def check_jpeg(data: bytes) -> Scans:
    """Walk over the segments of a JPEG. Raises BadImage: its scans or segments would keep the decoder busy for long."""
    scans, position, segments = Scans(), 2, 0
    while marker := _MARKER.search(data, position):
        segments += 1
        code, body = data[marker.start() + 1], data[marker.end() : marker.end() + 2 + 64]
        if code == 0xD9:  # the end of the image; what follows (a thumbnail, a film) is not decoded
            scans.ended = True
            break
        if code in _FRAMES and len(body) >= 8:
            scans.height, scans.width = int.from_bytes(body[3:5], "big"), int.from_bytes(body[5:7], "big")
            scans.components = frozenset(body[8 : 8 + 3 * body[7] : 3])
        elif code == 0xDA:
            scans.count += 1
            _add_scan(scans, body)
        _check_work(scans, segments)
        position = marker.end() + int.from_bytes(body[:2], "big")
    return scans


def _check_work(scans: Scans, segments: int) -> None:
    if scans.count > MOST_SCANS:
        raise BadImage("", f"is a JPEG of more than {MOST_SCANS} scans; photos have about ten")
    if segments > MOST_SEGMENTS:
        raise BadImage("", f"is a JPEG of more than {MOST_SEGMENTS:,} segments; photos have dozens")
    if scans.count > USUAL_SCANS and scans.count * scans.height * scans.width > MOST_SCANNED:
        raise BadImage(
            "",
            f"is a JPEG of {scans.width} x {scans.height} pixels in {scans.count} scans or more; photos have about ten",
        )


def _add_scan(scans: Scans, body: bytes) -> None:
    """Note which bits a scan header announces."""
    count = body[2] if len(body) > 2 else 0
    if len(body) < 6 + 2 * count:
        return
    first, last, low = body[3 + 2 * count], body[4 + 2 * count], body[5 + 2 * count] & 15
    for number in range(count):
        for coefficient in range(first, min(last, 63) + 1):
            scans.missing_bits[body[3 + 2 * number], coefficient] = low


def with_paddings(data: bytes) -> tuple[bytes, ...]:
    """Return the file completed by an end marker: right away, and after bytes that would decode to something else."""
    data = data.removesuffix(b"\xff")
    return tuple(data + padding * 64 + _END for padding in (b"", b"\x55\xa3\x1c\x7e", b"\xaa\x5c\xe3\x81"))


def jpeg_reduction(width: int, height: int, at_least: int | None, pixels: int) -> int:
    """Choose the divisor (1, 2, 4 or 8) of the size at which a JPEG is decoded.

    Args:
        width, height: in the file.
        at_least: pixels that the shorter side keeps; None asks for the full size.
        pixels: the limit for the decoded image, which comes first.
    """
    chosen = 1
    for divisor in (2, 4, 8):
        small = at_least is not None and min(width, height) // divisor >= at_least
        if small or width * height > pixels * chosen**2:
            chosen = divisor
    return chosen


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
        scans = check_jpeg(data)
        if not scans.ended:
            return _decode_without_end(reader, data, scans, limits, at_least)
    elif kind in formats.WORK:
        formats.WORK[kind](data)
    return _decode_checked(kind, reader, data, limits, at_least)


def _decode_without_end(
    reader: Reader, data: bytes, scans: Scans, limits: Limits, at_least: int | None
) -> tuple[Pixels, tuple[int, int]]:
    """Decode a JPEG of which only the end marker is missing.

    Whatever follows complete data is never decoded. So different paddings give the same pixels exactly where nothing is
    missing; a progressive file must have sent every bit of every coefficient, too.
    """
    if not scans.complete:
        raise BadImage(UNNAMED, "is truncated (JPEG: scans are missing)")
    first, *others = (_decode_checked("JPEG", reader, padded, limits, at_least) for padded in with_paddings(data))
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
            reduction = jpeg_reduction(width, height, at_least, limits.pixels)
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
