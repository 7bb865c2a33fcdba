"""Heat maps on photos: overlays as images, and one self-contained page of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from facewright.errors import UsageError
from facewright.explanation.class_maps import Explained, ExplainedPhoto
from facewright.explanation.occlusion import ExplainedPair
from facewright.images import Pixels, data_uri, png_of
from facewright.provenance import Origin
from facewright.report import pages, words

COLOURS = "viridis"  # even steps of lightness for even steps of heat, for every kind of colour sight and in print
STRONGEST = 0.8  # how much of the hottest point is colour; the rest is the photo
GAP = 8  # px between the photo and its overlay
_GREY = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709: of red, green and blue in lightness
SHOWN = 200  # photos on the page; each has an overlay of its own in the folder
BAR = 256  # steps of the legend
NAMES = {"grad-cam": "Grad-CAM", "grad-cam++": "Grad-CAM++", "rollout": "Attention rollout"}

Heat = NDArray[np.float32]


def overlay(photo: Pixels, heat: Heat) -> Pixels:
    """A photo in greys with the heat in colours over it, the more opaque the hotter.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        heat: (h, w) in [0, 1], enlarged to the photo's size.
    Returns:
        (H, W, 3) uint8 RGB.
    Raises:
        UsageError: heat that is no map of values from 0 to 1.
    >>> overlay(np.full((2, 2, 3), 100, np.uint8), np.zeros((1, 1), np.float32))[0, 0].tolist()
    [100, 100, 100]
    """
    if heat.ndim != 2 or not heat.size or not bool(((heat >= 0) & (heat <= 1)).all()):
        raise UsageError(f"expected a heat map (h, w) of values from 0 to 1, got one of shape {heat.shape}")
    size = (photo.shape[1], photo.shape[0])
    enlarged = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    warm = np.clip(enlarged, 0, 1)[..., None]
    grey = np.repeat((photo @ _GREY)[..., None], 3, axis=2)
    colour = 255 * colormaps[COLOURS](warm[..., 0])[..., :3]
    opaque = STRONGEST * np.sqrt(warm)
    return np.asarray(np.rint(grey * (1 - opaque) + colour * opaque).clip(0, 255), np.uint8)


def side_by_side(photo: Pixels, heat: Heat) -> bytes:
    """The photo, and beside it its overlay: a PNG.

    Args, Raises: as `overlay`.
    """
    gap = np.full((photo.shape[0], GAP, 3), 255, np.uint8)
    return png_of(np.concatenate([photo, gap, overlay(photo, heat)], axis=1))


def explanations_page(found: Explained | ExplainedPair, origin: Origin) -> str:
    """The whole page as HTML."""
    heat = np.linspace(0, 1, BAR, dtype=np.float32)[None]
    colours = overlay(np.full((1, BAR, 3), 128, np.uint8), heat)  # as they look on a photo's mid grey
    told = _of_photos(found) if isinstance(found, Explained) else _of_pair(found)
    return pages.render("explanations.html", {"bar": data_uri(colours), **told}, origin)


def _of_photos(found: Explained) -> dict[str, object]:
    """Return what the template is told of photos and their classes."""
    broken = [(photo.path, photo.error) for photo in found.photos if photo.error is not None]
    whole = [photo for photo in found.photos if photo.heat is not None]
    count = len(whole)
    ends = ("nothing", "most") if found.method != "rollout" else ("least attention", "most attention")
    return {
        "title": "Where the network saw it" if found.method != "rollout" else "Where the network looked",
        "lead": [found.model, NAMES[found.method], f"{count:,} photo{'' if count == 1 else 's'}"],
        "how": how_made(found),
        "ends": ends,
        "cards": [_photo_card(photo, found.method) for photo in whole[:SHOWN]],
        "more": max(0, count - SHOWN),
        "broken": broken,
    }


def how_made(found: Explained) -> list[str]:
    """Return how the maps were made and how to read them, in sentences."""
    rows, columns = found.points
    height, width = found.input_size
    if found.method == "rollout":
        return [
            f"Attention rollout: how much of each of the {rows} × {columns} patches reaches the class token through "
            "all layers. It tells what was looked at, not for which class nor whether it spoke for or against it."
        ]
    return [
        f"{NAMES[found.method]} of the layer {found.layer}: a map of {rows} × {columns} points, enlarged to the "
        f"{height} × {width} px that the network is shown; no detail finer than {ceil(height / rows)} px is real.",
        "Colour shows what raises the score of the class named below each photo, each photo on a scale of its own: "
        "a hot spot tells where the evidence was, not that there was much of it, nor that it was right.",
    ]


def _photo_card(photo: ExplainedPhoto, method: str) -> dict[str, object]:
    facts = [f"probability {words.percent(photo.probability)}"]
    if photo.name != photo.predicted:
        facts.append(f"the model says {photo.predicted}")
    if photo.peak is None:
        facts.append("no region speaks for this class")
    title = photo.name if method != "rollout" else f"says {photo.name}"
    return _card(photo.path, title, facts, photo.photo, photo.heat)


def _of_pair(found: ExplainedPair) -> dict[str, object]:
    """Return what the template is told of two photos."""
    score, drop = words.number(found.occlusion.score, 3), words.number(found.occlusion.drop, 3)
    answer = "" if found.same is None else "the same person" if found.same else "two people"
    lead = [found.model, answer, f"similarity {score}"]
    if found.threshold is not None:
        lead.append(f"threshold {words.number(found.threshold, 3)}")
    how = [
        f"A square of a fifth of the sides was moved over each photo, and the similarity to the other, {score}, "
        f"measured again: where it falls, that region made the two alike. Full colour stands for a fall by {drop}, on "
        "the mean of the squares that lie on a point; grey for none, or for a rise.",
        "The network never saw such a cover in training; a part of each fall comes from that, not from similarity.",
    ]
    heats = (found.occlusion.heat_a, found.occlusion.heat_b)
    cards = [
        _card(
            path, title, (f"falls by {words.number(float(heat.max()) * found.occlusion.drop, 3)} at most",), photo, heat
        )
        for path, title, photo, heat in zip(found.paths, ("First", "Second"), found.photos, heats, strict=True)
    ]
    return {
        "title": "What made the two alike",
        "lead": [fact for fact in lead if fact],
        "how": how,
        "ends": ("no fall", f"falls by {drop}"),
        "cards": cards,
        "more": 0,
        "broken": [],
    }


def _card(path: str, title: str, facts: Sequence[str], photo: Pixels | None, heat: Heat | None) -> dict[str, object]:
    if photo is None or heat is None:
        raise UsageError(f"{path}: expected a photo and its heat map to show")
    drawn, over = (data_uri(pixels, quality=85) for pixels in (photo, overlay(photo, heat)))
    return {"path": path, "name": Path(path).name, "title": title, "facts": facts, "photo": drawn, "overlay": over}
