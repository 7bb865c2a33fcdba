"""An image's bytes to upright RGB pixels, within limits; whatever Pillow warns of stays inside.

A JPEG is looked at before: how much work it is, whether it is complete, at which size to decode it. Source: ITU-T T.81,
B.1 (markers), B.2.2 (frame header), B.2.3 (scan header), G.1.1 (progressive scans).
"""

from __future__ import annotations

import io
import os
import re
import struct
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from facewright.errors import BadImage, UsageError

Pixels = NDArray[np.uint8]
Reader = Callable[[io.BytesIO], ImageFile.ImageFile]
# Pillow lists the strips or tiles of a TIFF one by one while it opens; photos have hundreds.
_MOST_TIFF_PARTS = 200_000
_MOST_PNM_COMMENTS = 1_000
_MOST_PNM_TEXT = 4 * 2**20  # bytes: numbers written as text are read at about 5 MB a second
UNNAMED = "image"
_MEGAPIXELS = "FACEWRIGHT_MAX_MEGAPIXELS"
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
# A progressive JPEG may repeat scans over the whole image at ten bytes each. Photos have about ten scans, so up to
# USUAL_SCANS only the limit of pixels counts; a decoder goes over MOST_SCANNED pixels in about half a second.
USUAL_SCANS, MOST_SCANS = 12, 100
MOST_SCANNED = 100_000_000
MOST_SEGMENTS = 100_000
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END = b"\xff\xd9"
_PADDINGS = (b"", b"\x55\xa3\x1c\x7e", b"\xaa\x5c\xe3\x81")  # decoded, they would give different pixels


def _read_heic(file: io.BytesIO) -> ImageFile.ImageFile:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError:
        why = "is a HEIC image; install the extra that reads it: pip install 'facewright[heic]'"
        raise BadImage("", why) from None
    reader: Reader = HeifImageFile
    return reader(file)


# Format, its reader, the first bytes of such a file. Readers are named one by one so that none of Pillow's other
# formats (EPS runs a program, for one) can be reached by what a file says it is.
_FORMATS: tuple[tuple[str, Reader, re.Pattern[bytes]], ...] = (
    ("JPEG", JpegImagePlugin.JpegImageFile, re.compile(rb"\xff\xd8\xff")),
    ("PNG", PngImagePlugin.PngImageFile, re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WebP", WebPImagePlugin.WebPImageFile, re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("BMP", BmpImagePlugin.BmpImageFile, re.compile(rb"BM")),
    ("GIF", GifImagePlugin.GifImageFile, re.compile(rb"GIF8[79]a")),
    ("PNM", PpmImagePlugin.PpmImageFile, re.compile(rb"P[1-6]\s")),
    ("TIFF", TiffImagePlugin.TiffImageFile, re.compile(rb"II\*\x00|MM\x00\*")),
    ("AVIF", AvifImagePlugin.AvifImageFile, re.compile(rb"....ftyp(?:avi[fs]|m[is]f1.{4,60}?avi[fs])", re.S)),
    ("HEIC", _read_heic, re.compile(rb"....ftyp(?:hei[cxms]|hev[cx]|mif1|msf1)", re.S)),
)


def recognize(data: bytes) -> tuple[str, Reader]:
    """Return the format of an image's first bytes, and its reader. Raises BadImage."""
    if not data:
        raise BadImage("", "is empty (0 bytes)")
    for kind, reader, magic in _FORMATS:
        if magic.match(data):
            return kind, reader
    raise BadImage("", f"unsupported image format; expected {', '.join(kind for kind, _, _ in _FORMATS)}")


def _pixels() -> int:
    """Read the limit that the user set, in pixels."""
    text = os.environ.get(_MEGAPIXELS, "50")
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 2_000):
        raise UsageError(f"{_MEGAPIXELS}: expected a whole number of megapixels from 1 to 2,000, got {text!r}")
    return int(text) * 1_000_000


@dataclass(frozen=True)
class Limits:
    """The largest image that is decoded."""

    pixels: int = field(default_factory=_pixels)  # height times width: 50 million, or FACEWRIGHT_MAX_MEGAPIXELS
    bytes: int = 64 * 2**20  # of the file
    reducible: int = 5  # times `pixels` that a JPEG may declare, which is then decoded at a reduced size


def decode(
    kind: str, reader: Reader, data: bytes, limits: Limits, at_least: int | None
) -> tuple[Pixels, tuple[int, int]]:
    """Decode an image of a known format: its pixels, and its size (height, width) in the file. Raises BadImage."""
    if kind == "WebP":  # its reader makes room for the whole canvas while it opens, so ask the header first
        _check_size(webp_size(data), limits.pixels)
    elif kind == "JPEG":
        scans = check_jpeg(data)
        if not scans.ended:
            return _decode_without_end(reader, data, scans, limits, at_least)
    elif kind in WORK:
        WORK[kind](data)
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
    cut = data.removesuffix(b"\xff")
    padded = (cut + padding * 64 + _END for padding in _PADDINGS)
    first, *others = (_decode_checked("JPEG", reader, one, limits, at_least) for one in padded)
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
        return upright(image), (width, height) if _orientation_of(image) >= 5 else (height, width)


