"""Errors of predictions in the units of the targets, each with a 95 % interval over rows.

Of (N, K) errors e: the mean absolute error and the root mean square error are over rows and targets, the average L2
error is the mean over rows of the Euclidean norm of a row's errors. Intervals are percentile bootstraps over rows
(Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics.intervals import RESAMPLES, Rate, wilson

_BLOCK = 4_000_000  # resampled rows held at once


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
    return mean_with_interval(np.abs(_errors(truth, predicted)).mean(axis=1), seed)


def root_mean_square_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """Compute the root of the mean squared error; large errors weigh more. Args, Raises: as `mean_absolute_error`.

    >>> root_mean_square_error([0.0, 0.0], [1.0, 7.0]).value
    5.0
    """
    squared = mean_with_interval((_errors(truth, predicted) ** 2).mean(axis=1), seed)
    return squared.replace(value=squared.value**0.5, low=squared.low**0.5, high=squared.high**0.5)


def average_l2_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """Compute the mean distance between predicted and true row. Args, Raises: as `mean_absolute_error`.

    >>> average_l2_error([[0.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 1.0]]).value
    2.5
    """
    return mean_with_interval(np.linalg.norm(_errors(truth, predicted), axis=1), seed)


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


def cumulative_score(truth: ArrayLike, predicted: ArrayLike, tolerance: float = 5.0) -> Rate:
    """Compute the share of rows with an absolute error of at most `tolerance`, with Wilson's interval.

    Args:
        truth, predicted: (N,), finite, in the target's units.
        tolerance: finite, at least 0, in the same units.
    Raises:
        Undefined: no row. UsageError: shapes differ, or a value is not finite.
    Source: Geng, Zhou and Smith-Miles, "Automatic age estimation based on facial aging patterns", PAMI 29 (2007).
    >>> cumulative_score([20.0, 30.0, 40.0, 50.0], [25.0, 36.0, 40.0, 49.0]).value
    0.75
    """
    if not 0 <= tolerance < np.inf:
        raise UsageError(f"expected a finite tolerance of at least 0, got {tolerance}")
    errors = np.abs(_errors(truth, predicted))
    return wilson(int((errors <= tolerance).all(axis=1).sum()), len(errors))


def conformal_half_width(residuals: ArrayLike, coverage: float = 0.9) -> float:
    """Compute half the width of split-conformal prediction intervals: prediction ± this holds the truth.

    It does so for a new row of the same kind with at least the probability asked for, whatever the distribution of the
    errors, on average over the rows it is fitted on.

    Args:
        residuals: (N,) errors on rows that the model was not trained on; the sign has no effect.
        coverage: in (0, 1).
    Raises:
        Undefined: too few rows for this coverage; says how many it takes. UsageError: no coverage, or not finite.
    Source: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman, "Distribution-free predictive inference for regression",
    JASA 113 (2018), algorithm 2: the k-th smallest of the N absolute residuals, k = ceil((N + 1) coverage).
    >>> conformal_half_width([1.0, -2.0, 3.0, -4.0], coverage=0.8)
    4.0
    """
    if not 0 < coverage < 1:
        raise UsageError(f"expected a coverage in (0, 1), got {coverage}")
    sizes = np.sort(np.abs(_matrix(residuals, "residuals")[:, 0]))
    k = int(np.ceil(np.round((sizes.size + 1) * coverage, 9)))  # 9.000000000000002 is 9
    if k > sizes.size:
        least = int(np.ceil(np.round(coverage / (1 - coverage), 9)))
        raise Undefined(f"intervals that hold {100 * coverage:g} % need at least {least} rows, got {sizes.size}")
    return float(sizes[k - 1])


def mean_with_interval(values: NDArray[np.float64], seed: int = 0) -> Rate:
    """Return the mean of one value a row, (N,) with N >= 1, with its percentile bootstrap interval."""
    n, random = len(values), np.random.default_rng(seed)
    block = max(1, _BLOCK // n)
    sizes = [min(block, RESAMPLES - start) for start in range(0, RESAMPLES, block)]
    means = [values[random.integers(0, n, (size, n))].mean(axis=1) for size in sizes]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Rate(value=float(values.mean()), low=float(low), high=float(high), n=n)


def _errors(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
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
