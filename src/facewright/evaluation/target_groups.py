"""The targets of a network within groups of images: accuracies, rates at one threshold for all, errors of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from facewright.errors import UsageError
from facewright.evaluation.number_metrics import errors_by_group
from facewright.evaluation.subgroups import Subgroups, rates_of_images
from facewright.evaluation.targets import TargetPredictions, TaskResult
from facewright.metrics.binary import DEFAULT_THRESHOLD
from facewright.specs.tasks import TargetColumns, TaskSpec


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
        result: of these predictions.
        limits: the threshold of each attribute by its name; 0.5 where there is none.
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
