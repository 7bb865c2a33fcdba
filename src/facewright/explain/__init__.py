"""Why a network said so: which part of a picture spoke for a class, or made two faces alike.

>>> from facewright.explain import Explainer, occlude                                   # doctest: +SKIP
>>> explainer = Explainer(Classifier.load(Path("runs/a")))                              # doctest: +SKIP
>>> explainer.maps(pixels, [3])[0].shape                                                # doctest: +SKIP
(112, 112)
"""

from facewright.explain.class_maps import METHODS, Explainer, grad_cam, grad_cam_plus_plus, rollout
from facewright.explain.occlusion import Occlusion, occlude

__all__ = [
    "METHODS",
    "Explainer",
    "Occlusion",
    "grad_cam",
    "grad_cam_plus_plus",
    "occlude",
    "rollout",
]
