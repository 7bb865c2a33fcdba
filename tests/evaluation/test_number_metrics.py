"""Errors of numbers: loops, ranges, groups, the median's baseline, what the intervals hold."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from pydantic import ValidationError

from facewright.errors import FacewrightError, Undefined, UsageError
from facewright.evaluation.number_metrics import (
    NumberResult,
    RegressionResult,
    conformal_half_width,
    cumulative_score,
    errors_by_group,
    fit_interval,
    measure_number,
    measure_rows,
)
from facewright.specs import NumberSpec

RANDOM = np.random.default_rng(0)
AGES = RANDOM.uniform(3, 62, 90)
SAID = AGES + RANDOM.normal(1, 6, 90)


def measured(truth: object, said: object, median: float, **spec: object) -> NumberResult:
    return measure_number(truth, said, NumberSpec(median=median, **spec), "age", "test")  # type: ignore[arg-type]


def test_against_loops() -> None:
    result = measured(AGES, SAID, 30.0, tolerance=4)
    errors = [SAID[i] - AGES[i] for i in range(90)]
    assert result.mean_absolute_error.value == pytest.approx(sum(map(abs, errors)) / 90)
    assert result.root_mean_square_error.value == pytest.approx(math.sqrt(sum(e * e for e in errors) / 90))
    assert result.bias == pytest.approx(sum(errors) / 90)
    assert result.cumulative_score.value == sum(abs(e) <= 4 for e in errors) / 90
    assert result.baseline_mean_absolute_error.value == pytest.approx(sum(abs(30 - age) for age in AGES) / 90)


def test_ranges_are_cut_at_round_numbers_and_hold_each_image_once() -> None:
    result = measured(AGES, SAID, 30.0)
    assert [row.name for row in result.ranges] == ["0 to 20", "20 to 40", "40 to 60", "60 to 80"]
    assert sum(row.n for row in result.ranges) == 90
    young = [abs(SAID[i] - AGES[i]) for i in range(90) if AGES[i] < 20]
    assert result.ranges[0].n == len(young)
    assert result.ranges[0].mean_absolute_error.value == pytest.approx(sum(young) / len(young))
    assert [row.name for row in measured([0.0, 20.0], [0, 0], 0).ranges] == ["0 to 5", "20 to 25"]  # an edge
    assert [row.name for row in measured([-0.31, 0.02], [0, 0], 0).ranges] == ["-0.4 to -0.3", "0 to 0.1"]
    assert [row.name for row in measured([7.0, 7.0], [6, 8], 7).ranges] == ["7"]


def test_groups_and_unknown_images() -> None:
    result = measured([10, np.nan, 20, 30], [12, 99, 20, 27], 20)
    assert (result.n, result.unknown) == (3, 1)
    rows = errors_by_group(np.array([10.0, 20, 30]), np.array([12.0, 20, 27]), np.array(["b", "b", ""]))
    assert [(row.name, row.n, row.mean_absolute_error.value) for row in rows] == [("b", 2, 1.0)]


def test_intervals_hold_what_they_promise_on_average_for_any_distribution() -> None:
    random, held = np.random.default_rng(2), []
    for _ in range(400):
        interval = fit_interval(np.zeros(39), random.standard_cauchy(39), level=0.9)
        assert interval is not None
        held.append(np.mean(np.abs(random.standard_cauchy(50)) <= interval.half_width))
    result = measured(np.zeros(4), [0, 1e9, 0, 0], 0, error=interval.half_width, calibrated=interval.n)
    assert result.interval and result.interval.coverage and result.interval.coverage.value == 0.75
    assert np.mean(held) == pytest.approx(0.9, abs=0.012)  # exactly 36 / 40; the standard error is 0.003


def test_the_half_width_is_an_order_statistic() -> None:
    residuals = [(-1) ** k * float(k) for k in range(1, 20)]
    assert conformal_half_width(residuals, 0.9) == 18.0  # ceil(20 * 0.9) = 18
    assert conformal_half_width(residuals[:9], 0.9) == 9.0
    with pytest.raises(Undefined, match="at least 9"):
        conformal_half_width(residuals[:8], 0.9)
    assert fit_interval(np.arange(8.0), np.arange(8.0)) is None


def test_the_cumulative_score_counts_the_tolerance_itself() -> None:
    assert cumulative_score([0, 0, 0], [5.0, -5.0, 5.1]).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: measured([np.nan], [1.0], 0), Undefined),
        (lambda: measured([1.0], [np.nan], 0), UsageError),
        (lambda: measured([1.0], [[1.0]], 0), UsageError),
        (lambda: measured([np.inf], [1.0], 0), UsageError),
        (lambda: cumulative_score([1.0], [1.0], tolerance=-1), UsageError),
        (lambda: fit_interval([1.0], [1.0], level=1.0), UsageError),
    ],
)
def test_refusals(call: object, error: type[FacewrightError]) -> None:
    with pytest.raises(error):
        call()  # type: ignore[operator]


def test_a_result_survives_json() -> None:
    result = measured(AGES, SAID, 30.0, error=5.0, calibrated=90)
    result = result.replace(groups=errors_by_group(AGES, SAID, np.array(["a", "b"] * 45)))
    facts = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert NumberResult.model_validate(facts) == result
    assert facts["interval"]["coverage"].keys() == {"value", "low", "high", "n"}


def test_a_result_of_fit_survives_json() -> None:
    truth = RANDOM.normal(size=(40, 3))
    said = truth + RANDOM.normal(scale=0.3, size=(40, 3))
    result = measure_rows(truth, said, ["a", "b", "c"], "test")
    facts = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert facts["task"] == "regression"
    assert RegressionResult.model_validate(facts) == result
    assert [row.name for row in result.targets] == ["a", "b", "c"]
    assert result.worst_absolute_error == np.abs(truth - said).max()
    assert measure_rows(np.full((2, 1), 2.0), np.ones((2, 1)), ["z"], "test").r2 is None


@pytest.mark.parametrize("facts", [{"task": "classification"}, {"task": "regression", "n": 3}])
def test_facts_of_something_else_are_refused(facts: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RegressionResult.model_validate(facts)
