"""The evaluation of a network with targets in place of classes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from facewright.errors import EmptyScores, RunError, Undefined
from facewright.evaluation.attribute_metrics import DEFAULT_THRESHOLD, AttributesResult, measure_attributes
from facewright.evaluation.number_metrics import (
    NumberResult,
    PredictionInterval,
    fit_interval,
    measure_number,
)
from facewright.files import csv_text, plain_cell, write_atomic
from facewright.metrics.binary import choose_class_threshold
from facewright.metrics.thresholds import ATTRIBUTE, Threshold
from facewright.records import Record
from facewright.specs import NumberSpec, TaskSpec


@dataclass(frozen=True)
class TargetPredictions:
    """The predictions for each image of one part; row i of every field is one image."""

    paths: tuple[str, ...]  # as in the dataset, relative to its root
    truth: NDArray[np.float64]  # (N, T), NaN unknown
    values: NDArray[np.float64]  # (N, T): of an attribute the probability of yes, of a number the prediction


class TaskResult(Record):
    """The targets of one part of a dataset."""

    task: Literal["targets"] = "targets"
    split: str
    n: int
    attributes: AttributesResult | None = None  # None: there is none among the targets
    numbers: tuple[NumberResult, ...] = ()
    seen: dict[str, int] = Field(default_factory=dict)  # images that are also in the run's "train" and "validation"


def attribute_thresholds(
    validation: TargetPredictions, task: TaskSpec, rule: str, data: str
) -> tuple[tuple[Threshold, ...], tuple[str, ...]]:
    """Choose a threshold for each attribute on the validation part.

    Args:
        rule: as `metrics.binary.choose_binary_threshold`.
        data: what the images are, for the record.
    Returns:
        The thresholds, and why the others have none.
    Raises:
        UnknownName: no such rule. DataError: a score is not finite.
    """
    chosen, notes = [], []
    for target, truth, scores in zip(task.targets, validation.truth.T, validation.values.T, strict=True):
        if target.number is not None:
            continue
        name = target.name
        try:
            found = choose_class_threshold(scores[truth == 1], scores[truth == 0], rule, (f"not {name}", name), data)
        except (EmptyScores, Undefined) as error:
            notes.append(f"no threshold for {name}, yes from {DEFAULT_THRESHOLD:g} on: {error}")
            continue
        chosen.append(found.replace(purpose=ATTRIBUTE))
    return tuple(chosen), tuple(notes)


def with_intervals(validation: TargetPredictions, task: TaskSpec) -> TaskSpec:
    """Return the task with prediction intervals of its numbers, fitted on the validation part where it suffices."""
    targets = []
    for target, truth, values in zip(task.targets, validation.truth.T, validation.values.T, strict=True):
        if target.number is not None:
            found = fit_interval(truth, values, target.number.level)
            error = {} if found is None else {"error": found.half_width, "calibrated": found.n}
            target = target.model_copy(update={"number": target.number.model_copy(update=error)})
        targets.append(target)
    return task.model_copy(update={"targets": tuple(targets)})


def measure_targets(
    predictions: TargetPredictions, task: TaskSpec, limits: Mapping[str, float], split: str
) -> TaskResult:
    """Measure the predictions of one part.

    Args:
        task: its numbers have a median.
        limits: the threshold of each attribute by its name; 0.5 where there is none.
        split: the part's name.
    Raises:
        As `measure_attributes` and `measure_number`.
    """
    chosen = [k for k, target in enumerate(task.targets) if target.number is None]
    names = [task.names[k] for k in chosen]
    thresholds = [limits.get(name, DEFAULT_THRESHOLD) for name in names]
    values, truth = predictions.values, predictions.truth
    numbers = tuple(
        _measured(target.name, target.number, truth[:, k], values[:, k], split)
        for k, target in enumerate(task.targets)
        if target.number is not None
    )
    return TaskResult(
        split=split,
        n=len(predictions.paths),
        attributes=measure_attributes(values[:, chosen], truth[:, chosen], thresholds, names, split) if names else None,
        numbers=numbers,
    )


def _measured(
    name: str, spec: NumberSpec, truth: NDArray[np.float64], values: NDArray[np.float64], split: str
) -> NumberResult:
    assert spec.median is not None, "measured on the training part"
    interval = None
    if spec.error is not None and spec.calibrated is not None:
        interval = PredictionInterval(level=spec.level, half_width=spec.error, n=spec.calibrated)
    return measure_number(truth, values, spec.median, interval, name=name, split=split, tolerance=spec.tolerance)


def write_target_predictions(path: Path, predictions: TargetPredictions, task: TaskSpec) -> None:
    """Write `path,true_<target>…,<target>…`, a row for each image; an empty cell is unknown; values keep every bit."""
    rows = (
        [name, *("" if np.isnan(one) else float(one) for one in truth), *map(float, values)]
        for name, truth, values in zip(predictions.paths, predictions.truth, predictions.values, strict=True)
    )
    write_atomic(path, csv_text(["path", *(f"true_{name}" for name in task.names), *task.names], rows))


def read_target_predictions(path: Path, task: TaskSpec) -> TargetPredictions:
    """Read back what `write_target_predictions` wrote.

    Raises:
        RunError: the file is missing or is not such a table.
    """
    known = len(task.names)
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            _, *rows = list(csv.reader(lines))
        truth = np.array([[float(cell or "nan") for cell in row[1 : 1 + known]] for row in rows], np.float64)
        values = np.array([[float(cell) for cell in row[1 + known :]] for row in rows], np.float64)
        truth, values = truth.reshape(len(rows), known), values.reshape(len(rows), known)
    except (OSError, ValueError, IndexError) as error:
        raise RunError(f"{path}: no table of predictions ({error}); evaluate the run again") from None
    return TargetPredictions(tuple(plain_cell(row[0]) for row in rows), truth, values)
