"""Errors of predictions in the units of the targets, each with a 95 % interval over rows.

Of N rows with K targets, e the (N, K) errors:

    mean absolute error     mean of |e| over rows and targets
    root mean square error  square root of the mean of e² over rows and targets
    average L2 error        mean over rows of the Euclidean norm of the row's errors; of one target the first

Intervals are percentile bootstraps over rows (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
13): how much the number would move with other rows of the same kind, not with another seed of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics.intervals import RESAMPLES, Rate
from facewright.records import Record

_BLOCK = 4_000_000  # resampled rows held at once


class TargetErrors(Record):
    """Errors of one target, in its units."""

    name: str
    mean_absolute_error: Rate
    root_mean_square_error: Rate
    r2: float | None


class RegressionResult(Record):
    """Errors on one part of the points; with several targets the errors pool them, each in its own units."""

    task: Literal["regression"] = "regression"
    split: str
    n: int
    mean_absolute_error: Rate
    root_mean_square_error: Rate
    average_l2_error: Rate
    r2: float | None  # mean over targets; None: undefined
    worst_absolute_error: float
    targets: tuple[TargetErrors, ...]


class Evaluation(RegressionResult):
    """Errors on the test part, and beside them those on the other parts and of a constant prediction."""

    validation: RegressionResult
    train: RegressionResult
    always_the_mean: RegressionResult  # on the test part, with the mean of the training rows as the prediction


def mean_absolute_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """Compute the mean size of the errors, over rows and targets.

    Args:
        truth, predicted: (N,) or (N, K), finite, in the targets' units.
        seed: of the bootstrap.
    Raises:
        Undefined: no row. UsageError: shapes differ, or a value is not finite.
    >>> mean_absolute_error([1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 3.0, 2.5]).value
    0.5
    """
    return _interval(np.abs(_errors(truth, predicted)).mean(axis=1), seed)


def root_mean_square_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """Compute the root of the mean squared error; large errors weigh more. Args, Raises: as `mean_absolute_error`.

    >>> root_mean_square_error([0.0, 0.0], [1.0, 7.0]).value
    5.0
    """
    squared = _interval((_errors(truth, predicted) ** 2).mean(axis=1), seed)
    return squared.replace(value=squared.value**0.5, low=squared.low**0.5, high=squared.high**0.5)


def average_l2_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """Compute the mean distance between predicted and true row. Args, Raises: as `mean_absolute_error`.

    >>> average_l2_error([[0.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 1.0]]).value
    2.5
    """
    return _interval(np.linalg.norm(_errors(truth, predicted), axis=1), seed)


def r2(truth: ArrayLike, predicted: ArrayLike) -> float | None:
    """Compute the share of the target's variance that is explained, the mean over targets; None: a constant target.

    Raises: as `mean_absolute_error`.
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), r2([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    (1.0, 0.0)
    """
    errors, true = _errors(truth, predicted), _matrix(truth, "truth")
    if (true == true[0]).all(axis=0).any():
        return None
    return float(np.mean(1 - (errors**2).sum(axis=0) / ((true - true.mean(axis=0)) ** 2).sum(axis=0)))


def measure(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], names: Sequence[str], split: str
) -> RegressionResult:
    """Compute every error of one part: (N, K) each, `names` of the targets. Raises: as `mean_absolute_error`."""
    targets = [
        TargetErrors(
            name=name,
            mean_absolute_error=mean_absolute_error(truth[:, k], predicted[:, k]),
            root_mean_square_error=root_mean_square_error(truth[:, k], predicted[:, k]),
            r2=r2(truth[:, k], predicted[:, k]),
        )
        for k, name in enumerate(names)
    ]
    return RegressionResult(
        split=split,
        n=len(truth),
        mean_absolute_error=mean_absolute_error(truth, predicted),
        root_mean_square_error=root_mean_square_error(truth, predicted),
        average_l2_error=average_l2_error(truth, predicted),
        r2=r2(truth, predicted),
        worst_absolute_error=float(np.abs(truth - predicted).max()),
        targets=tuple(targets),
    )


def _interval(values: NDArray[np.float64], seed: int) -> Rate:
    """Return the mean of one value a row with its percentile bootstrap interval."""
    n, random = len(values), np.random.default_rng(seed)
    block = max(1, _BLOCK // n)
    sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    means = [values[random.integers(0, n, (size, n))].mean(axis=1) for size in sizes]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Rate(value=float(values.mean()), low=float(low), high=float(high), n=n)


def _errors(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Return predicted − true, (N, K)."""
    true, answers = _matrix(truth, "truth"), _matrix(predicted, "predicted")
    if true.shape != answers.shape:
        raise UsageError(f"expected one prediction a row and target, got {answers.shape} for {true.shape}")
    if not true.size:
        raise Undefined("an error over no rows is undefined")
    return answers - true


def _matrix(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim not in (1, 2) or not np.isfinite(array).all():
        raise UsageError(f"{name}: expected finite numbers (N,) or (N, K), got shape {array.shape}")
    return array.reshape(len(array), -1) if array.size else array.reshape(0, 1)
