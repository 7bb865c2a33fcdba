"""Judging a run: its best weights on the test part, or on other data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import bundle as bundles
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.errors import OtherClasses, Undefined, UsageError
from facewright.evaluation import protocols, two_classes
from facewright.evaluation.results import ClassificationResult, Predictions
from facewright.events import EventHandler, Message, Progress, ignore_event
from facewright.files import write_json
from facewright.inference import Classifier
from facewright.metrics import binary_threshold
from facewright.metrics.binary import asked_far
from facewright.metrics.verification import allowed_impostors
from facewright.runs import Run, read_predictions, write_predictions
from facewright.training.recipe import Recipe
from facewright.workflows.prepared_data import Material

VALIDATION = "validation_predictions.csv"  # of two classes: what the threshold is chosen on
BLOCK = 256  # rows between two reports of progress


def check_judgeable(material: Material, recipe: Recipe) -> None:
    """Refuse, before anything is trained, what could not be judged afterwards.

    Raises:
        UsageError: the recipe chooses by HTER and there are not two classes.
        Undefined: the validation part has too few pictures of the first class for the rule's false-accept rate.
    """
    classes, rule = material.store.dataset.classes, recipe.threshold.rule
    if recipe.selection.metric == "hter" and len(classes) != 2:
        raise UsageError(f"selection.metric = hter wants two classes, the data has {len(classes)}; choose loss")
    if len(classes) == 2 and rule.startswith("far="):
        negatives = int((material.store.dataset.labels[material.split.validation] == 0).sum())
        allowed_impostors(asked_far(rule), negatives)


def measure(folder: Path, material: Material, recipe: Recipe, on_event: EventHandler) -> ClassificationResult:
    """Judge the best weights on the test part; writes predictions.csv and evaluation.json.

    Of two classes also as a yes or no: the threshold is chosen on the validation part, whose predictions are kept in
    validation_predictions.csv, and travels with the weights in model.safetensors.
    """
    classifier = Classifier.load(folder)
    predictions = predictions_of(classifier, material.store, material.split.test, on_event)
    result = protocols.classify(predictions, classifier.classes, "test")
    if len(classifier.classes) == 2:
        validation = predictions_of(classifier, material.store, material.split.validation, on_event)
        write_predictions(folder / VALIDATION, validation, classifier.classes)
        try:
            _keep_threshold(folder, validation, recipe.threshold.rule, material.store.dataset.name)
        except Undefined as error:  # the weights are as good without a threshold
            on_event(Message(f"not judged as a yes or no: {error}"))
        binary = two_classes.judge(validation, predictions, classifier.classes, recipe.threshold.rule)
        result = dataclasses.replace(result, binary=binary)
    write_predictions(folder / "predictions.csv", predictions, classifier.classes)
    write_json(folder / "evaluation.json", result.to_dict())
    return result


def _keep_threshold(folder: Path, validation: Predictions, rule: str, dataset: str) -> None:
    """Choose the threshold between two classes and store it in the model file, in place of one that was there."""
    path = folder / "model.safetensors"
    found = bundles.load(path)
    data = f"validation part of {dataset}, {len(validation.paths):,} pictures"
    threshold = two_classes.threshold_of(validation, found.classes, rule, data)
    others = tuple(facts for facts in found.thresholds if facts.get("kind") != binary_threshold.KIND)
    kept = others if threshold is None else (*others, threshold.to_dict())
    bundles.save(path, dataclasses.replace(found, thresholds=kept))


def evaluate(folder: Path, where: str | None = None, on_event: EventHandler = ignore_event) -> ClassificationResult:
    """The test part's numbers of a run, or the numbers of a model on all of another dataset with the same classes.

    Args:
        folder: a run directory; with `where` also a bundle file or an .onnx file.
    Raises:
        OtherClasses: the other dataset has other classes. UsageError: a file, which has no test part, and no data.
    """
    if folder.is_file():
        if where is None:
            raise UsageError(f"{folder}: a model file has no test part of its own; give DATA to measure it on")
        classifier = Classifier.load(folder)
        return protocols.classify(_on_all(classifier, where, on_event), classifier.classes, where)
    run = Run(folder)
    if where is None:
        return run.evaluation
    classifier = run.classifier
    predictions = _on_all(classifier, where, on_event)
    result = protocols.classify(predictions, classifier.classes, where)
    if not (run.folder / VALIDATION).is_file():
        return result
    validation = read_predictions(run.folder / VALIDATION)
    binary = two_classes.judge(validation, predictions, classifier.classes, run.recipe.threshold.rule)
    return dataclasses.replace(result, binary=binary)


def _on_all(classifier: Classifier, where: str, on_event: EventHandler) -> Predictions:
    """What a model says of every picture of a dataset with its classes.

    Raises:
        OtherClasses: it has other ones.
    """
    store = PixelStore.open(open_dataset(where), classifier.spec, on_event=on_event)
    if store.dataset.classes != classifier.classes:
        raise OtherClasses(
            f"{where}: expected the classes the model was trained on ({', '.join(classifier.classes)}), "
            f"found {', '.join(store.dataset.classes)}"
        )
    return predictions_of(classifier, store, np.arange(len(store.dataset.records)), on_event)


def predictions_of(
    classifier: Classifier, store: PixelStore, rows: NDArray[np.int64], on_event: EventHandler
) -> Predictions:
    """What a model says of some rows of a store."""
    parts = []
    for start in range(0, len(rows), BLOCK):
        parts.append(classifier.probabilities(store.batch(rows[start : start + BLOCK])))
        on_event(Progress("testing", min(start + BLOCK, len(rows)), len(rows)))
    paths = tuple(store.dataset.records[row].path for row in rows)
    return Predictions(paths, store.dataset.labels[rows], np.concatenate(parts))
