"""The image formats that are read: how each is recognized, what makes one too much work, what its pixels mean."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from functools import cache

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

from facewright.errors import BadImage

Pixels = NDArray[np.uint8]
Reader = Callable[[io.BytesIO], ImageFile.ImageFile]

# Pillow lists the strips or tiles of a TIFF one by one while it opens; photos have hundreds.
_MOST_TIFF_PARTS = 200_000
_MOST_PNM_COMMENTS = 1_000
_MOST_PNM_TEXT = 4 * 2**20  # bytes: numbers written as text are read at about 5 MB a second


@cache
def _heif_reader() -> Reader | None:
    """The reader of HEIC files, where the extra is installed."""
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError:
        return None
    reader: Reader = HeifImageFile
    return reader


def _read_heic(file: io.BytesIO) -> ImageFile.ImageFile:
    reader = _heif_reader()
    if reader is None:
        raise BadImage("", "is a HEIC image; install the extra that reads it: pip install 'facewright[heic]'")
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
