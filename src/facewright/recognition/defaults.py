"""The recognizer and detector that are used where none is named: the built-in ones, or what the user chose.

<cache>/defaults.json beside the weights: who empties the cache has the built-in ones again.
"""

from __future__ import annotations

from pathlib import Path

from facewright.errors import UsageError
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
        name: a recognizer or detector of `face_weights`, a detector's name, or a model file or run directory.
    """
    row, known = face_weights(name), read_defaults(cache)
    if name == BUILT_IN:
        chosen = Defaults()
    elif (row is not None and row.kind == "detector") or name == "dlib":
        chosen = known.replace(detector=name)
    else:
        chosen = known.replace(model=name if row is not None else _existing(name))
    path = _file(cache)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(path, chosen.to_dict())
    return chosen


def _existing(name: str) -> str:
    """Return the absolute name of a model file, a run directory or architecture@weights."""
    if Path(name).exists():
        return str(Path(name).absolute())
    if "@" in name:
        return name
    raise UsageError(f"{name}: expected built-in, the name of `facewright weights list`, a model file or a run")


def _file(cache: Path | None) -> Path:
    return (cache_folder() if cache is None else cache) / "defaults.json"
