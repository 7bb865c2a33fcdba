"""Errors of predicted numbers: of an image (age, yaw, quality), and of the rows of a table that `fit` read.

An error says little by itself: the one of always predicting the median stands beside it, and the error within each
range and group, which a mean hides. Of (N, K) errors e: the mean absolute error and the root mean square error are over
rows and targets, the average L2 error is the mean over rows of the Euclidean norm of a row's errors. Intervals are
percentile bootstraps over rows (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics.intervals import RESAMPLES, Rate, clopper_pearson, wilson
from facewright.records import Count, Number, Record
from facewright.specs import NumberSpec

RANGES = 6  # at most, of the table of errors by range
Array = NDArray[np.float64]
_BLOCK = 4_000_000  # resampled rows held at once


class TargetErrors(Record):
    """Errors of one target, in its units."""

    name: str
    mean_absolute_error: Rate
    root_mean_square_error: Rate
    r2: float | None


class RegressionResult(Record):
    """Errors on one part of the rows of a table; with several targets the errors pool them, each in its own units."""

    task: Literal["regression"] = "regression"
    split: str
    n: int
    mean_absolute_error: Rate
    root_mean_square_error: Rate
    average_l2_error: Rate
    r2: float | None  # mean over targets; None: undefined
    worst_absolute_error: float
    targets: tuple[TargetErrors, ...]


class FitEvaluation(RegressionResult):
    """Errors on the test part, and beside them those on the other parts and of a constant prediction."""

    validation: RegressionResult
    train: RegressionResult
    always_the_mean: RegressionResult  # on the test part, with the mean of the training rows as the prediction


class ErrorRow(Record):
    """Errors of the images of one range or group."""

    name: str
    n: int
    mean_absolute_error: Rate
    root_mean_square_error: Rate
    bias: float  # mean of predicted - true: above 0, predictions are too high


class PredictionInterval(Record):
    """Split-conformal intervals: prediction ± half_width."""

    level: Number  # the share asked for
    half_width: Number
    n: Count  # validation images that it is fitted on
    coverage: Rate | None = None  # the share that the test part shows; None: not measured


class NumberResult(Record):
    """Predictions of a number on one part of a data set, in its units."""

    frame_rows: ClassVar[str | None] = "ranges"
    task: Literal["number"] = "number"
    name: str
    split: str
    n: int  # images where it is known
    unknown: int
    mean_absolute_error: Rate
    root_mean_square_error: Rate
    r2: float | None  # None: the truth is the same in all images
    bias: float  # mean of predicted - true
    tolerance: float
    cumulative_score: Rate  # share of absolute errors up to the tolerance
    baseline: float  # the constant prediction: the median of the training part
    baseline_mean_absolute_error: Rate
    interval: PredictionInterval | None  # None: too few validation images
    ranges: tuple[ErrorRow, ...]  # of the true value
    groups: tuple[ErrorRow, ...] = ()


def measure_rows(truth: Array, predicted: Array, names: Sequence[str], split: str) -> RegressionResult:
    """Compute every error of one part of a table: (N, K) each, `names` of the targets.

    Raises:
        Undefined: no row. UsageError: shapes differ, or a value is not finite.
    """
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


def fit_interval(truth: ArrayLike, predicted: ArrayLike, level: float = 0.9) -> PredictionInterval | None:
    """Fit prediction intervals on the validation part; None: too few images for this level.

    Args:
        truth, predicted: as `measure_number`. level: in (0, 1), the share of images whose interval holds the truth.
    Raises:
        UsageError: lengths differ, a prediction is not finite, or no such level.
    >>> fit_interval([1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 3.0, 5.0], level=0.6).half_width
    0.5
    """
    true, said, _ = _known(truth, predicted)
    try:
        return PredictionInterval(level=level, half_width=conformal_half_width(said - true, level), n=len(true))
    except Undefined:
        return None


def measure_number(truth: ArrayLike, predicted: ArrayLike, spec: NumberSpec, name: str, split: str) -> NumberResult:
    """Measure predictions of a number.

    Args:
        truth: (N,) NaN where unknown: such an image has no part. predicted: (N,) finite.
        spec: with the median of the training part, the constant prediction to compare with.
        name: of the number. split: the part of the data.
    Raises:
        Undefined: the number is known of no image. UsageError: lengths differ, or a value is not finite.
    >>> result = measure_number([20.0, 30.0, 41.0], [22.0, 31.0, 33.0], NumberSpec(median=30.0), "age", "test")
    >>> result.mean_absolute_error.value.__round__(3), result.baseline_mean_absolute_error.value
    (3.667, 7.0)
    """
    assert spec.median is not None, "measured on the training part"
    true, said, unknown = _known(truth, predicted)
    if not true.size:
        raise Undefined(f"{name}: known of no image: nothing to measure")
    interval = None
    if spec.error is not None and spec.calibrated is not None:
        held = int((np.abs(said - true) <= spec.error).sum())
        coverage = clopper_pearson(held, true.size)
        interval = PredictionInterval(level=spec.level, half_width=spec.error, n=spec.calibrated, coverage=coverage)
    return NumberResult(
        name=name,
        split=split,
        n=len(true),
        unknown=unknown,
        mean_absolute_error=mean_absolute_error(true, said),
        root_mean_square_error=root_mean_square_error(true, said),
        r2=r2(true, said),
        bias=float((said - true).mean()),
        tolerance=spec.tolerance,
        cumulative_score=cumulative_score(true, said, spec.tolerance),
        baseline=spec.median,
        baseline_mean_absolute_error=mean_absolute_error(true, np.full_like(true, spec.median)),
        interval=interval,
        ranges=tuple(_row(label, true[at], said[at]) for label, at in _ranges(true)),
    )


def errors_by_group(truth: Array, predicted: Array, groups: NDArray[np.str_]) -> tuple[ErrorRow, ...]:
    """Compute the errors of each group, by name; (N,) each, all known; "" is no group."""
    return tuple(
        _row(group, truth[groups == group], predicted[groups == group]) for group in sorted({*groups.tolist()} - {""})
    )


def _row(name: str, truth: Array, predicted: Array) -> ErrorRow:
    return ErrorRow(
        name=name,
        n=len(truth),
        mean_absolute_error=mean_absolute_error(truth, predicted),
        root_mean_square_error=root_mean_square_error(truth, predicted),
        bias=float((predicted - truth).mean()),
    )


def _ranges(truth: Array) -> list[tuple[str, NDArray[np.bool_]]]:
    """Cut the true values at round numbers into at most six ranges; those without an image are left out."""
    span = float(truth.max() - truth.min())
    if span == 0:
        return [(f"{truth[0]:.6g}", np.ones(len(truth), np.bool_))]
    unit = 10.0 ** np.floor(np.log10(span / RANGES))
    for step in (unit * factor for factor in (1, 2, 5, 10, 20)):
        edges = np.arange(np.floor(truth.min() / step), np.floor(truth.max() / step) + 2) * step
        if len(edges) <= RANGES + 1:
            break
    place = np.clip(np.searchsorted(edges, truth, "right"), 1, len(edges) - 1)
    used = np.unique(place).tolist()
    return [(f"{edges[k - 1]:.6g} to {edges[k]:.6g}", place == k) for k in used]


def _known(truth: ArrayLike, predicted: ArrayLike) -> tuple[Array, Array, int]:
    """Return truth and prediction of the images where the number is known, and of how many it is not."""
    true, said = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if true.ndim != 1 or true.shape != said.shape:
        raise UsageError(f"expected one true number and one prediction an image, got {true.shape} and {said.shape}")
    if not np.isfinite(said).all() or np.isinf(true).any():
        raise UsageError("expected finite numbers and predictions; NaN only for an unknown number")
    known = ~np.isnan(true)
    return true[known], said[known], int((~known).sum())


def mean_absolute_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """Compute the mean size of the errors, over rows and targets.

    Args:
        truth, predicted: (N,) or (N, K), finite, in the targets' units.
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

    Args, Raises: as `mean_absolute_error`; tolerance: finite, at least 0, in the same units.
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

    For a new row of the same kind with at least the probability asked for, whatever the distribution of the errors.

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
