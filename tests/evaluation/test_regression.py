"""Errors of predictions: hand cases, loops, scikit-learn, intervals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from facewright.errors import FacewrightError, Undefined, UsageError
from facewright.evaluation import number_metrics
from facewright.evaluation.number_metrics import average_l2_error, mean_absolute_error, r2
from facewright.evaluation.number_metrics import root_mean_square_error as rmse

RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.normal(size=(40, 3))
SAID = TRUTH + RANDOM.normal(scale=0.3, size=(40, 3))


def test_against_loops() -> None:
    lengths = [sum((SAID[i, k] - TRUTH[i, k]) ** 2 for k in range(3)) ** 0.5 for i in range(40)]
    assert average_l2_error(TRUTH, SAID).value == pytest.approx(sum(lengths) / 40)
    sizes = [abs(SAID[i, k] - TRUTH[i, k]) for i in range(40) for k in range(3)]
    assert mean_absolute_error(TRUTH, SAID).value == pytest.approx(sum(sizes) / 120)


def test_against_scikit_learn() -> None:
    assert mean_absolute_error(TRUTH, SAID).value == pytest.approx(reference.mean_absolute_error(TRUTH, SAID))
    assert rmse(TRUTH, SAID).value == pytest.approx(reference.mean_squared_error(TRUTH, SAID) ** 0.5)
    assert r2(TRUTH, SAID) == pytest.approx(reference.r2_score(TRUTH, SAID))


def test_of_one_target_the_average_l2_error_is_the_mean_absolute_error() -> None:
    assert average_l2_error(TRUTH[:, 0], SAID[:, 0]) == mean_absolute_error(TRUTH[:, :1], SAID[:, :1])


@pytest.mark.parametrize("metric", [mean_absolute_error, rmse, average_l2_error])
def test_intervals(metric: object) -> None:
    rate = metric(TRUTH, SAID)  # type: ignore[operator]
    assert rate.low < rate.value < rate.high
    assert rate.n == 40
    assert rate == metric(TRUTH, SAID)  # type: ignore[operator]
    many = metric(np.tile(TRUTH, (25, 1)), np.tile(SAID, (25, 1)))  # type: ignore[operator]
    # Twenty-five times the rows: an interval a fifth as wide.
    assert (many.high - many.low) * 4 < rate.high - rate.low < (many.high - many.low) * 6.5
    perfect = metric(TRUTH, TRUTH)  # type: ignore[operator]
    assert (perfect.value, perfect.low, perfect.high) == (0, 0, 0)


def test_the_interval_covers_the_true_error_about_as_often_as_it_says() -> None:
    random, covered = np.random.default_rng(1), 0
    for _ in range(150):
        rate = mean_absolute_error(np.zeros(60), random.normal(size=60))
        covered += rate.low <= (2 / np.pi) ** 0.5 <= rate.high
    assert 0.88 <= covered / 150 <= 0.99


def test_blocks_do_not_change_what_is_resampled_into_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mean_absolute_error(TRUTH, SAID)
    monkeypatch.setattr(number_metrics, "_BLOCK", 400)  # ten resamples at once
    assert mean_absolute_error(TRUTH, SAID) == whole


@pytest.mark.parametrize(
    ("truth", "said", "error"),
    [
        ([], [], Undefined),
        ([1.0, 2.0], [1.0], UsageError),
        ([1.0, 2.0], [[1.0, 2.0]], UsageError),
        ([1.0, np.nan], [1.0, 2.0], UsageError),
        ([[[1.0]]], [[[1.0]]], UsageError),
    ],
)
def test_refusals(truth: object, said: object, error: type[FacewrightError]) -> None:
    for metric in (mean_absolute_error, rmse, average_l2_error, r2):
        with pytest.raises(error):
            metric(truth, said)  # type: ignore[arg-type]


def test_explained_variance_of_a_constant_is_undefined() -> None:
    assert r2([2.0, 2.0], [1.0, 3.0]) is None
