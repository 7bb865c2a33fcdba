"""Errors of predicted numbers: of an image (age, yaw, quality), and of the rows of a table that `fit` read.

An error says little by itself: always predicting the median of the training part is off by some amount, too. So that
baseline stands beside it, and the error within each range and group, which a mean hides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics.intervals import Rate, clopper_pearson
from facewright.metrics.regression import (
    average_l2_error,
    conformal_half_width,
    cumulative_score,
    mean_absolute_error,
    r2,
    root_mean_square_error,
)
from facewright.records import Count, Number, Record

TOLERANCE = 5.0  # of the cumulative score: years in the papers on ages
RANGES = 6  # at most, of the table of errors by range
Array = NDArray[np.float64]


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
        truth: (N,) NaN where unknown. predicted: (N,) by a model that was not trained on these images.
        level: in (0, 1), the share of images whose interval is to hold the truth.
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


def measure_number(
    truth: ArrayLike,
    predicted: ArrayLike,
    baseline: float,
    interval: PredictionInterval | None = None,
    *,
    name: str = "number",
    split: str = "test",
    tolerance: float = TOLERANCE,
    groups: Sequence[str] = (),
) -> NumberResult:
    """Measure predictions of a number.

    Args:
        truth: (N,) NaN where unknown: such an image has no part. predicted: (N,) finite.
        baseline: the constant prediction to compare with: the median of the training part.
        interval: fitted on the validation part, see `fit_interval`.
        name: of the number. split: the part of the data.
        tolerance: of the cumulative score, in the number's units.
        groups: N names, or none; "" is no group.
    Raises:
        Undefined: the number is known of no image. UsageError: lengths differ, or a value is not finite.
    >>> result = measure_number([20.0, 30.0, 41.0], [22.0, 31.0, 33.0], baseline=30.0)
    >>> result.mean_absolute_error.value.__round__(3), result.baseline_mean_absolute_error.value
    (3.667, 7.0)
    """
    true, said, known = _known(truth, predicted)
    if not true.size:
        raise Undefined(f"{name}: known of no image: nothing to measure")
    if groups and len(groups) != len(known):
        raise UsageError(f"expected a group for each of {len(known)} images, got {len(groups)}")
    held = np.abs(said - true) <= interval.half_width if interval else None
    return NumberResult(
        name=name,
        split=split,
        n=len(true),
        unknown=len(known) - len(true),
        mean_absolute_error=mean_absolute_error(true, said),
        root_mean_square_error=root_mean_square_error(true, said),
        r2=r2(true, said),
        bias=float((said - true).mean()),
        tolerance=tolerance,
        cumulative_score=cumulative_score(true, said, tolerance),
        baseline=baseline,
        baseline_mean_absolute_error=mean_absolute_error(true, np.full_like(true, baseline)),
        interval=interval
        and interval.replace(coverage=None if held is None else clopper_pearson(int(held.sum()), held.size)),
        ranges=tuple(_row(label, true[at], said[at]) for label, at in _ranges(true)),
        groups=errors_by_group(true, said, np.array(groups, np.str_)[known]) if groups else (),
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


def _known(truth: ArrayLike, predicted: ArrayLike) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return truth and prediction of the images where the number is known, and (N,) where that is."""
    true, said = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    if true.ndim != 1 or true.shape != said.shape:
        raise UsageError(f"expected one true number and one prediction an image, got {true.shape} and {said.shape}")
    if not np.isfinite(said).all() or np.isinf(true).any():
        raise UsageError("expected finite numbers and predictions; NaN only for an unknown number")
    known = ~np.isnan(true)
    return true[known], said[known], known
