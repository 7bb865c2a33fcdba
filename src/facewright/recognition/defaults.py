"""The recognizer and detector that are used where none is named: the built-in ones, or what the user chose.

<cache>/defaults.json beside the weights: who empties the cache has the built-in ones again.
"""

from __future__ import annotations

from pathlib import Path

from facewright.embedding import Embedder, open_model
from facewright.errors import UsageError
from facewright.faces.detectors import Whole
from facewright.faces.onnx_detectors import detector_family
from facewright.files import cache_folder, read_json, write_json
from facewright.models.face_weights import face_weights
from facewright.recognition.networks import BUILT_IN
from facewright.records import Record


class Defaults(Record):
    """The model and the detector that are used where none is named."""

    model: str = BUILT_IN
    detector: str | None = None  # None: the model's own default


def read_defaults(cache: Path | None = None) -> Defaults:
    """Return the user's defaults.

    Raises:
        UsageError: the file is damaged.
    """
    path = _file(cache)
    return read_json(path, Defaults, error=UsageError) if path.is_file() else Defaults()


def set_default(name: str, cache: Path | None = None) -> Defaults:
    """Make a model or a detector the default; "built-in" takes both back.

    Args:
        name: a recognizer or detector of `face_weights`, a detector's name or file, or a model file or run directory.
    Raises:
        UsageError: no such name or file. BundleError: the file holds neither.
    """
    row, known = face_weights(name), read_defaults(cache)
    if name == BUILT_IN:
        chosen = Defaults()
    elif (row is not None and row.kind == "detector") or name == "dlib":
        chosen = known.replace(detector=name)
    elif detector_family(Path(name)) is not None:
        chosen = known.replace(detector=str(Path(name).absolute()))
    else:
        chosen = known.replace(model=name if row is not None else _existing(name))
    path = _file(cache)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(path, chosen.to_dict())
    return chosen


def default_detector(embedder: Embedder | None) -> str:
    """Return the detector of a network where none is named: the one whose crops it was trained on.

    Raises:
        UsageError: its file is not known.
    """
    faces = None if embedder is None else embedder.spec.faces
    if embedder is None or faces is None:
        return "dlib" if embedder is None else Whole.name
    if faces.detector == "dlib":
        return "dlib"
    from facewright.training.recipe import run_detector

    if (own := run_detector(embedder.name)) is None:
        raise UsageError(
            f"{embedder.name} was trained on faces found by {faces.detector}: give its file, --detector FILE; "
            "--detector none for images that are such crops"
        )
    return own


def _existing(name: str) -> str:
    """Return the absolute name of a model file, a run directory or architecture@weights."""
    if Path(name).exists():
        open_model(name)
        return str(Path(name).absolute())
    if "@" in name:
        return name
    raise UsageError(f"{name}: expected built-in, the name of `facewright weights list`, a model file or a run")


def _file(cache: Path | None) -> Path:
    return (cache_folder() if cache is None else cache) / "defaults.json"
