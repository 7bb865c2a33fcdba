"""The error-versus-reject curve against a loop."""

from __future__ import annotations

import numpy as np
import pytest

from facewright.errors import EmptyScores, UsageError
from facewright.evaluation.verification import error_versus_reject


def test_the_curve_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(3)
    quality = rng.integers(0, 40, (200, 2)) / 40  # with ties
    scores = quality.min(axis=1) + rng.normal(0, 0.3, 200)
    result = error_versus_reject(scores, quality, 0.3, up_to=0.5, steps=10)
    assert result.genuine == 200 and len(result.points) <= 11
    for point in result.points:
        kept = [score for score, (a, b) in zip(scores, quality, strict=True) if min(a, b) >= point.quality]
        assert point.fnmr.n == len(kept) and point.rejected == pytest.approx(1 - len(kept) / 200)
        assert point.fnmr.value == pytest.approx(sum(score < 0.3 for score in kept) / len(kept))
        assert point.rejected <= 0.5
    assert result.points[0].rejected == 0 and result.area is not None and result.area < 0.9


def test_areas_of_known_curves() -> None:
    scores = np.array([0.0] * 10 + [1.0] * 90)  # 10 % errors
    best = error_versus_reject(scores, np.column_stack([np.arange(100)] * 2), 0.5, up_to=0.2, steps=20)
    assert [point.fnmr.value for point in best.points][:11] == pytest.approx([(10 - k) / (100 - k) for k in range(11)])
    assert best.area == pytest.approx(0.25, abs=0.02)  # a triangle to 10 %, then nothing
    worst = error_versus_reject(scores, np.column_stack([-np.arange(100)] * 2), 0.5, up_to=0.2, steps=20)
    assert worst.area is not None and worst.area > 1
    same = error_versus_reject(scores, np.ones((100, 2)), 0.5)
    assert len(same.points) == 1 and same.area == 1
    assert error_versus_reject(scores, np.ones((100, 2)), -1).area is None  # no error


def test_the_poorer_image_counts() -> None:
    result = error_versus_reject([0.0, 1.0, 1.0, 1.0], [[9, 0], [8, 9], [9, 8], [7, 9]], 0.5, up_to=0.5, steps=2)
    assert result.points[1].fnmr.value == 0 and result.points[1].quality == 7


def test_bad_input_is_refused() -> None:
    with pytest.raises(EmptyScores):
        error_versus_reject([], np.zeros((0, 2)), 0.5)
    for scores, quality, up_to in (
        ([1.0], [1.0], 0.3),
        ([1.0], [[1.0, float("nan")]], 0.3),
        ([1.0], [[1.0, 1.0]], 1.0),
    ):
        with pytest.raises(UsageError):
            error_versus_reject(scores, quality, 0.5, up_to=up_to)
