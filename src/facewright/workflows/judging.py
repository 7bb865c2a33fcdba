"""Judging a run: its best weights on the test part, or on other data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import DataError
from facewright.evaluation import protocols
from facewright.evaluation.results import ClassificationResult, Predictions
from facewright.files import write_json
from facewright.inference import Classifier
from facewright.runs import Run, write_predictions
from facewright.training.events import Listener, Progressed
from facewright.workflows.material import Material, silent

BLOCK = 256  # rows between two reports of progress


def measure(folder: Path, material: Material, listen: Listener) -> ClassificationResult:
    """Judge the best weights on the test part; writes predictions.csv and evaluation.json."""
    classifier = Classifier.load(folder)
    predictions = predictions_of(classifier, material.store, material.split.test, listen)
    result = protocols.classify(predictions, classifier.classes, "test")
    write_predictions(folder / "predictions.csv", predictions, classifier.classes)
    write_json(folder / "evaluation.json", result.to_dict())
    return result


def evaluate(folder: Path, where: str | None = None, listen: Listener | None = None) -> ClassificationResult:
    """The test part's numbers of a run, or its numbers on all of another dataset with the same classes.

    Raises:
        DataError: the other dataset has other classes.
    """
    run = Run(folder)
    if where is None:
        return run.evaluation
    classifier = run.classifier
    listen = listen or silent
    store = PixelStore.open(
        open_dataset(where), classifier.spec, progress=lambda d, t: listen(Progressed("decoding", d, t))
    )
    if store.dataset.classes != classifier.classes:
        raise DataError(
            f"{where}: expected the classes the run was trained on ({', '.join(classifier.classes)}), "
            f"found {', '.join(store.dataset.classes)}"
        )
    rows = np.arange(len(store.dataset.records))
    return protocols.classify(predictions_of(classifier, store, rows, listen), classifier.classes, where)


def predictions_of(classifier: Classifier, store: PixelStore, rows: NDArray[np.int64], listen: Listener) -> Predictions:
    """What a model says of some rows of a store."""
    parts = []
    for start in range(0, len(rows), BLOCK):
        parts.append(classifier.probabilities(store.batch(rows[start : start + BLOCK])))
        listen(Progressed("testing", min(start + BLOCK, len(rows)), len(rows)))
    paths = tuple(store.dataset.records[row].path for row in rows)
    return Predictions(paths, store.dataset.labels[rows], np.concatenate(parts))
