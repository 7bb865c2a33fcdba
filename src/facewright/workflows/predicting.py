"""Predicting: pictures in, names and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from facewright.decision import UNKNOWN, pick, stored
from facewright.errors import Undefined, UsageError
from facewright.images import IMAGE_SUFFIXES
from facewright.inference import Classifier, Prediction
from facewright.training.events import Listener, Progressed
from facewright.workflows.material import silent


def predict(
    model: Path,
    paths: Sequence[Path],
    *,
    top_k: int = 5,
    unknown_at: float | None = None,
    listen: Listener | None = None,
) -> list[Prediction]:
    """The likeliest classes of pictures; a folder stands for every picture below it.

    Args:
        model: a run directory or a bundle file.
        unknown_at: answer "unknown" where a picture is less like any class than the threshold allows that was stored
            for this rate of strangers taken for one (`calibrate_unknown`); None asks nothing of the sort.
    Raises:
        UsageError: a path does not exist, or there is no picture at all.
        Undefined: no threshold is stored for this rate.
    """
    pictures, listen = pictures_in(paths), listen or silent
    if not pictures:
        raise UsageError(
            f"{', '.join(map(str, paths))}: no picture below; expected {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    classifier = Classifier.load(model)
    least = None if unknown_at is None else _least_likeness(classifier, model, unknown_at)
    said = []
    for prediction in classifier.stream(pictures, top_k):
        unknown = None if least is None or prediction.likeness is None else prediction.likeness < least
        said.append(replace(prediction, unknown=unknown))
        listen(Progressed("predicting", len(said), len(pictures)))
    return said


def _least_likeness(classifier: Classifier, model: Path, far: float) -> float:
    """The threshold for a rate of strangers accepted."""
    decision = pick(stored(classifier.bundle, UNKNOWN, classifier.fingerprint), far)
    if decision is None:
        raise Undefined(
            f"{model}: it was never shown strangers, so it cannot tell who is unknown; choose the threshold on people "
            f"who are none of its classes: facewright calibrate {model} --unknown --strangers DATA --far {far:g}"
        )
    return decision.threshold.value


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
