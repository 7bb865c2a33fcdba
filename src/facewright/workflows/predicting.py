"""Predicting: pictures in, names and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facewright.errors import UsageError
from facewright.images import IMAGE_SUFFIXES
from facewright.inference import Classifier, Prediction
from facewright.training.events import Listener, Progressed
from facewright.workflows.material import silent


def predict(model: Path, paths: Sequence[Path], *, top_k: int = 5, listen: Listener | None = None) -> list[Prediction]:
    """The likeliest classes of pictures; a folder stands for every picture below it.

    Args:
        model: a run directory or a bundle file.
    Raises:
        UsageError: a path does not exist, or there is no picture at all.
    """
    pictures, listen = pictures_in(paths), listen or silent
    if not pictures:
        raise UsageError(
            f"{', '.join(map(str, paths))}: no picture below; expected {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    said = []
    for prediction in Classifier.load(model).stream(pictures, top_k):
        said.append(prediction)
        listen(Progressed("predicting", len(said), len(pictures)))
    return said


def pictures_in(paths: Sequence[Path]) -> list[Path]:
    """Files as they are; folders replaced by the pictures below them, sorted; links are not followed."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            found += [p for p in below if p.is_file() and not p.is_symlink()]
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    return found
