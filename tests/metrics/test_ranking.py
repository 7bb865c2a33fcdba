"""Intervals of AUC and average precision: loops, how often they cover, what no error gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from facewright.errors import DataError, FacewrightError, Undefined
from facewright.metrics.classification import average_precision_rate, roc_auc_rate

RANDOM = np.random.default_rng(3)


def _drawn(positives: int, negatives: int) -> tuple[np.ndarray, np.ndarray]:
    truth = np.r_[np.ones(positives, bool), np.zeros(negatives, bool)]
    return truth, RANDOM.normal(size=len(truth)) + 1.0 * truth


def test_the_variance_is_that_of_delong_computed_in_loops() -> None:
    truth, scores = _drawn(9, 14)
    scores = scores.round(1)  # ties
    genuine, impostor = scores[truth], scores[~truth]
    order = [[1.0 if g > i else 0.5 if g == i else 0.0 for i in impostor] for g in genuine]
    area = sum(map(sum, order)) / (9 * 14)
    rows = [sum(row) / 14 for row in order]
    columns = [sum(row[k] for row in order) / 9 for k in range(14)]
    variance = sum((v - area) ** 2 for v in rows) / 8 / 9 + sum((v - area) ** 2 for v in columns) / 13 / 14
    rate = roc_auc_rate(truth, scores)
    assert rate.value == pytest.approx(area)
    half = 1.959964 * math.sqrt(variance) / (area * (1 - area))
    assert math.log(rate.high / (1 - rate.high)) == pytest.approx(math.log(area / (1 - area)) + half, rel=1e-5)


@pytest.mark.parametrize("measure", [roc_auc_rate, average_precision_rate])
def test_the_interval_covers_about_as_often_as_it_says(measure: object) -> None:
    large = _drawn(6_000, 18_000)
    true, covered = measure(*large).value, 0  # type: ignore[operator]
    for _ in range(200):
        rate = measure(*_drawn(40, 120))  # type: ignore[operator]
        covered += rate.low <= true <= rate.high
    assert 0.90 <= covered / 200 <= 0.99


def test_without_an_error_the_interval_still_has_a_width() -> None:
    rate = roc_auc_rate([True, True, True, False, False], [5, 4, 3, 2, 1])
    assert (rate.value, rate.high, rate.n) == (1.0, 1.0, 5)
    assert rate.low == pytest.approx(0.025**0.5)  # Clopper and Pearson, 2 of 2
    assert average_precision_rate([True, False], [1, 0]).low == pytest.approx(0.025)
    one = roc_auc_rate([True, False, False], [0.5, 0.1, 0.9])
    assert one.low < 0.1 and one.high > 0.9


@pytest.mark.parametrize(
    ("truth", "scores", "error"),
    [([True], [1.0], Undefined), ([], [], Undefined), ([True, False], [1, np.nan], DataError)],
)
def test_refusals(truth: list[bool], scores: list[float], error: type[FacewrightError]) -> None:
    with pytest.raises(error):
        roc_auc_rate(truth, scores)
