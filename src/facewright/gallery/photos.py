"""Photos of faces on their way into a gallery."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.faces.quality import Quality
from facewright.recognition import DEFAULT_SELECTION, Face, Picked, Recognizer, SelectFace


@dataclass(frozen=True)
class Photo:
    """A photo with a name, and the person it shows if it is to be enrolled."""

    name: str  # in results
    source: images.ImageLike
    person: str = ""  # to be enrolled as

    @classmethod
    def of(cls, image: Photo | images.ImageLike, person: str = "") -> Photo:
        """Return an image as a photo; a file is named by its path."""
        if isinstance(image, Photo):
            return image
        return cls(str(image) if isinstance(image, (str, Path, images.MemoryImage)) else "image", image, person)


@dataclass(frozen=True, eq=False)
class EmbeddedPhoto:
    """A photo with the selected face and its vector."""

    vector: NDArray[np.float32]  # (D,)
    face: Face
    digest: str  # of the decoded pixels
    picked: Picked
    quality: Quality


def embed_photos(
    recognizer: Recognizer,
    photos: Sequence[Photo],
    select_face: SelectFace = DEFAULT_SELECTION,
    min_quality: float = 0.0,
) -> list[EmbeddedPhoto | str]:
    """Embed one face of each photo; a string says why a photo has none.

    Args:
        select_face: which of several faces. min_quality: of the selected face, in [0, 1]; see `faces.quality`.
    """
    picked = [_pick(recognizer, photo, select_face) for photo in photos]
    embedded = recognizer.embed_with_quality([one[0] for one in picked if not isinstance(one, str)])
    measured = zip(*embedded, strict=True)
    results: list[EmbeddedPhoto | str] = []
    for one in picked:
        if isinstance(one, str):
            results.append(one)
            continue
        vector, quality = next(measured)
        poor = (
            f"quality {quality.describe()}, expected at least {min_quality:g}; use a larger, sharper or frontal photo"
        )
        results.append(poor if quality.value < min_quality else EmbeddedPhoto(vector, *one, quality))
    return results


def _pick(recognizer: Recognizer, photo: Photo, select_face: SelectFace) -> tuple[Face, str, Picked] | str:
    """The selected face and the photo's digest; the photo itself does not stay in memory."""
    pixels = read(photo, recognizer.at_least)
    if isinstance(pixels, str):
        return pixels
    picked = recognizer.pick(pixels, select_face)
    if picked.face is None:
        return picked.reason or "no face was selected"
    return picked.face, digest_of(pixels), picked


def read(photo: Photo, at_least: int | None) -> NDArray[np.uint8] | str:
    """The pixels of a photo (H, W, 3), or why it cannot be read."""
    return images.try_read(photo.source, name=photo.name, at_least=at_least)


def digest_of(pixels: NDArray[np.uint8]) -> str:
    """A digest of size and pixels, 32 hex characters."""
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()
