"""The threshold of a gallery for faces of low quality.

Blurred and tiny faces of different people come to look alike to a network, and like some enrolled face: they have an
impostor distribution of their own, which no fit to good faces shows. It is counted here on the gallery itself: crops
that were kept (`enroll --keep-crops`) are reduced and enlarged until their quality is low, and each is searched among
the other people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright import images
from facewright.errors import Undefined
from facewright.faces.quality import LOW, SHARP, relative_sharpness
from facewright.gallery.store import GalleryStore
from facewright.images import Pixels
from facewright.metrics.thresholds import accepting_at_most, allowed_at
from facewright.recognition import Recognizer

MAX_SEARCHES = 200  # crops, drawn at random
FEWEST = 20
FACTORS = (3.0, 6.0, 12.0)  # first reduction, drawn from the first to the second; the last is the largest
STEPS = 6


@dataclass(frozen=True)
class PoorFaces:
    """The threshold for faces of low quality, and the searches it was counted on."""

    value: float
    searches: int


def poor_threshold(
    store: GalleryStore, recognizer: Recognizer, fpir: float, confidence: float | None, at_least: float, seed: int = 0
) -> PoorFaces | None:
    """Choose the threshold for faces of low quality; None where fewer than 20 crops are kept.

    Args:
        fpir, confidence: as `calibration.choose`; with too few crops for the rate, none of them is accepted.
        at_least: the gallery's threshold, which this one is never below.
    """
    best = poor_searches(store, recognizer, seed)
    if best.size < FEWEST:
        return None
    try:
        allowed = allowed_at(fpir, best.size, confidence)
    except Undefined:
        allowed = 0
    return PoorFaces(max(at_least, accepting_at_most(best, allowed)), best.size)


def poor_searches(store: GalleryStore, recognizer: Recognizer, seed: int = 0) -> NDArray[np.float64]:
    """Return the best score of poor copies of enrolled faces among the other people, (Q,)."""
    drawn = np.random.default_rng(seed)
    kept = [row for row in store.rows() if row.has_crop]
    places = sorted(drawn.permutation(len(kept))[:MAX_SEARCHES].tolist())
    people, copies = list[str](), list[Pixels]()
    for row in (kept[place] for place in places):
        crop = images.read(store.crop(row.number) or b"", name=row.entry.photo)
        copy = poor_copy(crop, drawn.uniform(*FACTORS[:2]))
        if copy is not None:
            people.append(row.entry.person)
            copies.append(copy)
    if not copies:
        return np.zeros(0)
    found = store.nearest(recognizer.embed_chips(copies), 2, {})
    best = [
        next((match.score for match in matches if match.person != person), np.nan)
        for person, matches in zip(people, found, strict=True)
    ]
    return np.array([score for score in best if np.isfinite(score)])


def poor_copy(crop: Pixels, factor: float) -> Pixels | None:
    """Reduce and enlarge a crop until its quality is low; None where it stays above.

    Args:
        crop: (H, W, 3) uint8. factor: of the first reduction; it grows to 12 times.
    """
    image = Image.fromarray(crop)
    for by in np.geomspace(factor, FACTORS[2], STEPS):
        small = (max(2, round(image.width / by)), max(2, round(image.height / by)))
        copy = np.asarray(image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC))
        if relative_sharpness(copy) / SHARP < LOW:
            return copy
    return None
