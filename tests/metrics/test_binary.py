"""HTER by hand, the widespread wrong formula beside it, thresholds by name, EPC."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facewright.errors import DataError, EmptyScores, Undefined, UnknownName, UsageError
from facewright.metrics.binary import (
    binary_errors,
    choose_binary_threshold,
    expected_performance_curve,
)
from facewright.metrics.intervals import wilson
from facewright.metrics.verification import roc, tar_at_far

POSITIVE, NEGATIVE = [0.75, 0.5, 0.5, 0.25], [0.5, 0.25, 0.0, 0.0, 0.0]
coarse = st.lists(st.integers(-4, 4).map(lambda i: i / 4), min_size=1, max_size=20)


def hter(positive, negative, threshold: float) -> float:
    return binary_errors(positive, negative, threshold).hter.value


def wrong_formula(accepted_negatives: int, rejected_positives: int, samples: int) -> float:
    """What is often written: both errors over all samples, as if the classes were of one size."""
    return accepted_negatives / samples + rejected_positives / samples


def test_each_error_is_a_share_of_its_own_class() -> None:
    """1,000 images, 10 % negatives; FAR 0.50 and FRR 0.05. The wrong formula makes a coin toss look like 95 % right."""
    negatives = [0.9] * 50 + [0.1] * 50
    positives = [0.1] * 45 + [0.9] * 855
    errors = binary_errors(positives, negatives, 0.5)
    assert (errors.far.value, errors.frr.value) == (0.5, 0.05)
    assert errors.hter.value == pytest.approx(0.275)
    assert wrong_formula(50, 45, 1000) == pytest.approx(0.095)
    assert wrong_formula(50, 45, 1000) / 2 == pytest.approx(0.0475)


# Each row: threshold -> FAR, FRR. Ties move together; 0.0 is a threshold.
@pytest.mark.parametrize(
    ("threshold", "far", "frr"),
    [(0.5, 0.2, 0.25), (0.50001, 0.0, 0.75), (0.0, 1.0, 0.0), (9.0, 0.0, 1.0), (float("inf"), 0.0, 1.0)],
)
def test_errors_by_hand(threshold, far, frr) -> None:
    errors = binary_errors(POSITIVE, NEGATIVE, threshold)
    assert (errors.far.value, errors.frr.value) == (far, frr)
    assert errors.hter.value == (far + frr) / 2
    assert errors.far == wilson(round(far * 5), 5)
    assert errors.frr == wilson(round(frr * 4), 4)
    assert errors.hter.n == 9


def test_the_interval_has_a_width_where_no_error_was_seen() -> None:
    hter = binary_errors([0.9] * 100, [0.1] * 10, 0.5).hter
    assert (hter.value, hter.low) == (0.0, 0.0)
    assert hter.high == pytest.approx(np.hypot(wilson(0, 10).high, wilson(0, 100).high) / 2)


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    far, frr, hits = 0.1, 0.03, 0
    for _ in range(1000):
        wrong, missed = generator.binomial(60, far), generator.binomial(400, frr)
        scores = np.zeros(400), np.zeros(60)
        scores[0][missed:], scores[1][:wrong] = 1.0, 1.0
        hter = binary_errors(*scores, 0.5).hter
        hits += hter.low <= (far + frr) / 2 <= hter.high
    assert 930 <= hits <= 985


# Each row: rule -> threshold. FAR and FRR at the midpoints: 0.125: 2/5, 0 | 0.375: 1/5, 1/4 | 0.625: 0, 3/4.
@pytest.mark.parametrize(
    ("rule", "threshold"),
    [("min-hter", 0.125), ("eer", 0.375), ("far=0.2", 0.5), ("far=0.5", 0.25), ("far=1", 0.0)],
)
def test_thresholds_by_name(rule, threshold) -> None:
    assert choose_binary_threshold(POSITIVE, NEGATIVE, rule) == threshold


@settings(deadline=None, max_examples=100)
@given(positive=coarse, negative=coarse)
def test_no_threshold_has_a_smaller_hter(positive, negative) -> None:
    best = hter(positive, negative, choose_binary_threshold(positive, negative, "min-hter"))
    every = [hter(positive, negative, t) for t in np.arange(-9, 10) / 8]
    assert best == pytest.approx(min(every), abs=1e-12)  # the mean of two shares, either way round


def test_a_far_target_is_that_of_verification() -> None:
    generator = np.random.default_rng(0)
    positive, negative = generator.normal(1, size=50), generator.normal(size=300)
    found = choose_binary_threshold(positive, negative, "far=0.01")
    assert found == tar_at_far(roc(positive, negative), 0.01).threshold


@pytest.mark.parametrize(
    ("rule", "error", "words"),
    [
        ("min-hterr", UnknownName, "did you mean 'min-hter'"),
        ("far", UnknownName, "far=X"),
        ("far=much", UsageError, "far=0.01"),
        ("far=0", UsageError, r"\(0, 1\]"),
        ("far=0.01", Undefined, "5 impostor pairs cannot resolve"),
    ],
)
def test_rules_that_are_refused(rule, error, words) -> None:
    with pytest.raises(error, match=words):
        choose_binary_threshold(POSITIVE, NEGATIVE, rule)


def test_negatives_that_tie_at_the_top_leave_no_threshold() -> None:
    with pytest.raises(Undefined, match="share the highest score"):
        choose_binary_threshold([0.5], [0.5] * 4, "far=0.5")


def test_expected_performance_by_hand() -> None:
    test = ([1.0, 0.375], [0.375, 0.0])
    curve = expected_performance_curve((POSITIVE, NEGATIVE), test, weights=(0.0, 0.5, 1.0))
    # Only misses count: accept all. Half and half: as min-hter. Only false accepts count: above the highest negative.
    assert curve.thresholds == (0.0, 0.125, 0.625)
    assert curve.hter == (0.5, 0.25, 0.25)


def test_the_middle_of_the_curve_is_the_least_hter() -> None:
    generator = np.random.default_rng(1)
    parts = [(generator.normal(1, size=40), generator.normal(size=90)) for _ in range(2)]
    curve = expected_performance_curve(*parts)
    middle = curve.weights.index(0.5)
    assert curve.thresholds[middle] == choose_binary_threshold(*parts[0], "min-hter")
    assert curve.hter[middle] == hter(*parts[1], curve.thresholds[middle])
    assert list(curve.thresholds) == sorted(curve.thresholds)  # the dearer a false accept, the stricter


def test_accepting_nothing_is_a_choice() -> None:
    # Every negative outscores every positive: where only false accepts count, nothing may be accepted.
    curve = expected_performance_curve(([0.0], [1.0]), ([0.0], [1.0]), weights=(1.0,))
    assert curve.thresholds[0] > 1.0
    assert curve.hter == (0.5,)


@pytest.mark.parametrize(
    ("positive", "negative", "threshold", "error"),
    [
        ([], [0.1], 0.5, EmptyScores),
        ([0.1], [], 0.5, EmptyScores),
        ([0.1], [float("nan")], 0.5, DataError),
        ([0.1], [0.1], float("nan"), UsageError),
    ],
)
def test_scores_that_are_none(positive, negative, threshold, error) -> None:
    with pytest.raises(error):
        hter(positive, negative, threshold)


def test_weights_outside_the_unit_interval() -> None:
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        expected_performance_curve((POSITIVE, NEGATIVE), (POSITIVE, NEGATIVE), weights=(1.5,))
