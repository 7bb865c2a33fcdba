"""What a gallery is pinned to, as a recogniser; and whether the faces it keeps are of use to another one."""

from __future__ import annotations

from pathlib import Path

from facewright.errors import OtherModel, UsageError
from facewright.gallery.store import Pin
from facewright.recognition import TEMPLATES, Recognizer, built_in

WHOLE = "none"


def pin_of(recognizer: Recognizer) -> Pin:
    """What a gallery of this recogniser is pinned to; files are named so that they are found from anywhere."""
    spec = recognizer.spec
    model = recognizer.name if recognizer.embedder is None else _from_anywhere(recognizer.name)
    detector = _from_anywhere(recognizer.detector) if Path(recognizer.detector).suffix else recognizer.detector
    return Pin(recognizer.fingerprint, model, spec.crop, spec.flip, recognizer.width, detector)


def load(
    pin: Pin,
    model: str | Path | None = None,
    *,
    detector: str | None = None,
    crop: float | None = None,
    flip: bool | None = None,
) -> Recognizer:
    """The recogniser of a gallery, or one that differs from it in what is named.

    Raises: as `Recognizer.load`.
    """
    wanted = pin.model if model is None else model
    if built_in(wanted) == built_in(pin.model):
        crop, flip = pin.crop if crop is None else crop, pin.flip if flip is None else flip
    return Recognizer.load(wanted, detector=pin.detector if detector is None else detector, crop=crop, flip=flip)


def check_same(where: str, pin: Pin, recognizer: Recognizer) -> None:
    """Refuse a recogniser whose vectors are no neighbours of the gallery's.

    Raises:
        OtherModel: it is not the one that the gallery was enrolled with.
    """
    if recognizer.fingerprint == pin.fingerprint:
        return
    crop, detector = recognizer.spec.crop, recognizer.detector
    advice = "use that model, or migrate with facewright gallery reembed"
    if detector != pin.detector:
        advice = "use that detector, or enrol the photos anew into a new gallery"
    raise OtherModel(
        f"{where}: was enrolled with {pin.model} (detector {pin.detector}, crop {pin.crop:g}, fingerprint "
        f"{pin.fingerprint[:8]}), and {recognizer.name} (detector {detector}, crop {crop:g}, fingerprint "
        f"{recognizer.fingerprint[:8]}) makes other vectors; {advice}"
    )


def check_crops(pin: Pin, recognizer: Recognizer) -> None:
    """Refuse a recogniser that cuts faces out otherwise than those that the gallery keeps.

    Raises:
        UsageError: another detector, template or crop.
    """
    old, new = _cut(pin), _cut(pin_of(recognizer))
    if old != new:
        raise UsageError(
            f"the faces it keeps are {old}, and {recognizer.name} with detector {recognizer.detector} takes {new}: "
            "enrol the photos anew into a new gallery"
        )
    if recognizer.spec.crop != pin.crop:
        raise UsageError(
            f"the faces it keeps are {old}, the central {pin.crop:g} of both sides, and {recognizer.name} takes "
            f"{recognizer.spec.crop:g}: say --crop {pin.crop:g}, or enrol the photos anew"
        )


def _cut(pin: Pin) -> str:
    """What the faces of a gallery are, in words that are equal where these are."""
    if pin.detector == WHOLE and not built_in(pin.model):
        return "whole photos"
    side = TEMPLATES["dlib" if built_in(pin.model) else "arcface"].side
    found = "of photos without a detector" if pin.detector == WHOLE else f"found by {Path(pin.detector).name}"
    return f"chips of {side} px {found}"


def _from_anywhere(name: str) -> str:
    before, at, after = name.rpartition("@")
    return f"{before}{at}{Path(after).absolute()}" if Path(after).exists() else name
