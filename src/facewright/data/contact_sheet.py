"""A contact sheet: a few images of every class on one page, to check by eye what no number says."""

from __future__ import annotations

import math
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from facewright.data.store import PixelStore

MARGIN, GAP = 24, 4  # pixels around the page, between images
PAPER, INK, FAINT, EMPTY = (250, 250, 248), (32, 33, 36), (128, 130, 134), (236, 236, 232)
SPELT = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ı": "i"}
    | {"Æ": "AE", "Œ": "OE", "Ø": "O", "Ł": "L", "Đ": "D"}
)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


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
    block = (per_class * width + (per_class - 1) * GAP, side + 30)
    columns = min(columns or _columns(len(shown), block), len(shown))
    rows = math.ceil(len(shown) / columns)
    footer = 24 if len(shown) < len(classes) else 0
    size = (
        2 * MARGIN + columns * block[0] + (columns - 1) * MARGIN,
        2 * MARGIN + 34 + rows * (block[1] + 12) - 12 + footer,
    )
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    _heading(draw, store, size[0])
    for number, (name, count) in enumerate(shown):
        left = MARGIN + number % columns * (block[0] + MARGIN)
        top = MARGIN + 34 + number // columns * (block[1] + 12)
        _caption(draw, (left, top), block[0], name, count)
        _paste_images(
            page, (left, top + 24), store, np.flatnonzero(store.dataset.labels == number), (per_class, width, side)
        )
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
    return "".join(
        character if " " <= character <= "~" else "?" for character in plain if not unicodedata.combining(character)
    )


def _paste_images(
    page: Image.Image,
    at: tuple[int, int],
    store: PixelStore,
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
    grid: tuple[int, int, int],
) -> None:
    """Paste up to grid[0] images of grid[1] × grid[2] pixels; a class with fewer leaves faint places."""
    places, width, side = grid
    chosen = rows[np.linspace(0, len(rows) - 1, min(places, len(rows))).round().astype(int)] if len(rows) else rows
    for place in range(places):
        left = at[0] + place * (width + GAP)
        if place >= len(chosen):
            ImageDraw.Draw(page).rectangle((left, at[1], left + width - 1, at[1] + side - 1), fill=EMPTY)
            continue
        image = Image.fromarray(np.array(store.pixels[int(chosen[place])]))
        page.paste(image.resize((width, side), Image.Resampling.LANCZOS), (left, at[1]))
