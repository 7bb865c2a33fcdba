"""The contact sheet of the synthetic faces: a row a person, and one row of what may be worn.

`python -m facewright.data.portrait.sheet docs/contact-sheet.png` draws the one in the documentation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .face import draw_face
from .identity import Attributes, identity_of

WORN = (
    Attributes(),
    Attributes(smile=True),
    Attributes(glasses=True),
    Attributes(hat=True),
    Attributes(beard=True),
    Attributes(mask=True),
    Attributes(glasses=True, beard=True),
    Attributes(hat=True, mask=True),
)


def contact_sheet(identities: int = 7, images: int = 7, size: int = 112, seed: int = 0) -> NDArray[np.uint8]:
    """Draw a grid of faces.

    Args:
        identities: how many rows, one a person.
        images: how many images of each.
        size: side of an image in pixels, 16 to 512.
        seed: which world of people.
    Returns:
        ((identities + 1) · size, images · size, 3) uint8 RGB. The last row shows, one person after the other: nothing
        worn, a smile, glasses, a hat, a beard, a mask, and two pairs of these.
    >>> contact_sheet(identities=2, images=3, size=32).shape
    (96, 96, 3)
    """
    rows = [[_image(k, seed, index, size, None) for index in range(images)] for k in range(identities)]
    rows.append([_image(i + 1, seed, 1000, size, WORN[i % len(WORN)]) for i in range(images)])
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def _image(k: int, seed: int, index: int, size: int, shown: Attributes | None) -> NDArray[np.uint8]:
    # Drawn twice as large and reduced: half the noise, so that the sheet stays a small file.
    return np.asarray(Image.fromarray(draw_face(identity_of(seed, k), seed, index, 2 * size, shown)[0]).reduce(2))


def save_sheet(path: Path, sheet: NDArray[np.uint8]) -> None:
    """Write a sheet as a PNG of 256 colours, dithered."""
    image = Image.fromarray(sheet)
    palette = image.quantize(256, kmeans=8)
    image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


if __name__ == "__main__":
    save_sheet(Path(sys.argv[1]), contact_sheet())
