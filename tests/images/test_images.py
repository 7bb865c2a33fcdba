"""Decoding: every kind of pixel, every orientation, every limit (faults 1 to 4)."""

import io
import re
import resource
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from facewright import images
from facewright.errors import BadImage, UsageError
from facewright.images import Limits, decoding

pillow_heif.register_heif_opener()  # to write such files; reading needs no registration


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Smooth colours with a little noise, so that lossy formats stay near."""
    y, x = np.mgrid[:height, :width]
    planes = np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin((x + y) / 9)], axis=2)
    return np.clip(planes + np.random.default_rng(seed).normal(0, 3, planes.shape), 0, 255).astype(np.uint8)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, idat: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b"")


# Kind and options of the file; the largest mean difference per channel that its losses explain.
CONTAINERS = [
    ("PNG", {}, 0),
    ("BMP", {}, 0),
    ("PPM", {}, 0),
    ("TIFF", {}, 0),  # uncompressed
    ("TIFF", {"compression": "tiff_lzw"}, 0),
    ("TIFF", {"compression": "tiff_adobe_deflate"}, 0),
    ("WebP", {"lossless": True}, 0),
    ("WebP", {"quality": 95}, 3),
    ("JPEG", {"quality": 95}, 3),
    ("JPEG", {"quality": 95, "progressive": True}, 3),
    ("GIF", {}, 16),  # 256 colours
    ("AVIF", {"quality": 90}, 3),
    ("HEIF", {"quality": 90}, 4),
]


@pytest.mark.parametrize(("kind", "options", "tolerance"), CONTAINERS)
def test_every_format_gives_its_pixels(kind, options, tolerance):
    expected = photo()
    got = images.read(encoded(Image.fromarray(expected), kind, **options))
    assert got.shape == (48, 64, 3)
    assert got.dtype == np.uint8
    assert got.flags.c_contiguous
    assert got.flags.writeable
    assert np.abs(got.astype(int) - expected).mean() <= tolerance


def palette(transparency: object = None, kind: str = "PNG") -> bytes:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 200, 100, 50, 255, 0, 0])
    image.putdata([0, 1, 2])
    return encoded(image, kind, **({} if transparency is None else {"transparency": transparency}))


def one_row(mode: str, values: list, kind: str, **options: object) -> bytes:
    image = Image.new(mode, (len(values), 1))
    image.putdata(values)
    return encoded(image, kind, **options)


def grey16(values: list[int], kind: str = "PNG") -> bytes:
    return encoded(Image.fromarray(np.array([values], np.uint16)), kind)


def grey16_big_endian() -> bytes:
    """A PGM holds 16 bits with the high byte first."""
    return b"P5 3 1 65535\n" + struct.pack(">3H", 0, 32768, 65535)


def grey32(values: list[int]) -> bytes:
    return encoded(Image.fromarray(np.array([values], np.int32)), "TIFF")


WHITE = (255, 255, 255)

# What is in the file → the pixels that come out.
MODES = [
    # 1-bit: black and white, no grey
    (one_row("1", [0, 255], "PNG"), [(0, 0, 0), WHITE]),
    (b"P1 2 1\n1 0\n", [(0, 0, 0), WHITE]),  # in PBM, 1 is black
    (one_row("1", [0, 255], "TIFF", compression="group4"), [(0, 0, 0), WHITE]),
    # 8-bit grey: three equal channels
    (one_row("L", [0, 77, 255], "PNG"), [(0, 0, 0), (77, 77, 77), WHITE]),
    (b"P2 3 1 255\n0 77 255\n", [(0, 0, 0), (77, 77, 77), WHITE]),
    # a PGM whose white is 15 is scaled to 255
    (b"P2 3 1 15\n0 5 15\n", [(0, 0, 0), (85, 85, 85), WHITE]),
    # palette, without and with transparency (one index; an alpha per index)
    (palette(), [(10, 20, 30), (200, 100, 50), (255, 0, 0)]),
    (palette(1), [(10, 20, 30), WHITE, (255, 0, 0)]),
    (palette(bytes([255, 0, 128])), [(10, 20, 30), WHITE, (255, 127, 127)]),
    # GIF with a transparent index
    (palette(1, "GIF"), [(10, 20, 30), WHITE, (255, 0, 0)]),
    # grey and colour with alpha, over white, rounded to nearest
    (one_row("LA", [(0, 255), (0, 0), (100, 129)], "PNG"), [(0, 0, 0), WHITE, (177, 177, 177)]),
    (one_row("RGBA", [(9, 8, 7, 255), (9, 8, 7, 0), (0, 0, 255, 51)], "PNG"), [(9, 8, 7), WHITE, (204, 204, 255)]),
    (one_row("RGBA", [(9, 8, 7, 255), (9, 8, 7, 0)], "TIFF"), [(9, 8, 7), WHITE]),
    (one_row("RGBA", [(9, 8, 7, 255), (9, 8, 7, 0)], "WebP", lossless=True), [(9, 8, 7), WHITE]),
    # one colour or one grey named as transparent
    (one_row("RGB", [(1, 2, 3), (4, 5, 6)], "PNG", transparency=(4, 5, 6)), [(1, 2, 3), WHITE]),
    (one_row("L", [7, 8], "PNG", transparency=8), [(7, 7, 7), WHITE]),
    # CMYK: (255 - C)(255 - K) / 255
    (one_row("CMYK", [(0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)], "TIFF"), [WHITE, (0, 255, 255), (0, 0, 0)]),
    # 16-bit grey keeps its range: 65535 is white, 32768 the middle, 300 is not yet 255
    (grey16([0, 32768, 65535]), [(0, 0, 0), (128, 128, 128), WHITE]),
    (grey16([0, 300, 65535]), [(0, 0, 0), (1, 1, 1), WHITE]),
    (grey16([0, 32768, 65535], "TIFF"), [(0, 0, 0), (128, 128, 128), WHITE]),
    (grey16_big_endian(), [(0, 0, 0), (128, 128, 128), WHITE]),
    # 32-bit grey: as 16-bit where it fits, else from its least to its greatest value
    (grey32([0, 32768, 65535]), [(0, 0, 0), (128, 128, 128), WHITE]),
    (grey32([-1000, 0, 1000]), [(0, 0, 0), (128, 128, 128), WHITE]),
    (grey32([70000, 70000]), [(0, 0, 0), (0, 0, 0)]),
    # YCbCr inside a TIFF
    (one_row("YCbCr", [(255, 128, 128), (0, 128, 128)], "TIFF"), [WHITE, (0, 0, 0)]),
]


@pytest.mark.parametrize(("data", "expected"), MODES, ids=range(len(MODES)))
def test_every_mode_has_one_meaning(data, expected):
    assert images.read(data).tolist() == [[list(pixel) for pixel in expected]]


def test_the_transparent_grey_of_a_16_bit_png_is_white():
    data = grey16([0, 1000])
    key = png_chunk(b"tRNS", struct.pack(">H", 1000))
    at = data.index(b"IDAT") - 4
    assert images.read(data[:at] + key + data[at:]).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_a_cmyk_jpeg_keeps_its_colours():
    colours = np.zeros((16, 32, 4), np.uint8)
    colours[:, 16:, 0] = 255  # white | cyan
    got = images.read(encoded(Image.fromarray(colours, "CMYK"), "JPEG", quality=95)).astype(int)
    assert np.abs(got[:, :12] - 255).max() <= 4
    assert np.abs(got[:, 20:] - (0, 255, 255)).max() <= 4


def test_the_first_frame_of_an_animation_is_read():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WebP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WebP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (images.read(data) == (255, 0, 0)).all(), kind


# What is in the file → a key word of the reason.
REFUSED = [
    (b"", "0 bytes"),
    (b"hello, this is text", "unsupported"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unsupported"),  # Pillow would start a program for it
    (b"\x80\x04\x95pickle", "unsupported"),
    (b"\xff\xd8\xff", "JPEG"),  # only the first bytes of one
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"RIFF\x00\x00\x00\x00WEBP", "WebP"),
    (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "WebP"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"P5 ", "PNM"),
    (b"II*\x00", "TIFF"),
    (b"II*\x00\xff\xff\xff\x7f", "TIFF"),  # its first page lies beyond the end
    (encoded(Image.new("F", (2, 2)), "TIFF"), "floating-point"),
    (encoded(Image.new("LAB", (2, 2)), "TIFF"), "Lab"),
    (png_of(0, 5, b""), "PNG"),
    (png_of(4, 4, zlib.compress(b"\0" * 5)), "PNG"),  # too few rows in a whole file
    (b"P5 3 0 255\n", "PNM"),
]


@pytest.mark.parametrize(("data", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_image_is_refused_with_a_reason(data, reason):
    with pytest.raises(BadImage) as caught:
        images.read(data, name="ann/1.jpg")
    assert caught.value.path == "ann/1.jpg"
    assert reason in caught.value.reason


def test_files_are_read_and_named(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(Image.fromarray(photo()), "PNG"))
    assert (images.read(path) == photo()).all()
    with pytest.raises(BadImage, match=r"x\.png.* 10\b"):
        images.read(path, limits=Limits(bytes=10))
    with pytest.raises(BadImage, match=r"\b10\b"):
        images.read(path.read_bytes(), limits=Limits(bytes=10))
    for path in (tmp_path / "absent.png", tmp_path, Path("/dev/zero")):
        with pytest.raises(BadImage, match=re.escape(str(path))):
            images.read(path)


def bombs() -> list[bytes]:
    """Twenty small files that claim 50 to 4,000 megapixels."""
    rows = zlib.compress(b"\0" * 2**20)
    found = [png_of(13_000, 13_000 + step, rows) for step in range(8)]
    found += [png_of(2**31 - 1, 1, rows), png_of(60_000, 60_000, rows)]
    jpeg = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    gif = bytearray(encoded(Image.new("P", (16, 16)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    frame = bytearray(encoded(Image.new("P", (16, 16)), "GIF"))
    at = frame.index(b",") + 5
    frame[at : at + 4] = struct.pack("<HH", 65_535, 65_535)  # the frame is larger than the screen
    bmp = bytearray(encoded(Image.new("RGB", (16, 16)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 40_000, 40_000)
    tiff = encoded(Image.new("L", (16, 16)), "TIFF")
    wide = tiff.replace(struct.pack("<HHII", 256, 4, 1, 16), struct.pack("<HHII", 256, 4, 1, 2**26))
    assert wide != tiff
    webp = b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xfe\x3f\0\xfe\x3f\0"
    lossless = b"RIFF\x20\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 16_382 | 16_382 << 14) + b"\0" * 8
    lossy = b"RIFF\x20\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + b"\0" * 8
    plain = [b"P6 20000 20000 255\n", b"P5 50000 1001 255\n"]
    return [*found, bytes(jpeg), bytes(gif), bytes(frame), bytes(bmp), wide, webp, lossless, lossy, *plain]


def test_pixel_bombs_are_refused_from_the_header():
    files = bombs()
    assert len(files) == 20
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in files:
        with pytest.raises(BadImage, match="50,000,000"):
            images.read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert peak <= 50e6
    assert grown <= 50e6  # what C code took is not traced, but it is resident


def test_the_pixel_limit_is_exact():
    data = encoded(Image.fromarray(photo(10, 10)), "PNG")
    assert images.read(data, limits=Limits(pixels=100)).shape == (10, 10, 3)
    with pytest.raises(BadImage, match=r"10 x 10 .* 99 "):
        images.read(data, limits=Limits(pixels=99))


def test_a_jpeg_of_endless_scans_is_refused():
    data = encoded(Image.fromarray(photo()), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    with pytest.raises(BadImage, match="scans"):
        images.read(data[:-2] + data[scan:-2] * 200 + data[-2:])


def test_a_jpeg_of_endless_segments_is_refused():
    data = encoded(Image.fromarray(photo()), "JPEG")
    with pytest.raises(BadImage, match="100,000"):
        images.read(data[:2] + b"\xff\xe0\0\2" * 100_001 + data[2:])


def test_a_plain_pnm_of_endless_comments_is_refused():
    with pytest.raises(BadImage, match="1,000"):
        images.read(b"P2 1 1 255\n" + b"#\n" * 1_001 + b"7\n")
    assert images.read(b"P2 # made by hand\n1 1 255\n# the pixel\n7\n").tolist() == [[[7, 7, 7]]]


def test_a_tiff_of_endless_strips_is_refused():
    data = bytearray(encoded(Image.new("L", (16, 16)), "TIFF"))
    at = bytes(data).index(struct.pack("<HH", 273, 4)) + 4
    data[at : at + 4] = struct.pack("<I", 10_000_000)
    with pytest.raises(BadImage, match="10,000,000"):
        images.read(bytes(data) + b"\0" * 1000)


@pytest.mark.parametrize(("kind", "options", "tolerance"), CONTAINERS)
@pytest.mark.parametrize("tenths", range(10))
def test_a_file_cut_at_any_decile_is_refused(kind, options, tolerance, tenths):
    data = encoded(Image.fromarray(photo()), kind, **options)
    with pytest.raises(BadImage) as caught:
        images.read(data[: len(data) * tenths // 10], name="ann/1.jpg")
    assert caught.value.path == "ann/1.jpg"


MOVES = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),  # stored a quarter turn to the left: shown by turning to the right
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WebP", "TIFF", "JPEG", "AVIF", "HEIF"])
def test_every_orientation_comes_upright(orientation, kind):
    upright = photo(24, 40)
    stored = Image.fromarray(np.ascontiguousarray(MOVES[orientation](upright)))
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(stored, kind, exif=exif.tobytes(), **({"lossless": True} if kind == "WebP" else {}))
    got = images.read(data)
    if kind in ("AVIF", "HEIF"):
        assert got.shape == upright.shape
        assert np.abs(got.astype(int) - upright).mean() <= 9
    elif kind == "JPEG":  # lossy: what it holds, turned upright by arrays
        held = np.array(Image.open(io.BytesIO(data)))
        assert (MOVES[orientation](got) == held).all()
        assert np.abs(got.astype(int) - upright).mean() <= 6
    else:
        assert (got == upright).all()


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08"])
def test_damaged_metadata_does_not_cost_the_image(exif):
    assert (images.read(encoded(Image.fromarray(photo()), "PNG", exif=exif)) == photo()).all()


# Shorter side asked for → size of a 640 x 480 JPEG.
@pytest.mark.parametrize(
    ("at_least", "size"),
    [
        (None, (480, 640)),  # full size
        (480, (480, 640)),
        (241, (480, 640)),  # half would fall below
        (240, (240, 320)),
        (100, (120, 160)),
        (1, (60, 80)),  # an eighth is the least
    ],
)
def test_big_jpegs_are_decoded_smaller_where_asked(at_least, size):
    image = Image.fromarray(photo(480, 640))
    assert images.read(encoded(image, "JPEG"), at_least=at_least).shape == (*size, 3)
    assert images.read(encoded(image, "PNG"), at_least=at_least).shape == (480, 640, 3)


LOSSES = [
    {"quality": 95},
    {"quality": 30},
    {"progressive": True},
    {"progressive": True, "quality": 100, "subsampling": 0},
    {"restart_marker_blocks": 2},
    {"optimize": True, "exif": b"Exif\0\0II*\0\x08\0\0\0\xff\xd9"},  # an end marker inside the metadata
]


@pytest.mark.parametrize("options", LOSSES, ids=range(len(LOSSES)))
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(options):
    whole = encoded(Image.fromarray(photo(203, 317)), "JPEG", **options)
    expected = images.read(whole)
    for cut in (1, 2):
        assert (images.read(whole[:-cut]) == expected).all()
        assert (images.read(whole[:-cut], at_least=40) == images.read(whole, at_least=40)).all()
    for cut in (3, 6, 40, 400, len(whole) // 3):
        try:
            got = images.read(whole[:-cut])
        except BadImage:
            continue
        assert cut < 8, cut  # the last bits may be padding
        assert (got == expected).mean() > 0.999


def test_a_progressive_jpeg_that_lacks_a_scan_is_refused():
    whole = encoded(Image.fromarray(photo()), "JPEG", progressive=True)
    with pytest.raises(BadImage, match="JPEG"):
        images.read(whole[: whole.rindex(b"\xff\xda")])


@pytest.mark.parametrize(
    ("height", "width", "at_least", "size"),
    [
        (300, 400, None, (300, 400)),  # within the limit
        (400, 500, None, (200, 250)),
        (600, 800, None, (300, 400)),  # exactly four times the limit
        (601, 801, None, (151, 201)),
        (600, 900, 50, (75, 113)),  # the caller asks for less than the limit does
    ],
)
def test_a_jpeg_over_the_limit_is_decoded_reduced_and_its_true_size_told(height, width, at_least, size, caplog):
    data = encoded(Image.fromarray(photo(height, width)), "JPEG")
    limits = Limits(pixels=120_000, reducible=10)
    pixels, true_size = images.read_sized(data, limits=limits, at_least=at_least)
    assert pixels.shape == (*size, 3)
    assert true_size == (height, width)
    asked_in_full = at_least is None and size[0] < height
    assert [f"of its {width} x {height}" in line for line in caplog.messages] == [True] * asked_in_full
    turned = Image.Exif()
    turned[274] = 6
    data = encoded(Image.fromarray(photo(height, width)), "JPEG", exif=turned)
    pixels, true_size = images.read_sized(data, limits=limits, at_least=at_least)
    assert (pixels.shape[:2], true_size) == (size[::-1], (width, height))


def test_what_cannot_be_decoded_reduced_names_the_limit_and_how_to_set_it(monkeypatch):
    over = [
        encoded(Image.fromarray(photo(30, 50)), kind, **options)
        for kind, options in [("PNG", {}), ("WebP", {}), ("AVIF", {}), ("HEIF", {}), ("BMP", {}), ("TIFF", {})]
    ]
    over.append(encoded(Image.fromarray(photo(90, 100)), "JPEG"))  # more than five times as many
    over.append(encoded(Image.fromarray(photo(50, 60)), "JPEG", progressive=True))  # is held in memory whole
    for data in over:
        with pytest.raises(BadImage, match="FACEWRIGHT_MAX_MEGAPIXELS"):
            images.read(data, limits=Limits(pixels=1_200))
    monkeypatch.setenv("FACEWRIGHT_MAX_MEGAPIXELS", "60")
    assert Limits().pixels == 60_000_000
    for wrong in ("0", "-3", "many", "1e3", "99999"):
        monkeypatch.setenv("FACEWRIGHT_MAX_MEGAPIXELS", wrong)
        with pytest.raises(UsageError, match="FACEWRIGHT_MAX_MEGAPIXELS"):
            Limits()


@pytest.mark.parametrize("scans", [13, 40, 80])
def test_a_large_jpeg_of_many_scans_is_refused_before_it_is_decoded(scans, monkeypatch):
    data = encoded(Image.fromarray(photo(600, 800)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    many = data[:-2] + data[last:-2] * scans + data[-2:]
    monkeypatch.setattr(decoding, "MOST_SCANNED", 600 * 800 * 12)
    monkeypatch.setattr(decoding, "to_rgb", None)
    with pytest.raises(BadImage, match="scans"):
        images.read(many)


def test_a_long_pnm_in_text_is_refused_before_it_is_decoded():
    numbers = b"7 " * 2_200_000
    for head in (b"P1 2000 1100\n", b"P2 2000 1100 255\n", b"P3 1000 733 255\n"):
        with pytest.raises(BadImage, match="PNG"):
            images.read(head + numbers)


def test_a_heic_without_its_extra_names_the_extra(monkeypatch):
    data = encoded(Image.fromarray(photo()), "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(BadImage, match=r"facewright\[heic\]"):
        images.read(data)


def test_a_reason_in_place_of_pixels(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(Image.fromarray(photo()), "PNG"))
    assert (images.try_read(path) == photo()).all()
    assert isinstance(images.try_read(tmp_path / "absent.png"), str)
    assert isinstance(images.try_read(b""), str)


def test_asking_for_less_than_a_pixel_is_wrong():
    with pytest.raises(UsageError, match="at_least"):
        images.read(b"", at_least=0)


def test_warnings_of_the_decoder_stay_inside():
    """Odd metadata warns in Pillow; a warning would be an error here, and noise for a user."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0\0\0\0\0"  # a text beyond the end
    data = encoded(Image.fromarray(photo()), "JPEG", exif=exif)
    with pytest.warns(UserWarning):
        Image.open(io.BytesIO(data)).getexif()
    assert images.read(data).shape == (48, 64, 3)


def test_warning_filters_survive_many_threads():
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\0\0\0\xff\xff\0\0\0\0\0\0"
    data = encoded(Image.fromarray(photo()), "JPEG", exif=exif)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(lambda _: images.read(data).shape, range(200)))
    assert set(shapes) == {(48, 64, 3)}
    assert list(warnings.filters) == before


def test_the_digest_is_what_the_contract_says():
    import hashlib

    image = photo(5, 7)
    expected = hashlib.blake2b(b"5x7" + image.tobytes(), digest_size=16).hexdigest()
    assert images.pixel_digest(image) == expected
    assert images.pixel_digest(np.asfortranarray(image)) == expected
    assert images.pixel_digest(image[:, ::-1]) != expected


def test_torch_is_not_loaded_for_an_image():
    code = "import sys, facewright.images; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
