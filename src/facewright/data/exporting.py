"""Files made of a data set: one .npz that `open_dataset` (arrays.py) opens again, and a contact sheet."""

from __future__ import annotations

import math
import unicodedata
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from facewright.data.addresses import with_options
from facewright.data.records import Broken, Dataset
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import BadImage, DataError, UsageError
from facewright.events import EventHandler, ignore_event
from facewright.files import replacing
from facewright.input_spec import ColourOrder, InputSpec

_BLOCK = 256  # images written at a time
_EPOCH = (1980, 1, 1, 0, 0, 0)  # no time in the file, so that equal data gives equal files
MARGIN, GAP = 24, 4  # pixels around the page, between images
PAPER, INK, FAINT, EMPTY = (250, 250, 248), (32, 33, 36), (128, 130, 134), (236, 236, 232)
SPELT = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ı": "i"}
    | {"Æ": "AE", "Œ": "OE", "Ø": "O", "Ł": "L", "Đ": "D"}
)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Exported:
    """The written file; `where` opens it again, with the same pixels."""

    where: str
    images: int
    height: int
    width: int
    classes: tuple[str, ...]
    broken: tuple[Broken, ...]  # left out


def export_npz(
    dataset: str | Path | Dataset,
    out: str | Path,
    *,
    size: int | None = None,
    colour_order: ColourOrder = "rgb",
    on_event: EventHandler = ignore_event,
) -> Exported:
    """Write a data set as arrays: `input` (N, H, W, 3) uint8, `target` (N, 1) int64, `classes` (C,) the names.

    Images are in the order of the records. Their paths, identities and a given split are not kept. An old file stays
    until the new one is whole.

    Args:
        size: side in pixels that images are brought to (the middle, scaled to cover it); None: all have one size.
    Raises:
        UsageError: `out` does not end in .npz, or the images differ in size and none is given.
        DataError: a record has no class, or no image can be read.
        FacewrightError: the file cannot be written whole.
    """
    out = Path(out)
    dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    if out.suffix.lower() != ".npz":
        raise UsageError(f"{out}: expected the name of an .npz file")
    if any(record.label is None for record in dataset.records):
        raise DataError(f"{dataset.where}: expected a class for every image; some have none")
    height, width = (size, size) if size is not None else _size_of_the_first(dataset)
    store = PixelStore.open(dataset, InputSpec(height, width, (0, 0, 0), (1, 1, 1)), on_event=on_event)
    other = np.flatnonzero((store.sizes != (height, width)).any(axis=1))
    if size is None and other.size:
        found = "×".join(str(side) for side in store.sizes[other[0]])
        path = store.dataset.records[int(other[0])].path
        raise UsageError(
            f"{dataset.where}: expected images of one size ({height}×{width} as the first), got {found} of {path}; "
            "give the --size to bring them to"
        )
    with replacing(out) as file, zipfile.ZipFile(file, "w") as archive:
        with _entry(archive, "input") as entry:
            _write_images(entry, store, colour_order)
        with _entry(archive, "target") as entry:
            npy.write_array(entry, store.dataset.labels[:, None], version=(1, 0), allow_pickle=False)
        with _entry(archive, "classes") as entry:
            npy.write_array(entry, np.array(dataset.classes, dtype=np.str_), version=(1, 0), allow_pickle=False)
    where = with_options(str(out), {"colour-order": "bgr" if colour_order == "bgr" else None})
    return Exported(where, len(store.dataset), height, width, dataset.classes, store.dataset.broken)


def _size_of_the_first(dataset: Dataset) -> tuple[int, int]:
    first = None
    for record in dataset.records:
        try:
            height, width, _ = dataset.source.read(record, None).shape
            return height, width
        except BadImage as error:
            first = first or error
    raise DataError(f"{dataset.where}: not one image can be read (the first: {first})")


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
    info.external_attr = 0o644 << 16
    return archive.open(info, "w", force_zip64=True)  # the size is known too late to tell whether it needs 64 bits


def _write_images(entry: IO[bytes], store: PixelStore, colour_order: ColourOrder) -> None:
    npy.write_array_header_1_0(entry, {"descr": "|u1", "fortran_order": False, "shape": store.pixels.shape})
    for start in range(0, len(store.pixels), _BLOCK):
        block: NDArray[np.uint8] = store.pixels[start : start + _BLOCK]
        entry.write(np.ascontiguousarray(block[..., ::-1] if colour_order == "bgr" else block).data)


