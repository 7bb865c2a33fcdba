"""Photos of faces on their way into a gallery, and as the network saw them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright import images
from facewright.embedding import BATCH
from facewright.gallery.results import Taken
from facewright.recognition import DEFAULT_POLICY, Face, Policy, Recognizer


@dataclass(frozen=True)
class Photo:
    """A photo of a face: a file, the bytes of one, or its pixels (H, W, 3)."""

    name: str  # what it is called in results
    source: Path | bytes | images.Pixels
    person: str = ""  # who it is, where it is to be enrolled

    @classmethod
    def of(cls, path: Path, person: str = "") -> Photo:
        """A file, called by its path."""
        return cls(str(path), path, person)


@dataclass(frozen=True, eq=False)
class Seen:
    """A photo as the network saw it."""

    vector: NDArray[np.float32]  # (D,)
    pixels: NDArray[np.uint8]  # (H, W, 3), the chip
    digest: str  # of the decoded pixels
    taken: Taken


def look(recognizer: Recognizer, photos: Sequence[Photo], policy: Policy = DEFAULT_POLICY) -> list[Seen | str]:
    """Each photo as the network sees it, or why it cannot be seen.

    Args:
        policy: which of several faces.
    """
    faces: list[tuple[Face, str, Taken] | str] = [_face(recognizer, photo, policy) for photo in photos]
    vectors = iter(recognizer.embed([found[0] for found in faces if not isinstance(found, str)]))
    return [
        found if isinstance(found, str) else Seen(next(vectors), found[0].chip, found[1], found[2]) for found in faces
    ]


def _face(recognizer: Recognizer, photo: Photo, policy: Policy) -> tuple[Face, str, Taken] | str:
    """The face that is taken and the photo's digest; of the photo itself nothing stays in memory."""
    pixels = read(photo, recognizer.at_least)
    if isinstance(pixels, str):
        return pixels
    picked = recognizer.pick(pixels, policy)
    if picked.face is None:
        return picked.reason or "no face was taken"
    return picked.face, digest_of(pixels), Taken(picked.faces, picked.face.box, picked.said)


def batches(photos: Iterable[Photo]) -> Iterator[list[Photo]]:
    """As many at a time as the network takes."""
    left = iter(photos)
    while batch := list(islice(left, BATCH)):
        yield batch


def read(photo: Photo, at_least: int | None) -> NDArray[np.uint8] | str:
    """The pixels of a photo (H, W, 3), or why there are none."""
    if isinstance(photo.source, np.ndarray):
        return photo.source
    return images.try_read(photo.source, name=photo.name, at_least=at_least)


def digest_of(pixels: NDArray[np.uint8]) -> str:
    """32 hex characters that stand for size and pixels."""
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
