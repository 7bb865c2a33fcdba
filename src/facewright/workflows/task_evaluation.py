"""Evaluate a network with targets in place of classes: on the test part, on other data, and in int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facewright import bundle as bundles
from facewright.bundle import Bundle
from facewright.data.records import Dataset
from facewright.data.sources import open_dataset
from facewright.data.store import PixelStore
from facewright.evaluation.targets import (
    TargetPredictions,
    TaskResult,
    attribute_thresholds,
    measure_targets,
    with_intervals,
    write_target_predictions,
)
from facewright.events import EventHandler, Message, in_blocks
from facewright.exportation.agreement import TargetCost
from facewright.faces.crops import model_advice, sample_share, with_face_crops
from facewright.files import write_json
from facewright.inference import Classifier
from facewright.metrics.calibration import target_values
from facewright.metrics.intervals import Rate, wilson
from facewright.metrics.thresholds import ATTRIBUTE
from facewright.runs import Run
from facewright.workflows.prepared_data import PreparedData


def evaluate_targets(run: Run, data: PreparedData, device: str, on_event: EventHandler) -> None:
    """Evaluate the best weights on the test part, with thresholds and intervals from the validation part.

    Writes predictions.csv, validation_predictions.csv and evaluation.json; thresholds and the prediction intervals of
    numbers go into model.safetensors.
    """
    path = run.folder / "model.safetensors"
    bundle = bundles.load(path)
    task, dataset = bundle.task, data.store.dataset
    assert task is not None
    classifier = Classifier(bundle, device)
    validation = target_predictions(classifier, data.store, data.split.validation, on_event)
    chosen_on = f"validation part of {dataset.name}, {len(validation.paths):,} images"
    thresholds, notes = attribute_thresholds(validation, task, run.recipe.threshold.rule, chosen_on)
    for note in notes:
        on_event(Message(note))
    others = (one for one in bundle.thresholds if one.purpose != ATTRIBUTE)
    task = with_intervals(validation, task)
    bundle = replace(bundle, thresholds=(*others, *thresholds), task=task)
    bundles.save(path, bundle)
    run.classifier = classifier = Classifier(bundle, device)
    run.predictions = target_predictions(classifier, data.store, data.split.test, on_event)
    run.evaluation = measure_targets(run.predictions, task, classifier.limits, "test")
    write_target_predictions(run.folder / "validation_predictions.csv", validation, task)
    write_target_predictions(run.folder / "predictions.csv", run.predictions, task)
    write_json(run.folder / "evaluation.json", run.evaluation.to_dict())


def evaluate_targets_on(
    classifier: Classifier, data: str | Path, on_event: EventHandler
) -> tuple[TaskResult, PixelStore, TargetPredictions]:
    """Evaluate a model with targets on other data, at the thresholds it holds; also return images and predictions.

    Raises:
        UnknownName: the data lack the column of a target. DataError: a value that cannot be read.
    """
    assert classifier.task is not None
    dataset = open_dataset(data, labels=False).with_task(classifier.task)
    dataset = with_face_crops(dataset, classifier.cropper)
    if (share := sample_share(dataset)) is not None:
        on_event(Message(model_advice(share)))
    store = PixelStore.open(dataset, classifier.spec, on_event=on_event)
    predictions = target_predictions(classifier, store, np.arange(len(store.dataset)), on_event)
    return measure_targets(predictions, classifier.task, classifier.limits, str(data)), store, predictions


def target_predictions(
    classifier: Classifier, store: PixelStore, rows: NDArray[np.int64], on_event: EventHandler
) -> TargetPredictions:
    """Predict the targets of some rows of a store."""
    assert classifier.task is not None
    blocks = in_blocks("testing", len(rows), on_event)
    found = [target_values(classifier.logits(store.batch(rows[part])), classifier.task) for part in blocks]
    predicted = np.concatenate([np.zeros((0, len(classifier.task.values))), *found])
    paths = tuple(store.dataset.records[row].path for row in rows)
    return TargetPredictions(paths, store.dataset.truth[rows].astype(np.float64), predicted)


def measure_target_costs(
    bundle: Bundle, data: Dataset, before: NDArray[np.float64], after: NDArray[np.float64]
) -> tuple[TargetCost, ...]:
    """Measure both models on images with known targets, at the same thresholds.

    Args:
        bundle: in float32. data: N images with its targets.
        before, after: (N, S) scores in float32 and in int8.
    Raises:
        As `measure_targets`.
    """
    task, limits = bundle.task, Classifier(bundle).limits
    assert task is not None
    first = TargetPredictions(
        tuple(one.path for one in data.records), data.truth.astype(np.float64), target_values(before, task)
    )
    second = replace(first, values=target_values(after, task))
    rates = [_rates(measure_targets(predictions, task, limits, data.name)) for predictions in (first, second)]
    costs = []
    for part in task.parts:
        name, kind = part.target.name, part.target.kind
        one, other = first.values[:, part.values], second.values[:, part.values]
        changed = None
        if kind != "number":
            answers = [rows >= limits[name] if kind == "attribute" else rows.argmax(1) for rows in (one, other)]
            changed = wilson(int((answers[0] != answers[1]).sum()), len(one))
        costs.append(
            TargetCost(
                name=name,
                measure="mean absolute error" if kind == "number" else "accuracy",
                float32=rates[0].get(name),
                int8=rates[1].get(name),
                changed=changed,
                furthest=float(np.abs(one - other).max()),
            )
        )
    return tuple(costs)


def _rates(result: TaskResult) -> dict[str, Rate | None]:
    """Return the accuracy of each target by its name, of a number its mean absolute error."""
    attributes = () if result.attributes is None else result.attributes.attributes
    found: dict[str, Rate | None] = {row.name: row.accuracy for row in attributes}
    found |= {row.name: row.mean_absolute_error for row in result.numbers}
    return found | {
        name: getattr(one, "accuracy", None) for name, one in (*result.classes.items(), *result.votes.items())
    }
