"""Photos of faces on their way into a gallery, and as the network saw them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from facewright import images
from facewright.data.decoding import smallest_side
from facewright.embedding import BATCH, Embedder
from facewright.errors import BadImage


@dataclass(frozen=True)
class Photo:
    """A picture of a face: a file, or the bytes of one."""

    name: str  # what it is called in results
    source: Path | bytes
    person: str = ""  # who it is, where it is to be enrolled

    @classmethod
    def of(cls, path: Path, person: str = "") -> Photo:
        """A file, called by its path."""
        return cls(str(path), path, person)


@dataclass(frozen=True)
class Seen:
    """A photo as the network saw it."""

    vector: NDArray[np.float32]  # (D,)
    pixels: NDArray[np.uint8]  # (H, W, 3), fitted
    digest: str  # of the decoded pixels


def look(embedder: Embedder, photos: Sequence[Photo]) -> list[Seen | str]:
    """Each photo as the network sees it, or why it cannot be seen."""
    least = smallest_side(embedder.spec)
    decoded = [read(photo, least) for photo in photos]
    fitted = [None if isinstance(pixels, str) else embedder.spec.fit(pixels) for pixels in decoded]
    good = [pixels for pixels in fitted if pixels is not None]
    vectors = iter(embedder.embed(tensor(good)) if good else ())
    seen: list[Seen | str] = []
    for pixels, face in zip(decoded, fitted, strict=True):
        if isinstance(pixels, str):
            seen.append(pixels)
        elif face is not None:
            seen.append(Seen(next(vectors), face, digest_of(pixels)))
    return seen


def batches(photos: Iterable[Photo]) -> Iterator[list[Photo]]:
    """As many at a time as the network takes."""
    left = iter(photos)
    while batch := list(islice(left, BATCH)):
        yield batch


def read(photo: Photo, at_least: int) -> NDArray[np.uint8] | str:
    """The pixels of a photo (H, W, 3), or why there are none."""
    try:
        return images.read(photo.source, name=photo.name, at_least=at_least)
    except BadImage as error:
        return error.reason
    except OSError as error:
        return error.strerror or str(error)


def tensor(pixels: Sequence[NDArray[np.uint8]]) -> torch.Tensor:  # B times (H, W, 3) -> (B, 3, H, W)
    """Pictures of one size as a batch."""
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)


def digest_of(pixels: NDArray[np.uint8]) -> str:
    """32 hex characters that stand for size and pixels."""
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=16).hexdigest()


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    """The picture as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
