"""Calibration by hand, and its indifference to the order of images."""

import math

import numpy as np
import pytest

from facewright.errors import DataError, EmptyScores, UsageError
from facewright.metrics.calibration import expected_calibration_error, reliability


def test_ten_images_in_two_bins_by_hand() -> None:
    confidence = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.8, 0.9, 1.0, 1.0]
    correct = [0, 0, 1, 0, 1, 1, 1, 1, 1, 0]
    low, high = reliability(confidence, correct, bins=2)
    assert (low.low, low.high, low.accuracy.n) == (0.3, 0.7, 5)
    assert (low.confidence, low.accuracy.value) == pytest.approx((0.5, 0.4))
    assert (high.low, high.high, high.accuracy.n) == (0.8, 1.0, 5)
    assert (high.confidence, high.accuracy.value) == pytest.approx((0.9, 0.8))
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(0.1)


# Each row: confidences -> images per bin, of at most three bins.
@pytest.mark.parametrize(
    ("confidence", "sizes"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [2, 2, 2]),
        ([0.5] * 6, [6]),  # equal confidences are one bin
        ([0.1, 0.5, 0.5, 0.5, 0.5, 0.6], [1, 5]),  # both boundaries fall into the run and move to its start
        ([0.1, 0.2, 0.2, 0.4, 0.5, 0.6], [1, 3, 2]),
        ([0.1, 0.2], [1, 1]),  # fewer images than bins: no empty ones
        ([0.7], [1]),
    ],
)
def test_bins_hold_equal_mass_but_never_part_equals(confidence, sizes) -> None:
    assert [row.accuracy.n for row in reliability(confidence, [1] * len(confidence), bins=3)] == sizes


def test_fifteen_bins_of_many_images_are_equally_full() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.random(1500)
    table = reliability(confidence, generator.random(1500) < confidence)
    assert [row.accuracy.n for row in table] == [100] * 15
    # Right as often as it says: what is left is the noise of 100 images a bin, about 0.04.
    assert expected_calibration_error(confidence, generator.random(1500) < confidence) < 0.06
    assert expected_calibration_error(confidence, np.zeros(1500)) == pytest.approx(confidence.mean())


def test_the_order_of_the_images_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    confidence, correct = generator.integers(0, 5, 200) / 4, generator.random(200) < 0.5
    order = generator.permutation(200)
    first, second = reliability(confidence, correct), reliability(confidence[order], correct[order])
    assert [row.accuracy for row in first] == [row.accuracy for row in second]


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [
        ([], [], EmptyScores),
        ([0.5, math.nan], [1, 1], DataError),
        ([0.5, 1.2], [1, 1], DataError),  # no probability
        ([0.5, -0.1], [1, 1], DataError),
        ([0.5], [1, 1], UsageError),
    ],
)
def test_confidences_that_are_none(confidence, correct, error) -> None:
    with pytest.raises(error):
        expected_calibration_error(confidence, correct)
