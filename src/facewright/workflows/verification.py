"""Verification of two photos: match or no match, and the match probability."""

from __future__ import annotations

from pathlib import Path

from facewright.images import ImageLike
from facewright.old_keywords import select_face_was_policy
from facewright.recognition import Matched, Recognizer, SelectFace


@select_face_was_policy
def verify(
    a: ImageLike,
    b: ImageLike,
    *,
    model: str | Path | None = None,
    far: float | None = None,
    detector: str | None = None,
    select_face: SelectFace | None = None,
    device: str | None = None,
) -> Matched:
    """Compare two photos and decide with the threshold that is stored with the model.

    Args:
        a: a path, an H x W x 3 uint8 array or a PIL image.
        b: likewise.
        model: a run directory, a bundle file, or architecture@weights (which holds no threshold); None or "built-in":
            the built-in networks and the shipped threshold.
        far: false-accept rate of the threshold to use; default: the last stored.
        detector: as of `Recognizer`. A threshold is valid for the detector that it was chosen with.
        select_face: which of several faces is used, as of `Recognizer`.
    Raises:
        BadImage: a photo cannot be read. Undefined: there are thresholds, but none for that rate. UsageError:
        select_face where photos are taken whole.
    """
    recognizer = Recognizer.load(model, detector=detector, device=device)
    return recognizer.verify(a, b, select_face=recognizer.face_selection(select_face), far=far)
