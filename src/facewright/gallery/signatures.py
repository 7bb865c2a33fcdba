"""Recognizers of a gallery: what its vectors were made with, and moving it to another model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import images
from facewright.errors import GalleryError, OtherModel, UsageError
from facewright.gallery.entries import ModelSignature
from facewright.gallery.store import GalleryStore
from facewright.recognition import TEMPLATES, Recognizer, built_in

WHOLE = "none"
BATCH = 64  # aligned crops embedded at a time


def signature_of(recognizer: Recognizer) -> ModelSignature:
    """The signature of a recognizer; files are named by absolute paths."""
    spec = recognizer.spec
    model = recognizer.name if recognizer.embedder is None else _absolute(recognizer.name)
    detector = _absolute(recognizer.detector) if Path(recognizer.detector).suffix else recognizer.detector
    return ModelSignature(
        fingerprint=recognizer.fingerprint,
        model=model,
        crop=spec.crop,
        flip=spec.flip,
        width=recognizer.width,
        detector=detector,
    )


def load(
    signature: ModelSignature,
    model: str | Path | None = None,
    *,
    detector: str | None = None,
    crop: float | None = None,
    flip: bool | None = None,
    device: str | None = "cpu",
) -> Recognizer:
    """Load the recognizer of a gallery, or one that differs from it in the given arguments.

    Raises:
        GalleryError: its public weights are not on this machine, or its model is no file. As `Recognizer.load`.
    """
    if model is None:
        _refuse_download(signature)
    chosen = signature.model if model is None else model
    if built_in(chosen) == built_in(signature.model):
        crop, flip = signature.crop if crop is None else crop, signature.flip if flip is None else flip
    detector = signature.detector if detector is None else detector
    return Recognizer.load(chosen, detector=detector, crop=crop, flip=flip, device=device)


def check_same(location: str, signature: ModelSignature, recognizer: Recognizer) -> None:
    """Refuse a recognizer whose vectors cannot be compared with the gallery's. Raises OtherModel."""
    if recognizer.fingerprint == signature.fingerprint:
        return
    crop, detector = recognizer.spec.crop, recognizer.detector
    advice = "use that model, or migrate with facewright gallery reembed"
    if detector != signature.detector:
        advice = "use that detector, or enroll the photos again into a new gallery"
    raise OtherModel(
        f"{location}: was enrolled with {signature.model} (detector {signature.detector}, crop {signature.crop:g}, "
        f"fingerprint {signature.fingerprint[:8]}), and {recognizer.name} (detector {detector}, crop {crop:g}, "
        f"fingerprint {recognizer.fingerprint[:8]}) makes other vectors; {advice}"
    )


def check_crops(signature: ModelSignature, recognizer: Recognizer) -> None:
    """Refuse a recognizer of another detector, template or crop than the gallery's crops. Raises UsageError."""
    old, new = _crop_kind(signature), _crop_kind(signature_of(recognizer))
    if old != new:
        raise UsageError(
            f"the gallery keeps {old}, and {recognizer.name} with detector {recognizer.detector} takes {new}: "
            "enroll the photos again into a new gallery"
        )
    if recognizer.spec.crop != signature.crop:
        raise UsageError(
            f"the gallery keeps {old}, the central {signature.crop:g} of both sides, and {recognizer.name} takes "
            f"{recognizer.spec.crop:g}: add --crop {signature.crop:g}, or enroll the photos again"
        )


def reembed(store: GalleryStore, recognizer: Recognizer) -> int:
    """Replace the vectors of all entries by another recognizer's, and count them.

    Raises:
        GalleryError: an entry has no crop; nothing is changed. UsageError: the crops are not what it takes.
    """
    check_crops(store.header().signature, recognizer)
    rows = list(store.rows())
    bare = sum(not row.has_crop for row in rows)
    if bare:
        raise GalleryError(
            f"{store.location}: {bare} of {len(rows)} entries were enrolled without their crops; "
            "enroll the photos again into a new gallery"
        )
    spec = replace(recognizer.spec, crop=1.0)  # the stored crops are cropped already
    vectors: dict[int, NDArray[np.float32]] = {}
    for batch in (rows[start : start + BATCH] for start in range(0, len(rows), BATCH)):
        crops = [images.read(store.crop(row.number) or b"", name=row.entry.photo) for row in batch]
        embedded = recognizer.embed_crops([spec.fit(crop) for crop in crops])
        vectors.update(zip((row.number for row in batch), embedded, strict=True))
    store.reembed(signature_of(recognizer), vectors)
    return len(vectors)


def _refuse_download(signature: ModelSignature) -> None:
    """A gallery file from another machine must not start a download, or wait for ever for a pipe."""
    architecture, _, which = signature.model.partition("@")
    path = Path(which or architecture)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise GalleryError(f"the gallery's model {path} is no file or folder; name the model with --model")
    from facewright.models import released
    from facewright.models.face_weights import face_weights

    detector = face_weights(signature.detector, "detector")
    if detector is not None and not released.cached_file(detector).is_file():
        raise GalleryError(
            f"the gallery was enrolled with the detector {detector.name}, which is not on this machine; download it"
            f" first: facewright weights get {detector.name}"
        )
    row = face_weights(signature.model, "recognizer")
    if row is None and (not which or path.exists() or path.suffix):
        return
    if row is None:
        row = next((one for one in released.released(architecture) if one.name == which), None)
    if row is not None and not released.cached_file(row).is_file():
        raise GalleryError(
            f"the gallery was enrolled with the public weights {signature.model}, which are not on this machine; "
            f"download them first: facewright weights get {signature.model}, or name a model with --model"
        )


def _crop_kind(signature: ModelSignature) -> str:
    """A description of a gallery's crops, equal for two whose crops are made alike."""
    if signature.detector == WHOLE and not built_in(signature.model):
        return "whole photos"
    side = TEMPLATES["dlib" if built_in(signature.model) else "arcface"].side
    source = (
        "of photos without a detector" if signature.detector == WHOLE else (f"found by {Path(signature.detector).name}")
    )
    return f"aligned crops of {side} px {source}"


def _absolute(name: str) -> str:
    before, at, after = name.rpartition("@")
    return f"{before}{at}{Path(after).absolute()}" if Path(after).exists() else name
