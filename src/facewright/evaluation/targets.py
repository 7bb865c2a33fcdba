"""The evaluation of a network with targets in place of classes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from facewright.errors import EmptyScores, RunError, Undefined, UsageError
from facewright.evaluation.classification import ClassificationResult, Predictions, classify
from facewright.evaluation.number_metrics import (
    NumberResult,
    errors_by_group,
    fit_interval,
    measure_number,
)
from facewright.evaluation.subgroups import Subgroups, rates_of_images
from facewright.evaluation.target_metrics import AttributesResult, VotesResult, measure_attributes, measure_votes
from facewright.files import csv_text, plain_cell, write_atomic
from facewright.metrics.binary import DEFAULT_THRESHOLD, choose_class_threshold
from facewright.metrics.thresholds import ATTRIBUTE, Threshold
from facewright.records import Record
from facewright.specs import TargetColumns, TaskSpec


@dataclass(frozen=True)
class TargetPredictions:
    """The predictions for each image of one part; row i of every field is one image."""

    paths: tuple[str, ...]  # as in the dataset, relative to its root
    truth: NDArray[np.float64]  # (N, T), the columns of the task's truth, NaN unknown
    values: NDArray[np.float64]  # (N, V), the columns of its values: probabilities and numbers


class TaskResult(Record):
    """The targets of one part of a dataset."""

    task: Literal["targets"] = "targets"
    split: str
    n: int
    attributes: AttributesResult | None = None  # None: there is none, or none is known
    numbers: tuple[NumberResult, ...] = ()
    classes: dict[str, ClassificationResult] = Field(default_factory=dict)  # by the target's name
    votes: dict[str, VotesResult] = Field(default_factory=dict)
    undefined: tuple[str, ...] = ()  # targets that are known of no image
    by: str | None = None  # the column of `groups` and of the numbers' groups
    groups: dict[str, Subgroups] = Field(default_factory=dict)  # by the target's name
    seen: dict[str, int] = Field(default_factory=dict)  # images that are also in the run's "train" and "validation"


def attribute_thresholds(
    validation: TargetPredictions, task: TaskSpec, rule: str, data: str
) -> tuple[tuple[Threshold, ...], tuple[str, ...]]:
    """Choose a threshold for each attribute on the validation part.

    Args: rule, data: as `metrics.binary.choose_class_threshold`.
    Returns:
        The thresholds, and why the others have none.
    Raises:
        UnknownName: no such rule. DataError: a score is not finite.
    """
    chosen, notes = [], []
    for part in task.of_kind("attribute"):
        name, truth, scores = part.target.name, validation.truth[:, part.truth.start], _values(validation, part)[:, 0]
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
    for part in task.parts:
        target, truth = part.target, validation.truth[:, part.truth.start]
        if target.number is not None:
            found = fit_interval(truth, _values(validation, part)[:, 0], target.number.level)
            error = {} if found is None else {"error": found.half_width, "calibrated": found.n}
            target = target.model_copy(update={"number": target.number.model_copy(update=error)})
        targets.append(target)
    return TaskSpec(targets=tuple(targets))


def measure_targets(
    predictions: TargetPredictions, task: TaskSpec, limits: Mapping[str, float], split: str
) -> TaskResult:
    """Measure the predictions of one part.

    Args:
        task: of the model; its numbers have a median.
        limits: the threshold of each attribute by its name; 0.5 where there is none.
    Raises:
        As `measure_attributes`, `measure_number`, `classify` and `measure_votes`.
    """
    found: dict[str, dict[str, object]] = {"number": {}, "classes": {}, "votes": {}}
    undefined = []
    attributes = _attributes(predictions, task, limits, split)
    for part in task.parts:
        target = part.target
        truth, values = predictions.truth[:, part.truth], _values(predictions, part)
        if not (~np.isnan(truth)).any():
            undefined.append(target.name)
        elif target.number is not None:
            found["number"][target.name] = measure_number(truth[:, 0], values[:, 0], target.number, target.name, split)
        elif target.kind == "classes":
            known = ~np.isnan(truth[:, 0])
            paths = tuple(path for path, kept in zip(predictions.paths, known, strict=True) if kept)
            rows = Predictions(paths, truth[known, 0].astype(np.int64), values[known])
            found["classes"][target.name] = classify(rows, target.classes, split)
        elif target.kind == "votes":
            found["votes"][target.name] = measure_votes(values, truth, target.classes, split)
    return TaskResult(
        split=split,
        n=len(predictions.paths),
        attributes=attributes,
        numbers=tuple(found["number"].values()),
        classes=found["classes"],
        votes=found["votes"],
        undefined=tuple(undefined),
    )


def _attributes(
    predictions: TargetPredictions, task: TaskSpec, limits: Mapping[str, float], split: str
) -> AttributesResult | None:
    parts = task.of_kind("attribute")
    truth = predictions.truth[:, [part.truth.start for part in parts]]
    if not parts or np.isnan(truth).all():
        return None
    names = [part.target.name for part in parts]
    values = predictions.values[:, [part.values.start for part in parts]]
    return measure_attributes(values, truth, [limits.get(name, DEFAULT_THRESHOLD) for name in names], names, split)


def _values(predictions: TargetPredictions, part: TargetColumns) -> NDArray[np.float64]:
    return predictions.values[:, part.values]


def write_target_predictions(path: Path, predictions: TargetPredictions, task: TaskSpec) -> None:
    """Write `path,true_<…>…,<…>…`, a row for each image: the truth, then the values.

    An empty cell is unknown; classes have their names; values keep every bit.
    """
    names = [target.classes if target.kind == "classes" else () for target in task.targets for _ in target.truths]
    rows = (
        [name, *(_cell(one, known) for one, known in zip(truth, names, strict=True)), *map(float, values)]
        for name, truth, values in zip(predictions.paths, predictions.truth, predictions.values, strict=True)
    )
    write_atomic(path, csv_text(["path", *(f"true_{name}" for name in task.truths), *task.values], rows))


def _cell(value: float, classes: tuple[str, ...]) -> object:
    if np.isnan(value):
        return ""
    return classes[int(value)] if classes else float(value)


def read_target_predictions(path: Path, task: TaskSpec) -> TargetPredictions:
    """Read back what `write_target_predictions` wrote.

    Raises:
        RunError: the file is missing or is not such a table.
    """
    names = [target.classes if target.kind == "classes" else () for target in task.targets for _ in target.truths]
    known, width = len(task.truths), len(task.values)
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            _, *rows = list(csv.reader(lines))
        truth = [
            [_number_of(cell, classes) for cell, classes in zip(row[1 : 1 + known], names, strict=True)] for row in rows
        ]
        values = [[float(cell) for cell in row[1 + known :]] for row in rows]
        found = np.array(truth, np.float64).reshape(len(rows), known), np.array(values).reshape(len(rows), width)
    except (OSError, ValueError, IndexError) as error:
        raise RunError(f"{path}: no table of predictions ({error}); evaluate the run again") from None
    return TargetPredictions(tuple(plain_cell(row[0]) for row in rows), *found)


def _number_of(cell: str, classes: tuple[str, ...]) -> float:
    if not cell:
        return np.nan
    return float(classes.index(plain_cell(cell))) if classes else float(cell)


def with_groups(
    result: TaskResult,
    predictions: TargetPredictions,
    task: TaskSpec,
    limits: Mapping[str, float],
    groups: Sequence[str],
    column: str,
) -> TaskResult:
    """Add what each target is worth within each group.

    Of attributes and classes the accuracy (of attributes also false yes and false no), of votes the accuracy against a
    clear majority, of numbers the errors.

    Args:
        result, limits: of these predictions, as `measure_targets`.
        groups: of each image; "" is unknown. column: their name.
    Raises:
        UsageError: no image has a group, or their number differs.
    """
    names = np.array(groups, np.str_)
    if len(names) != len(predictions.paths) or not (names != "").any():
        raise UsageError(f"{column}: expected a group for some of {len(predictions.paths)} images, got none")
    found: dict[str, Subgroups] = {}
    numbers = {number.name: number for number in result.numbers}
    for part in task.parts:
        name, truth = part.target.name, predictions.truth[:, part.truth]
        known = ~np.isnan(truth).any(axis=1)
        if name in result.undefined or not (names[known] != "").any():
            continue
        if part.target.number is not None:
            rows = errors_by_group(truth[known, 0], predictions.values[known, part.values.start], names[known])
            numbers[name] = numbers[name].replace(groups=rows)
        else:
            limit = limits.get(name, DEFAULT_THRESHOLD)
            found[name] = _rates(
                part, truth[known], predictions.values[known, part.values], limit, names[known], column
            )
    return result.replace(by=column, groups=found, numbers=tuple(numbers.values()))


def _rates(
    part: TargetColumns,
    truth: NDArray[np.float64],
    values: NDArray[np.float64],
    limit: float,
    groups: NDArray[np.str_],
    column: str,
) -> Subgroups:
    """Measure one target in each group: (n, truths) and (n, values) of the images where it is known."""
    if part.target.kind == "attribute":
        yes, scores = truth[:, 0] == 1, values[:, 0]
        chosen = f"yes to {part.target.name}, for all groups"
        return rates_of_images((scores >= limit) == yes, groups.tolist(), column, (scores, yes, limit, chosen))
    if part.target.kind == "votes":
        clear = (truth == truth.max(axis=1, keepdims=True)).sum(axis=1) == 1
        truth, values, groups = truth[clear].argmax(axis=1)[:, None], values[clear], groups[clear]
    return rates_of_images(values.argmax(axis=1) == truth[:, 0], groups.tolist(), column)
