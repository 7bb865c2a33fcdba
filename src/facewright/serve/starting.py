"""The models of a server, from what the command line names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facewright.gallery.gallery import Gallery
from facewright.inference import Classifier
from facewright.recognition import Recognizer
from facewright.serve.service import Models, Runtime


def load(
    model: str | None, gallery: str | None = None, *, detector: str | None = None, keep_crops: bool = True
) -> Models:
    """Load what a server answers with.

    Args:
        model: a run directory, a model file, architecture@weights or "built-in"; None: the gallery's, else built-in.
        gallery: a file or a database; made where there is none. detector: as `Recognizer`.
    Raises:
        OtherModel: the gallery is of another model. As `Embedder.load` and `Gallery.open`.
    """
    held = None if gallery is None else Gallery.for_enrolling(gallery, model, detector=detector)
    recognizer = Recognizer.load(model, detector=detector) if held is None else held.recognizer
    _warm(recognizer)
    own = recognizer.embedder
    classifier = None if own is None or model is None or not own.bundle.classes else Classifier.load(Path(model))
    runtime: Runtime = "pytorch" if own is None or own.bundle.exported is None else "onnx"
    return Models(shown(recognizer.name), recognizer, classifier, held, keep_crops, runtime)


def shown(name: str) -> str:
    """What a model is called to who asks over the network: the folders of this machine are none of his business.

    >>> shown("mobilefacenet@/home/me/weights.safetensors"), shown("runs/a"), shown("built-in")
    ('mobilefacenet@weights.safetensors', 'a', 'built-in')
    """
    architecture, at, weights = name.rpartition("@")
    return f"{architecture}{at}{Path(weights).name}"


def _warm(recognizer: Recognizer) -> None:
    """Load every network, so that what cannot be loaded is told now and the first request is as fast as others."""
    spec = recognizer.spec
    recognizer.faces(np.zeros((spec.height, spec.width, 3), np.uint8))
    recognizer.embed_chips([np.zeros((spec.height, spec.width, 3), np.uint8)])
