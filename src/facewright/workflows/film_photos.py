"""The best frames of a film of one person, as photos to enroll."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.faces.selection import one_of
from facewright.gallery.photos import Photo
from facewright.images import Pixels
from facewright.recognition import Face, Recognizer, SelectFace
from facewright.video.frames import Reading, read

BEST = 5  # frames of a film
APART = 0.5  # seconds between two of them
KEPT = 20  # candidates that are in memory
EVERY = 3  # frames


def photos_of_film(
    path: Path, person: str, recognizer: Recognizer, select_face: SelectFace, same: float | None
) -> tuple[list[Photo], str | None]:
    """Return the frames of a film that show a person best, each reduced to the face and its surroundings.

    Args:
        path: the film. person: its name. select_face: of several faces in a frame. same: cosine from which on two faces
            are one person's; a frame with another face than the others is left out. None: all are taken.
    Returns:
        At most 5 photos, half a second apart, best first; and why none or fewer were taken, or None.
    Raises:
        UsageError: the recognizer takes photos whole. DataError: it is no film, or has no frames.
    """
    if recognizer.takes_photos_whole:
        raise UsageError(f"{path}: to find the person in a film a model needs a detector; add --detector")
    best: dict[int, tuple[float, Photo, Face]] = {}
    several = 0
    for frame in read(path, Reading(), every=EVERY):
        faces = recognizer.faces(frame.pixels)
        picked = one_of(faces, frame.pixels.shape[:2], select_face)
        several += picked.face is None and len(faces) > 1
        if picked.face is None:
            continue
        (quality,), place = recognizer.qualities([picked.face]), int(frame.seconds / APART)
        if quality.value > best.get(place, (-1.0,))[0]:
            name = f"{path}@{frame.seconds:.2f}s"
            best[place] = (quality.value, Photo(name, _around(frame.pixels, picked.face), person), picked.face)
        if len(best) > KEPT:
            del best[min(best, key=lambda one: best[one][0])]
    if not best:
        return [], "several faces in each frame" if several else "no face was found in any frame"
    chosen = sorted(best.values(), key=lambda one: -one[0])[:BEST]
    agreeing = _agreeing(recognizer.embed([face for _, _, face in chosen]), same)
    photos = [photo for (_, photo, _), agrees in zip(chosen, agreeing, strict=True) if agrees]
    left = len(chosen) - len(photos)
    return photos, f"{left} of {len(chosen)} frames show another face than the others" if left else None


def _around(pixels: Pixels, face: Face) -> Pixels:
    """The face and as much again on each side."""
    x, y, width, height = face.box
    top, left = max(0, round(y - height)), max(0, round(x - width))
    return pixels[top : round(y + 2 * height), left : round(x + 2 * width)].copy()


def _agreeing(vectors: NDArray[np.float32], same: float | None) -> Sequence[bool]:
    """Tell for each face if it is that of the face whose similarity to all is highest."""
    cosines = vectors @ vectors.T
    middle = int(cosines.sum(axis=1).argmax())
    return [same is None or place == middle or value >= same for place, value in enumerate(cosines[middle].tolist())]
