"""Heat maps as pictures in an answer."""

from __future__ import annotations

import base64
import io
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from facewright.errors import UnknownName, UsageError
from facewright.explanation import Explainer, occlude
from facewright.images import Pixels
from facewright.inference import Classifier
from facewright.recognition import Face, Recognizer
from facewright.report.explanations import overlay

SHOWN = 224  # px: side of the pictures that are shown, at least


class Explanations:
    """What can be explained of the models of a server."""

    def __init__(self, recognizer: Recognizer, classifier: Classifier | None) -> None:
        self._recognizer = recognizer
        self._classifier = classifier

    @cached_property
    def _explainer(self) -> Explainer:
        if self._classifier is None:
            raise UsageError("the model has no classes: give two photos a and b to learn what made them alike")
        return Explainer(self._classifier)

    def pair(self, a: Face, b: Face) -> dict[str, Any]:
        """Which regions made two faces alike."""
        found = occlude(self._recognizer, a.chip, b.chip)
        sides = ((a.chip, found.heat_a), (b.chip, found.heat_b))
        told = [{"overlay": _uri(overlay(_shown(p), heat)), "photo": _uri(_shown(p))} for p, heat in sides]
        return {"kind": "pair", "score": found.score, "drop": found.drop, "a": told[0], "b": told[1]}

    def of_class(self, photo: str, pixels: Pixels, name: str | None) -> dict[str, Any]:
        """Where the network saw a class; the one that it says where none is named."""
        explainer = self._explainer
        classifier = explainer.classifier
        fed = classifier.spec.fit(pixels)
        batch = torch.from_numpy(fed).permute(2, 0, 1)[None]
        said = classifier.prediction(photo, classifier.logits(batch)[0], len(classifier.classes))
        asked = said.names[0] if name is None else name
        if asked not in classifier.classes:
            raise UnknownName("class", asked, classifier.classes)
        heat = explainer.maps(batch, [classifier.classes.index(asked)])[0]
        return {
            "kind": "class",
            "name": asked,
            "probability": said.probabilities[said.names.index(asked)],
            "predicted": said.names[0],
            "overlay": _uri(overlay(_shown(fed), heat)),
            "photo": _uri(_shown(fed)),
        }


def _shown(pixels: Pixels) -> Pixels:
    """Enlarged where it is small."""
    height, width = pixels.shape[:2]
    times = max(1.0, SHOWN / max(height, width))
    size = round(width * times), round(height * times)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _uri(pixels: Pixels) -> str:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()
