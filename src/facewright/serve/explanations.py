"""Heat maps as images in an answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from facewright.errors import UnknownName, UsageError, missing_extra
from facewright.images import Pixels, data_uri
from facewright.inference import Classifier
from facewright.recognition import Face, Recognizer

if TYPE_CHECKING:
    from facewright.explanation.class_maps import Explainer

SHOWN = 224  # px: least side of the images that are shown


class Explanations:
    """The heat maps of the models of a server."""

    def __init__(self, recognizer: Recognizer, classifier: Classifier | None) -> None:
        self._recognizer = recognizer
        self._classifier = classifier

    @cached_property
    def _explainer(self) -> Explainer:
        if self._classifier is None:
            raise UsageError("the model has no classes; send two images a and b to see what made them similar")
        from facewright.explanation.class_maps import Explainer

        return Explainer(self._classifier)

    def pair(self, a: Face, b: Face) -> dict[str, Any]:
        """Show which regions made two faces similar."""
        from facewright.explanation.occlusion import occlude

        overlay = _overlay()
        result = occlude(self._recognizer, a.chip, b.chip)
        sides = ((a.chip, result.heat_a), (b.chip, result.heat_b))
        shown = [{"overlay": data_uri(overlay(_shown(p), heat)), "photo": data_uri(_shown(p))} for p, heat in sides]
        return {"kind": "pair", "score": result.score, "drop": result.drop, "a": shown[0], "b": shown[1]}

    def of_class(self, photo: str, pixels: Pixels, name: str | None) -> dict[str, Any]:
        """Show where the network saw a class; the most probable one where none is named."""
        import torch

        overlay, explainer = _overlay(), self._explainer
        classifier = explainer.classifier
        inputs = classifier.fit(pixels, photo)
        batch = torch.from_numpy(inputs).permute(2, 0, 1)[None]
        prediction = classifier.prediction(photo, classifier.logits(batch)[0], len(classifier.classes))
        found = prediction.by_name
        wanted = next(iter(found), "") if name is None else name
        if wanted not in classifier.explained:
            raise UnknownName("class", wanted, classifier.explained)
        heat = explainer.maps(batch, [classifier.classes.index(wanted)])[0]
        return {
            "kind": "class",
            "name": wanted,
            "probability": found[wanted],
            "predicted": wanted if prediction.targets is not None else prediction.names[0],
            "overlay": data_uri(overlay(_shown(inputs), heat)),
            "photo": data_uri(_shown(inputs)),
        }


def _overlay() -> Callable[[Pixels, NDArray[np.float32]], Pixels]:
    """Return `report.explanations.overlay`. Raises UsageError: the extra `train` is not installed."""
    try:
        from facewright.report.explanations import overlay
    except ModuleNotFoundError as error:
        raise UsageError(missing_extra(error) or str(error)) from None
    return overlay


def _shown(pixels: Pixels) -> Pixels:
    """The image, enlarged where it is small."""
    height, width = pixels.shape[:2]
    times = max(1.0, SHOWN / max(height, width))
    size = round(width * times), round(height * times)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
