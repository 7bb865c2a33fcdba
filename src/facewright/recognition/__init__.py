"""A photo → its faces, or the vector of one of them; two photos → the same person or not.

With nothing trained, by dlib's networks and the threshold that is shipped for them; or by your own model.

>>> Recognizer().verify("a.jpg", "b.jpg").same                                         # doctest: +SKIP
True
>>> Recognizer.load("runs/a", detector="dlib").verify("a.jpg", "b.jpg").score          # doctest: +SKIP
0.71
"""

from typing import TYPE_CHECKING

from facewright.lazy import lazy_names

if TYPE_CHECKING:
    from facewright.faces.detectors import DETECTORS, EVERY, LARGE, SMALLEST_FACE, Detector, Located
    from facewright.faces.selection import DEFAULT_SELECTION, SELECTIONS, Face, Picked, SelectFace
    from facewright.recognition.matching import Matched
    from facewright.recognition.networks import BUILT_IN, SHIPPED, TEMPLATES, built_in, shipped
    from facewright.recognition.recognizer import Recognizer

__all__ = [
    "BUILT_IN",
    "DEFAULT_SELECTION",
    "DETECTORS",
    "EVERY",
    "LARGE",
    "SELECTIONS",
    "SHIPPED",
    "SMALLEST_FACE",
    "TEMPLATES",
    "Detector",
    "Face",
    "Located",
    "Matched",
    "Picked",
    "Recognizer",
    "SelectFace",
    "built_in",
    "shipped",
]

__getattr__ = lazy_names(
    __name__,
    {
        "facewright.faces.detectors": "DETECTORS EVERY LARGE SMALLEST_FACE Detector Located",
        "facewright.recognition.matching": "Matched",
        "facewright.recognition.networks": "BUILT_IN SHIPPED TEMPLATES built_in shipped",
        "facewright.faces.selection": "DEFAULT_SELECTION SELECTIONS Face Picked SelectFace",
        "facewright.recognition.recognizer": "Recognizer",
    },
)
