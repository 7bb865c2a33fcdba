"""The cost of int8 to a model with targets in place of classes, target by target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from facewright.bundle import Bundle
from facewright.data.records import Dataset
from facewright.evaluation.targets import TargetPredictions, TaskResult, measure_targets
from facewright.exportation import TargetCost
from facewright.inference import Classifier
from facewright.metrics.intervals import Rate, wilson
from facewright.metrics.target_values import target_values


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
