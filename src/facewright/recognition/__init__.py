"""A photo → its faces, or the vector of one of them; two photos → the same person or not."""

from typing import TYPE_CHECKING

from facewright.public_names import lazy_names

if TYPE_CHECKING:
    from facewright.faces.detectors import SMALLEST_FACE
    from facewright.faces.selection import DEFAULT_SELECTION, Face, Picked, SelectFace
    from facewright.recognition.networks import TEMPLATES, Matched, built_in
    from facewright.recognition.recognizer import Recognizer

__all__ = [
    "DEFAULT_SELECTION",
    "SMALLEST_FACE",
    "TEMPLATES",
    "Face",
    "Matched",
    "Picked",
    "Recognizer",
    "SelectFace",
    "built_in",
]

__getattr__ = lazy_names(
    __name__,
    {
        "facewright.faces.detectors": "SMALLEST_FACE",
        "facewright.faces.selection": "DEFAULT_SELECTION Face Picked SelectFace",
        "facewright.recognition.networks": "TEMPLATES Matched built_in",
        "facewright.recognition.recognizer": "Recognizer",
    },
)
