"""Predicting: pictures in, names and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facewright.errors import UsageError
from facewright.images import IMAGE_SUFFIXES
from facewright.inference import Classifier, Prediction


def predict(model: Path, paths: Sequence[Path], *, top_k: int = 5) -> list[Prediction]:
    """The likeliest classes of pictures; a folder stands for every picture below it.

    Args:
        model: a run directory or a bundle file.
    Raises:
        UsageError: a path does not exist.
    """
    return Classifier.load(model).of_files(pictures_in(paths), top_k)


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
