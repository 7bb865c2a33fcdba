"""The values that the scores of a task stand for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def sigmoid(scores: ArrayLike) -> NDArray[np.float64]:
    """Return the probability that a logit means, of any size.

    >>> sigmoid([0.0, -1000.0]).tolist()
    [0.5, 0.0]
    """
    return np.asarray(0.5 * (1.0 + np.tanh(np.asarray(scores, np.float64) / 2)), np.float64)
