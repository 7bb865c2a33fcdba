"""A photo with the boxes that were found in it, and the true ones where they are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from facewright.images import png_of

FOUND, TRUE, INK = (255, 176, 0), (0, 229, 255), (20, 20, 20)  # told apart by every eye, and as greys
SIDE = 640  # px: lines and letters are made for photos of this longer side, and grow with larger ones


def draw_boxes(
    photo: NDArray[np.uint8],
    boxes: ArrayLike,
    scores: Sequence[float | str | None],
    truth: ArrayLike | None = None,
    points: ArrayLike = (),
) -> bytes:
    """Draw boxes on a photo: found ones amber with their scores, true ones in thin cyan beneath.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        boxes: (K, 4) x, y, width, height, px. scores: K of them, or names; None is not written.
        truth: (T, 4) likewise; None where it is not known.
        points: (K, P, 2) x, y of landmarks, px: dots.
    Returns:
        A PNG of the photo's size.
    """
    return png_of(np.asarray(drawn_boxes(photo, boxes, scores, truth, points)))


def drawn_boxes(
    photo: NDArray[np.uint8],
    boxes: ArrayLike,
    scores: Sequence[float | str | None],
    truth: ArrayLike | None = None,
    points: ArrayLike = (),
) -> Image.Image:
    """Return the photo with boxes; see `draw_boxes`."""
    page = Image.fromarray(photo)
    draw = ImageDraw.Draw(page)
    line = max(1, round(2 * max(page.size) / SIDE))
    font = ImageFont.load_default(max(10, round(11 * max(page.size) / SIDE)))
    for box in [] if truth is None else _corners(truth):
        draw.rectangle(box, outline=TRUE, width=max(1, line // 2))
    for box, score in zip(_corners(boxes), scores, strict=True):
        draw.rectangle(box, outline=FOUND, width=line)
        if score is None:
            continue
        label = score if isinstance(score, str) else f"{score:.2f}"
        _, _, right, bottom = draw.textbbox((0, 0), label, font)
        at = (box[0], max(0, box[1] - (bottom + 2)))  # on the box; at the photo's upper edge, inside it
        draw.rectangle((at[0], at[1], at[0] + right + 3, at[1] + bottom + 2), fill=FOUND)
        draw.text((at[0] + 2, at[1]), label, INK, font)
    for x, y in np.asarray(points, np.float64).reshape(-1, 2).tolist():
        draw.ellipse((x - line, y - line, x + line, y + line), fill=TRUE, outline=INK)
    return page


def _corners(boxes: ArrayLike) -> list[tuple[int, int, int, int]]:
    """Left, top, right, bottom in whole pixels."""
    rows = np.asarray(boxes, np.float64).reshape(-1, 4)
    edges = np.rint(np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:]])).astype(int)
    return [(int(x), int(y), int(right), int(bottom)) for x, y, right, bottom in edges]
