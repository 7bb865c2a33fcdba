"""How far predictions are from the truth, in the units of the target, each with a 95 % interval over rows.

Of N rows with K targets, e the (N, K) errors:

    mean absolute error     mean of |e| over rows and targets
    root mean square error  square root of the mean of e² over rows and targets
    average L2 error        mean over rows of the Euclidean norm of the row's errors, |e_i|₂

With one target the average L2 error is the mean absolute error: the norm of one number is its size. With several it is
the mean distance between the predicted and the true point, and weighs targets by their units.

Intervals are percentile bootstraps over rows (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter
13): how much the number would move with other rows of the same kind, not with another seed of the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics.intervals import RESAMPLES, Rate

_BLOCK = 4_000_000  # resampled rows held at once


@dataclass(frozen=True)
class TargetRow:
    """One target alone, in its own units."""

    name: str
    mean_absolute_error: Rate
    root_mean_square_error: Rate
    r2: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> TargetRow:
        """The inverse of `to_dict`."""
        mean, root = (Rate.from_dict(facts[key]) for key in ("mean_absolute_error", "root_mean_square_error"))
        return cls(facts["name"], mean, root, facts["r2"])


@dataclass(frozen=True)
class RegressionResult:
    """Errors on one part of the points. With several targets the first three pool them, each in its own units."""

    split: str
    n: int
    mean_absolute_error: Rate
    root_mean_square_error: Rate
    average_l2_error: Rate
    r2: float | None  # mean over targets; None: undefined
    worst_absolute_error: float
    targets: tuple[TargetRow, ...]

    def to_dict(self) -> dict[str, Any]:
        facts = {"task": "regression"} | asdict(self)
        facts["targets"] = [target.to_dict() for target in self.targets]
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> RegressionResult:
        """The inverse of `to_dict`; raises UsageError where the facts are of another task or incomplete."""
        if facts.get("task") != "regression":
            raise UsageError(f"expected the facts of a regression, got task {facts.get('task')!r}")
        missing = [f.name for f in fields(cls) if f.name not in facts]
        if missing:
            raise UsageError(f"the facts of a regression lack {', '.join(missing)}: fit again")
        values = {f.name: facts[f.name] for f in fields(cls)}
        for name in ("mean_absolute_error", "root_mean_square_error", "average_l2_error"):
            values[name] = Rate.from_dict(values[name])
        values["targets"] = tuple(TargetRow.from_dict(row) for row in values["targets"])
        return cls(**values)


def mean_absolute_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """The mean size of the errors, over rows and targets.

    Args:
        truth: (N,) or (N, K), finite, in the targets' units.
        predicted: likewise.
        seed: of the bootstrap.
    Raises:
        Undefined: no row. UsageError: shapes differ, or a value is not finite.
    >>> mean_absolute_error([1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 3.0, 2.5]).value
    0.5
    """
    return _interval(np.abs(_errors(truth, predicted)).mean(axis=1), seed)


def root_mean_square_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """The square root of the mean squared error, over rows and targets; large errors weigh more.

    Args, Raises: as `mean_absolute_error`.
    >>> root_mean_square_error([0.0, 0.0], [1.0, 7.0]).value
    5.0
    """
    squared = _interval((_errors(truth, predicted) ** 2).mean(axis=1), seed)
    return Rate(squared.value**0.5, squared.low**0.5, squared.high**0.5, squared.n)


def average_l2_error(truth: ArrayLike, predicted: ArrayLike, seed: int = 0) -> Rate:
    """The mean Euclidean distance between predicted and true row; with one target, the mean absolute error.

    Args, Raises: as `mean_absolute_error`.
    >>> average_l2_error([[0.0, 0.0], [1.0, 1.0]], [[3.0, 4.0], [1.0, 1.0]]).value
    2.5
    """
    return _interval(np.linalg.norm(_errors(truth, predicted), axis=1), seed)


def r2(truth: ArrayLike, predicted: ArrayLike) -> float:
    """The share of the target's variance that is explained; the mean over targets.

    Returns:
        1 for no error, 0 for what the mean of `truth` would reach, below 0 for worse.
    Raises:
        Undefined: a target is constant, or no row. UsageError: as `mean_absolute_error`.
    >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), r2([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    (1.0, 0.0)
    """
    errors, true = _errors(truth, predicted), _matrix(truth, "truth")
    if (true == true[0]).all(axis=0).any():
        raise Undefined("the share of explained variance of a constant target is undefined")
    total = ((true - true.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.mean(1 - (errors**2).sum(axis=0) / total))


def measure(
    truth: NDArray[np.float64], predicted: NDArray[np.float64], names: Sequence[str], split: str
) -> RegressionResult:
    """Everything at once.

    Args:
        truth, predicted: (N, K) in the targets' units. names: of the targets. split: of the rows.
    Raises:
        Undefined: no row. UsageError: as `mean_absolute_error`.
    """
    rows = tuple(
        TargetRow(
            name,
            mean_absolute_error(truth[:, k], predicted[:, k]),
            root_mean_square_error(truth[:, k], predicted[:, k]),
            _r2_or_none(truth[:, k], predicted[:, k]),
        )
        for k, name in enumerate(names)
    )
    return RegressionResult(
        split=split,
        n=len(truth),
        mean_absolute_error=mean_absolute_error(truth, predicted),
        root_mean_square_error=root_mean_square_error(truth, predicted),
        average_l2_error=average_l2_error(truth, predicted),
        r2=_r2_or_none(truth, predicted),
        worst_absolute_error=float(np.abs(truth - predicted).max()),
        targets=rows,
    )


def _r2_or_none(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float | None:
    try:
        return r2(truth, predicted)
    except Undefined:
        return None


def _interval(values: NDArray[np.float64], seed: int) -> Rate:
    """The mean of one value a row with its percentile bootstrap interval."""
    n, random = len(values), np.random.default_rng(seed)
    block = max(1, _BLOCK // n)
    means = [
        values[random.integers(0, n, (min(block, RESAMPLES - start), n))].mean(axis=1)
        for start in range(0, RESAMPLES, block)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Rate(float(values.mean()), float(low), float(high), n)


def _errors(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """(N, K) predicted − true."""
    true, said = _matrix(truth, "truth"), _matrix(predicted, "predicted")
    if true.shape != said.shape:
        raise UsageError(f"expected one prediction a row and target, got {said.shape} for {true.shape}")
    if not true.size:
        raise Undefined("an error over no rows is undefined")
    return said - true


def _matrix(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim not in (1, 2) or not np.isfinite(array).all():
        raise UsageError(f"{name}: expected finite numbers (N,) or (N, K), got shape {array.shape}")
    return array.reshape(len(array), -1) if array.size else array.reshape(0, 1)
