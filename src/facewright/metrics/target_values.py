"""The values that the scores of a task stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.specs import NumberSpec, TaskSpec


def sigmoid(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the probability that a logit means, of any size.

    >>> sigmoid([0.0, -1000.0]).tolist()
    [0.5, 0.0]
    """
    return np.asarray(0.5 * (1.0 + np.tanh(np.asarray(scores, np.float64) / 2)), np.float64)


def number_values(scores: NDArray[np.float64], spec: NumberSpec) -> NDArray[np.float64]:
    """Return the numbers (N,) that scores (N, K) mean, in the number's units.

    >>> spec = NumberSpec(head="dex", bins=3, low=0.0, high=100.0)
    >>> number_values(np.array([[0.0, 0.0, 0.0], [0.0, 50.0, 0.0]]), spec).round(6).tolist()
    [50.0, 50.0]
    """
    low, high = spec.ends
    if spec.head == "dex":
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(shares @ np.linspace(low, high, spec.bins) / shares.sum(axis=1), np.float64)
    if spec.head == "coral":
        return np.asarray(low + (scores > 0).sum(axis=1) * ((high - low) / (spec.bins - 1)), np.float64)
    return np.asarray((low + high) / 2 + scores[:, 0] * ((high - low) / 2), np.float64)


def target_values(scores: NDArray[np.float64], task: TaskSpec) -> NDArray[np.float64]:
    """Return the values (N, T) that scores (N, S) mean: of an attribute the probability of yes."""
    return np.stack(
        [
            sigmoid(scores[:, place.start]) if target.number is None else number_values(scores[:, place], target.number)
            for target, place in zip(task.targets, task.places, strict=True)
        ],
        axis=1,
    )