def contact_sheet(
    store: PixelStore, per_class: int = 6, columns: int | None = None, side: int = 96, most_classes: int = 60
) -> Image.Image:
    """Draw a block per class, its name and count above a row of evenly spaced images.

    Args:
        per_class: images of each class, at least 1; evenly spaced in the order of the records.
        columns: blocks side by side; None chooses what makes the page nearest to 4:3.
        side: height of an image on the page in pixels; its width follows the store's aspect ratio.
        most_classes: classes drawn at most; a line at the bottom says how many are not.
    """
    classes = list(store.dataset.counts().items())
    shown = classes[:most_classes]
    width = max(1, round(side * store.spec.width / store.spec.height))
    block = (per_class * (width + GAP) - GAP, side + 30)
    columns = min(columns or _columns(len(shown), block), len(shown))
    lines = math.ceil(len(shown) / columns)
    footer = 24 if len(shown) < len(classes) else 0
    size = (MARGIN + columns * (block[0] + MARGIN), 2 * MARGIN + 22 + lines * (block[1] + 12) + footer)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    _heading(draw, store, size[0])
    for number, (name, count) in enumerate(shown):
        left = MARGIN + number % columns * (block[0] + MARGIN)
        top = MARGIN + 34 + number // columns * (block[1] + 12)
        _caption(draw, (left, top), block[0], name, count)
        for place, image in enumerate(_samples(store, number, per_class, (width, side))):
            page.paste(image, (left + place * (width + GAP), top + 24))
    if footer:
        text = f"and {len(classes) - len(shown)} more classes"
        draw.text((MARGIN, size[1] - MARGIN - 12), text, FAINT, ImageFont.load_default(13))
    return page


def _columns(classes: int, block: tuple[int, int]) -> int:
    """The number of columns whose page is nearest to 4:3."""

    def distance(columns: int) -> float:
        page = columns * (block[0] + MARGIN) / (math.ceil(classes / columns) * (block[1] + 12))
        return abs(math.log(page / (4 / 3)))

    return min(range(1, classes + 1), key=distance)


def _heading(draw: ImageDraw.ImageDraw, store: PixelStore, width: int) -> None:
    title = ImageFont.load_default(20)
    name = _shortened(draw, store.dataset.name, title, width - 2 * MARGIN)
    draw.text((MARGIN, MARGIN), name, INK, title, anchor="lt")
    facts = f"{len(store.dataset.records):,} images · {len(store.dataset.classes):,} classes"
    small = ImageFont.load_default(13)
    left = MARGIN + draw.textlength(name, title) + 12
    if left + draw.textlength(facts, small) <= width - MARGIN:
        draw.text((left, MARGIN + 5), facts, FAINT, small, anchor="lt")


def _caption(draw: ImageDraw.ImageDraw, at: tuple[int, int], width: int, name: str, count: int) -> None:
    font = ImageFont.load_default(14)
    number = f"{count:,}"
    draw.text((at[0] + width, at[1] + 4), number, FAINT, font, anchor="rt")
    space = width - draw.textlength(number, font) - 8
    draw.text((at[0], at[1] + 4), _shortened(draw, name.replace("_", " "), font, space), INK, font, anchor="lt")


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    text = _drawable(text)
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"


def _drawable(text: str) -> str:
    """The characters of a name that Pillow's own font can draw: letters without accents, ? for other scripts.

    >>> _drawable("Zoë Weiß, 李小龙")
    'Zoe Weiss, ???'
    """
    plain = unicodedata.normalize("NFKD", text.translate(SPELT))
    return "".join(one if " " <= one <= "~" else "?" for one in plain if not unicodedata.combining(one))


def _samples(store: PixelStore, number: int, count: int, size: tuple[int, int]) -> list[Image.Image]:
    """So many images of a class, evenly spaced; a class with fewer leaves faint places."""
    rows = np.flatnonzero(store.dataset.labels == number)
    rows = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)]
    images = [Image.fromarray(np.array(store.pixels[row])) for row in rows.tolist()]
    resized = [image.resize(size, Image.Resampling.LANCZOS) for image in images]
    return resized + [Image.new("RGB", size, EMPTY)] * (count - len(resized))
