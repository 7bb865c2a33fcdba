"""Explanations of a network's answers: the image regions that support a class, or that make two faces similar.

>>> from facewright.explanation import Explainer, occlude                                   # doctest: +SKIP
>>> explainer = Explainer(Classifier.load(Path("runs/a")))                              # doctest: +SKIP
>>> explainer.maps(pixels, [3])[0].shape                                                # doctest: +SKIP
(112, 112)
"""

from typing import TYPE_CHECKING

from facewright.lazy import lazy_names

if TYPE_CHECKING:
    from facewright.explanation.class_maps import METHODS, Explainer, grad_cam, grad_cam_plus_plus, rollout
    from facewright.explanation.occlusion import Occlusion, occlude
    from facewright.explanation.results import Explained, ExplainedPair, ExplainedPhoto

__all__ = [
    "METHODS",
    "Explained",
    "ExplainedPair",
    "ExplainedPhoto",
    "Explainer",
    "Occlusion",
    "grad_cam",
    "grad_cam_plus_plus",
    "occlude",
    "rollout",
]

__getattr__ = lazy_names(
    __name__,
    {
        "facewright.explanation.class_maps": "METHODS Explainer grad_cam grad_cam_plus_plus rollout",
        "facewright.explanation.occlusion": "Occlusion occlude",
        "facewright.explanation.results": "Explained ExplainedPair ExplainedPhoto",
    },
)