def _check_size(size: tuple[int, int], most: int, told: int | None = None) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(UNNAMED, f"declares a size of {width} x {height} pixels")
    if width * height > most:
        claim = f"declares {width} x {height} = {width * height:,} pixels"
        hint = f"save it smaller, or set {_MEGAPIXELS}"
        raise BadImage(UNNAMED, f"{claim}; the limit is {most if told is None else told:,} ({hint})")


def _orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation 1..8; 1 where there is none or the metadata cannot be read (the pixels still can)."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged metadata fails in as many ways as damaged pixels
        return 1
    return value if isinstance(value, int) and value in _UPRIGHT else 1


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a WebP's first chunk. Source: RFC 9649, sections 2.5 to 2.7."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise BadImage("", "is damaged (a WebP without an image)")


def _check_tiff(data: bytes) -> None:
    """Refuse a TIFF whose first page has a senseless number of values in a tag. Source: TIFF 6.0, section 2."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * entries, len(data) - 11), 12):
        tag, _, count = struct.unpack_from(f"{order}HHI", data, at)
        if tag in (273, 279, 324, 325) and count > _MOST_TIFF_PARTS:
            raise BadImage("", f"declares {count:,} strips or tiles; photos have hundreds")


def _check_pnm(data: bytes) -> None:
    """Refuse a plain PNM that is long, or made of comments: Pillow reads it number by number, in Python."""
    if data[1:2] not in b"123":
        return
    if len(data) > _MOST_PNM_TEXT:
        raise BadImage("", f"is a PNM of {len(data):,} bytes of text; the limit is {_MOST_PNM_TEXT:,}. Save it as PNG")
    if data.count(b"#") > _MOST_PNM_COMMENTS:
        raise BadImage("", f"is a PNM of more than {_MOST_PNM_COMMENTS:,} comments; images have one or two")


# What keeps a decoder busy for minutes without being large; checked before the file is opened.
WORK: dict[str, Callable[[bytes], None]] = {"TIFF": _check_tiff, "PNM": _check_pnm}


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


def jpeg_reduction(width: int, height: int, at_least: int | None, pixels: int) -> int:
    """Choose the divisor (1, 2, 4 or 8) of the size at which a JPEG is decoded, by the arguments of `read`.

    What is decoded has `pixels` at most; that comes first.
    """
    chosen = 1
    for divisor in (2, 4, 8):
        small = at_least is not None and min(width, height) // divisor >= at_least
        if small or width * height > pixels * chosen**2:
            chosen = divisor
    return chosen


def upright(image: Image.Image) -> Pixels:
    """Convert to (H, W, 3) uint8, turned upright by EXIF."""
    turn = _UPRIGHT.get(_orientation_of(image))
    pixels = to_rgb(image)
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def to_rgb(image: Image.Image) -> Pixels:
    """Convert to (H, W, 3) uint8 by the table at the top of the package."""
    if image.mode.startswith("I"):
        return _grey_to_rgb(image)
    if image.mode in ("F", "LAB"):
        what = "floating-point" if image.mode == "F" else "Lab"
        raise BadImage("", f"holds {what} pixels, which have no defined RGB; save it as 8-bit RGB")
    if not image.has_transparency_data:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA"))
    over_white = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), 256):  # in strips, so that the wider integers take little memory
        strip = rgba[top : top + 256].astype(np.uint16)
        alpha = strip[..., 3:]
        over_white[top : top + 256] = (strip[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return over_white


def _grey_to_rgb(image: Image.Image) -> Pixels:
    """16- or 32-bit integer grey to (H, W, 3) uint8, the whole range kept."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high <= 65535:
        grey = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)[values]
    else:
        grey = np.rint((values - np.float64(low)) * (255 / max(high - low, 1))).astype(np.uint8)
    clear = image.info.get("transparency")  # a PNG may name one grey that is transparent
    if isinstance(clear, int):
        grey[values == clear] = 255
    return np.repeat(grey[..., None], 3, axis=2)


def reason_of(kind: str, error: Exception) -> str:
    """Say in words why a decoder gave up."""
    text = str(error)
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, (EOFError, IndexError, struct.error)) or re.search(
        "truncat|not enough|Truncat|end of file|EOF", text
    ):
        return f"is truncated ({kind})"
    return f"is damaged ({kind}: {text or type(error).__name__})"


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
