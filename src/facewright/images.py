"""Any photo file to upright RGB pixels, safely.

`read` decodes JPEG, PNG, WebP, BMP, GIF (first frame), PBM/PGM/PPM and TIFF (first page) from hostile bytes: the kind
is told by the first bytes, never by the file's name; size limits are checked on the header, before pixels are decoded;
what is cut short or damaged is refused. Every refusal is a `BadImage` with a reason in words.

What each kind of pixel becomes (8 bits a channel, RGB):

    grey, 1-bit           the three channels are equal; 1-bit is 0 and 255
    palette               its colours
    alpha, transparency   laid over white, rounded to nearest
    CMYK, YCbCr, HSV      converted without a colour profile
    16-bit grey           the whole range 0..65535 onto 0..255, rounded; never clipped
    32-bit integer grey   as 16-bit where it fits 0..65535, else its own least..greatest value onto 0..255
    floating point, Lab   refused: no range, or no profile-free meaning
"""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import (
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

IMAGE_SUFFIXES: frozenset[str] = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)

# Pictures by their names that nothing here decodes; who lists files can say so instead of passing them over.
UNREAD_SUFFIXES: frozenset[str] = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".psd", ".tga", ".svg", ".eps", ".ico", ".pcx"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"}
)

# Kind, its reader, the first bytes of such a file. Readers are named one by one so that none of Pillow's other formats
# (EPS runs a program, for one) can be reached by what a file says it is.
_FORMATS: tuple[tuple[str, Callable[[io.BytesIO], ImageFile.ImageFile], re.Pattern[bytes]], ...] = (
    ("JPEG", JpegImagePlugin.JpegImageFile, re.compile(rb"\xff\xd8\xff")),
    ("PNG", PngImagePlugin.PngImageFile, re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("WebP", WebPImagePlugin.WebPImageFile, re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("BMP", BmpImagePlugin.BmpImageFile, re.compile(rb"BM")),
    ("GIF", GifImagePlugin.GifImageFile, re.compile(rb"GIF8[79]a")),
    ("PNM", PpmImagePlugin.PpmImageFile, re.compile(rb"P[1-6]\s")),
    ("TIFF", TiffImagePlugin.TiffImageFile, re.compile(rb"II\*\x00|MM\x00\*")),
)

# EXIF tag 274: how the stored picture must be turned to stand upright (EXIF 2.32, 4.6.4 A).
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

# A progressive JPEG may repeat scans over the whole picture at ten bytes each; photos have about ten.
_MOST_JPEG_SCANS = 100
_MOST_JPEG_MARKERS = 100_000
# Pillow lists the strips or tiles of a TIFF one by one while it opens; photos have hundreds.
_MOST_TIFF_PARTS = 200_000
_MOST_PNM_COMMENTS = 1_000
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


@dataclass(frozen=True)
class Limits:
    """The largest picture that is decoded: pixels (height times width, as stored) and bytes of the file."""

    pixels: int = 50_000_000
    bytes: int = 64 * 2**20


_DEFAULT_LIMITS = Limits()
_UNNAMED = "picture"


def read(
    source: Path | bytes,
    *,
    limits: Limits = _DEFAULT_LIMITS,
    name: str | None = None,
    at_least: int | None = None,
) -> Pixels:
    """Decode one picture.

    Args:
        source: a file (a link to one is followed: the caller named it), or the bytes of one.
        limits: what is refused from the header.
        name: what error messages call it; the path by default.
        at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps this many
            pixels (several times faster for big photos); None decodes at full size.
    Returns:
        (H, W, 3) uint8 RGB, upright by EXIF, contiguous.
    Raises:
        BadImage: truncated, damaged, over a limit, of an unsupported kind, or no picture; names the file and says why.
    """
    if at_least is not None and at_least < 1:
        raise UsageError(f"expected at_least of 1 pixel or more, got {at_least}")
    called = name if name is not None else (str(source) if isinstance(source, Path) else _UNNAMED)
    data = read_bytes(source, limits, called) if isinstance(source, Path) else source
    if len(data) > limits.bytes:
        raise BadImage(called, f"has {len(data):,} bytes; the limit is {limits.bytes:,}")
    kind, reader = _recognise(data, called)
    with _QUIET:
        try:
            return _decode(kind, reader, data, limits, at_least)
        except BadImage as refusal:  # one of our own rules, which does not know the name
            raise BadImage(called, refusal.reason) from None
        except Image.DecompressionBombError:  # a GIF's frame is checked by Pillow itself, before we can ask
            raise BadImage(called, f"declares far too many pixels; the limit is {limits.pixels:,}") from None
        except Exception as error:  # Pillow raises a dozen types on damaged data; each means that this file is unusable
            raise BadImage(called, _in_words(kind, error)) from error


def read_bytes(path: Path, limits: Limits, name: str) -> bytes:
    """The content of a regular file that is within the limit. Raises BadImage."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device would block or never end
            raise BadImage(name, "is not a regular file")
        if found.st_size > limits.bytes:
            raise BadImage(name, f"has {found.st_size:,} bytes; the limit is {limits.bytes:,}")
        with path.open("rb") as file:
            return file.read(limits.bytes + 1)
    except FileNotFoundError:
        raise BadImage(name, "no such file") from None
    except (OSError, ValueError) as error:
        raise BadImage(name, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def pixel_digest(image: Pixels) -> str:
    """32 hex characters that stand for the pixels and the shape of a picture, whatever file they came from.

    Args:
        image: (H, W, 3) uint8.
    >>> pixel_digest(np.zeros((2, 3, 3), np.uint8)) == pixel_digest(np.zeros((3, 2, 3), np.uint8))
    False
    """
    height, width = image.shape[:2]
    state = hashlib.blake2b(f"{height}x{width}".encode(), digest_size=16)
    state.update(np.ascontiguousarray(image).data)
    return state.hexdigest()


def _recognise(data: bytes, name: str) -> tuple[str, Callable[[io.BytesIO], ImageFile.ImageFile]]:
    if not data:
        raise BadImage(name, "is empty (0 bytes)")
    for kind, reader, magic in _FORMATS:
        if magic.match(data):
            return kind, reader
    known = ", ".join(kind for kind, _, _ in _FORMATS)
    raise BadImage(name, f"is no picture of a kind that is read here ({known})")


def _decode(
    kind: str, reader: Callable[[io.BytesIO], ImageFile.ImageFile], data: bytes, limits: Limits, at_least: int | None
) -> Pixels:
    if kind == "WebP":  # its reader makes room for the whole canvas while it opens, so ask the header first
        _check_size(_webp_size(data), limits)
    elif kind in _PATIENCE:
        _PATIENCE[kind](data)
    with reader(io.BytesIO(data)) as picture:
        _check_size(picture.size, limits)
        if kind == "JPEG" and at_least is not None:
            picture.draft(None, (at_least, at_least))
        picture.load()
        _check_size(picture.size, limits)
        upright = _UPRIGHT.get(_orientation(picture))
        pixels = _to_rgb(picture)
        return pixels if upright is None else np.array(Image.fromarray(pixels).transpose(upright))


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(_UNNAMED, f"declares a size of {width} x {height} pixels")
    if width * height > limits.pixels:
        claim = f"declares {width} x {height} = {width * height:,} pixels"
        raise BadImage(_UNNAMED, f"{claim}; the limit is {limits.pixels:,}")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP's first chunk. Source: RFC 9649, sections 2.5 to 2.7."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise BadImage(_UNNAMED, "is damaged (a WebP without a picture)")


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG whose scans would keep the decoder busy for minutes. Source: ITU-T T.81, B.1 (markers)."""
    position, markers, scans = 2, 0, 0
    while marker := _JPEG_MARKER.search(data, position):
        markers += 1
        code = data[marker.start() + 1]
        if code == 0xD9:  # the end of the picture; what follows (a thumbnail, a film) is not decoded
            return
        scans += code == 0xDA
        if scans > _MOST_JPEG_SCANS:
            raise BadImage(_UNNAMED, f"is a JPEG of more than {_MOST_JPEG_SCANS} scans; photos have about ten")
        if markers > _MOST_JPEG_MARKERS:
            raise BadImage(_UNNAMED, f"is a JPEG of more than {_MOST_JPEG_MARKERS:,} segments; photos have dozens")
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")


def _check_parts(data: bytes) -> None:
    """Refuse a TIFF whose first page has a senseless number of values in a tag. Source: TIFF 6.0, section 2."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * entries, len(data) - 11), 12):
        tag, _, count = struct.unpack_from(f"{order}HHI", data, at)
        if tag in (273, 279, 324, 325) and count > _MOST_TIFF_PARTS:
            raise BadImage(_UNNAMED, f"declares {count:,} strips or tiles; photos have hundreds")


def _check_comments(data: bytes) -> None:
    """Refuse a plain PNM that is made of comments: Pillow copies what is left of a block for each."""
    if data[1:2] in b"123" and data.count(b"#") > _MOST_PNM_COMMENTS:
        raise BadImage(_UNNAMED, f"is a PNM of more than {_MOST_PNM_COMMENTS:,} comments; pictures have one or two")


# What keeps a decoder busy for minutes without being large; looked for before the file is opened.
_PATIENCE: dict[str, Callable[[bytes], None]] = {
    "JPEG": _check_scans,
    "TIFF": _check_parts,
    "PNM": _check_comments,
}


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation 1..8; 1 where there is none or the metadata cannot be read (the pixels still can)."""
    try:
        value = picture.getexif().get(_ORIENTATION_TAG)
    except Exception:  # damaged metadata fails in as many ways as damaged pixels
        return 1
    return value if isinstance(value, int) else 1


def _to_rgb(picture: Image.Image) -> Pixels:
    """(H, W, 3) uint8 by the table at the top of this file."""
    if picture.mode.startswith("I"):
        return _grey_to_rgb(picture)
    if picture.mode in ("F", "LAB"):
        what = "floating-point" if picture.mode == "F" else "Lab"
        raise BadImage(_UNNAMED, f"holds {what} pixels, which have no defined RGB; save it as 8-bit RGB")
    if not picture.has_transparency_data:
        return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    rgba = np.asarray(picture.convert("RGBA"))
    over_white = np.empty((*rgba.shape[:2], 3), np.uint8)
    for top in range(0, len(rgba), 256):  # in strips, so that the wider integers take little memory
        strip = rgba[top : top + 256].astype(np.uint16)
        alpha = strip[..., 3:]
        over_white[top : top + 256] = (strip[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
    return over_white


def _grey_to_rgb(picture: Image.Image) -> Pixels:
    """16- or 32-bit integer grey to (H, W, 3) uint8, the whole range kept."""
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low >= 0 and high <= 65535:
        grey = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)[values]
    else:
        grey = np.rint((values - np.float64(low)) * (255 / max(high - low, 1))).astype(np.uint8)
    clear = picture.info.get("transparency")  # a PNG may name one grey that is transparent
    if isinstance(clear, int):
        grey[values == clear] = 255
    return np.repeat(grey[..., None], 3, axis=2)


def _in_words(kind: str, error: Exception) -> str:
    text = str(error)
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, (EOFError, IndexError, struct.error)) or re.search(
        "truncat|not enough|Truncat|end of file|EOF", text
    ):
        return f"is cut short ({kind})"
    return f"is damaged ({kind}: {text or type(error).__name__})"


class _Quiet:
    """Hold back Pillow's warnings while any thread decodes.

    They are about odd metadata; a picture that matters is refused with an error. `warnings.catch_warnings` alone is no
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
