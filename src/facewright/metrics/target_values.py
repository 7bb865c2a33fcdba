"""The values that the scores of a task stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from facewright.specs import NumberSpec, Target, TaskSpec


def sigmoid(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the probability that a logit means, of any size.

    >>> sigmoid([0.0, -1000.0]).tolist()
    [0.5, 0.0]
    """
    return np.asarray(0.5 * (1.0 + np.tanh(np.asarray(scores, np.float64) / 2)), np.float64)


def number_values(scores: NDArray[np.float64], spec: NumberSpec) -> NDArray[np.float64]:
    """Return the numbers (N,) that scores (N, K) mean, in the number's units.

    >>> from facewright.specs import NumberSpec
    >>> spec = NumberSpec(head="dex", bins=3, low=0.0, high=100.0)
    >>> number_values(np.array([[0.0, 0.0, 0.0], [0.0, 50.0, 0.0]]), spec).round(6).tolist()
    [50.0, 50.0]
    """
    low, high = spec.ends
    if spec.head == "dex":
        return np.asarray(softmax(scores) @ np.linspace(low, high, spec.bins), np.float64)
    if spec.head == "coral":
        return np.asarray(low + (scores > 0).sum(axis=1) * ((high - low) / (spec.bins - 1)), np.float64)
    return np.asarray((low + high) / 2 + scores[:, 0] * ((high - low) / 2), np.float64)


def target_values(scores: NDArray[np.float64], task: TaskSpec) -> NDArray[np.float64]:
    """Return the values (N, V) that scores (N, S) mean: probabilities, of yes or of each class, and numbers."""
    return np.concatenate([_values(scores[:, part.scores], part.target) for part in task.parts], axis=1)


def _values(scores: NDArray[np.float64], target: Target) -> NDArray[np.float64]:
    if target.kind == "attribute":
        return sigmoid(scores)
    return softmax(scores) if target.number is None else number_values(scores, target.number)[:, None]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities from scores, (B, C) -> (B, C)."""
    powers = np.asarray(logits - logits.max(axis=1, keepdims=True, initial=-np.inf), np.float64)
    np.exp(powers, out=powers)  # in place: of a million classes each array is large
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
