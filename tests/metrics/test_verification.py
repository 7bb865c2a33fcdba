"""The exact ROC and what is read from it: against scikit-learn, by hand with ties, against plain loops."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics.verification import (
    allowed_impostors,
    auc,
    best_threshold,
    eer,
    error_rates,
    operating_points,
    probit,
    resolvable,
    roc,
    tar_at_far,
)

NAN, INF = float("nan"), float("inf")
# Ten numbers with exact ties, within a side and across: 0.5 twice genuine and once impostor, 0.2 twice impostor.
GENUINE, IMPOSTOR = [0.9, 0.7, 0.5, 0.5, 0.1], [0.6, 0.5, 0.2, 0.2, 0.0]
coarse = st.lists(st.integers(-4, 4).map(lambda i: i / 4), min_size=1, max_size=30)  # many ties


def test_ten_numbers_by_hand() -> None:
    curve = roc(GENUINE, IMPOSTOR)
    assert curve.thresholds.tolist() == [INF, 0.9, 0.7, 0.6, 0.5, 0.2, 0.1, 0.0]
    assert curve.true_accepts.tolist() == [0, 1, 2, 2, 4, 4, 5, 5]
    assert curve.false_accepts.tolist() == [0, 0, 0, 1, 2, 4, 4, 5]
    assert (curve.genuine, curve.impostors) == (5, 5)
    assert curve.frr.tolist() == [1, 0.8, 0.6, 0.6, 0.2, 0.2, 0, 0]
    # Of 25 comparisons: 0.9 and 0.7 win all 5, each 0.5 wins 3 and ties 1, 0.1 wins 1 = 10 + 7 + 1 = 18.
    assert auc(curve) == 18 / 25


@settings(deadline=None, max_examples=50)
@given(genuine=coarse, impostor=coarse)
def test_the_roc_equals_that_of_scikit_learn(genuine, impostor) -> None:
    curve = roc(genuine, impostor)
    truth = [True] * len(genuine) + [False] * len(impostor)
    far, tar, thresholds = roc_curve(truth, genuine + impostor, drop_intermediate=False)
    assert np.array_equal(curve.far, far)
    assert np.array_equal(curve.tar, tar)
    assert np.array_equal(curve.thresholds, thresholds)
    assert auc(curve) == pytest.approx(roc_auc_score(truth, genuine + impostor), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(genuine=coarse, impostor=coarse)
def test_every_row_counts_what_its_threshold_accepts(genuine, impostor) -> None:
    curve = roc(genuine, impostor)
    for threshold, far, frr in zip(curve.thresholds, curve.far, curve.frr, strict=True):
        rates = error_rates(genuine, impostor, threshold)
        assert (rates.far.value, rates.frr.value) == (far, frr)


def test_the_area_is_the_chance_to_win_ties_half() -> None:
    wins = [(g > i) + (g == i) / 2 for g in GENUINE for i in IMPOSTOR]
    assert auc(roc(GENUINE, IMPOSTOR)) == np.mean(wins)


# Each row: genuine, impostor -> equal error rate, low, high, threshold.
@pytest.mark.parametrize(
    ("genuine", "impostor", "expected"),
    [
        ([0.75, 0.5], [0.25, 0.0], (0.0, 0.0, 0.0, 0.375)),  # apart: midway in the gap
        ([0.25, 0.0], [0.75, 0.5], (1.0, 1.0, 1.0, 0.375)),  # the wrong way round
        ([0.5, 0.5], [0.5], (0.5, 0.0, 1.0, 0.5)),  # all tied: none or all, whatever the threshold
        ([1.0, 0.5, 0.0], [0.5, 0.25], (5 / 12, 1 / 3, 1 / 2, 0.375)),  # 0.5 moves together
        # FAR 0 and FRR 1/2 above 0.5, FAR 1/2 and FRR 0 below: equally close, so the higher threshold.
        ([0.75, 0.5], [0.5, 0.25], (0.25, 0.0, 0.5, 0.625)),
        (GENUINE, IMPOSTOR, (0.3, 0.2, 0.4, 0.35)),
    ],
)
def test_equal_error_rate_by_hand(genuine, impostor, expected) -> None:
    found = eer(roc(genuine, impostor))
    assert (found.value, found.low, found.high, found.threshold) == pytest.approx(expected)


@settings(deadline=None, max_examples=50)
@given(genuine=coarse, impostor=coarse)
def test_no_threshold_brings_the_two_errors_closer(genuine, impostor) -> None:
    found = eer(roc(genuine, impostor))
    gaps = []
    for threshold in [*np.arange(-9, 10) / 8, INF]:  # every midpoint between quarters, and both ends
        rates = error_rates(genuine, impostor, threshold)
        gaps.append(abs(rates.far.value - rates.frr.value))
    assert found.high - found.low == pytest.approx(min(gaps))
    assert found.value == (found.low + found.high) / 2


# Each row: target -> FAR achieved, TAR, threshold. Impostors in order: 0.6, 0.5, 0.2 twice, 0.0.
@pytest.mark.parametrize(
    ("far", "expected"),
    [
        (0.2, (0.2, 0.4, 0.6)),
        (0.39, (0.2, 0.4, 0.6)),  # nothing is interpolated
        (0.4, (0.4, 0.8, 0.5)),
        (0.6, (0.4, 0.8, 0.5)),  # the two at 0.2 only come together, and that would be 0.8
        (0.8, (0.8, 1.0, 0.1)),  # the genuine 0.1 comes free of charge
        (1.0, (1.0, 1.0, 0.0)),
    ],
)
def test_tar_at_far_by_hand(far, expected) -> None:
    point = tar_at_far(roc(GENUINE, IMPOSTOR), far)
    assert (point.far.value, point.tar.value, point.threshold) == expected
    assert (point.target, point.far.n, point.tar.n) == (far, 5, 5)
    rates = error_rates(GENUINE, IMPOSTOR, point.threshold)  # the threshold does what it says
    assert (rates.far, 1 - rates.frr.value) == (point.far, pytest.approx(point.tar.value))


def test_ties_at_the_top_leave_no_impostor_to_accept() -> None:
    point = tar_at_far(roc([0.9, 0.5], [0.5, 0.5, 0.5, 0.5]), far=0.5)
    assert (point.far.value, point.tar.value, point.threshold) == (0.0, 0.5, 0.9)
    nothing = tar_at_far(roc([0.1], [0.5, 0.5]), far=0.5)
    assert (nothing.far.value, nothing.tar.value, nothing.threshold) == (0.0, 0.0, INF)


@settings(deadline=None, max_examples=50)
@given(genuine=coarse, impostor=coarse, share=st.integers(1, 20))
def test_no_more_impostors_fit_into_the_target(genuine, impostor, share) -> None:
    far = share / 20
    if share * len(impostor) < 20:
        with pytest.raises(Undefined):
            tar_at_far(roc(genuine, impostor), far)
        return
    point = tar_at_far(roc(genuine, impostor), far)
    sets = {sum(score >= threshold for score in impostor) for threshold in {*impostor, INF}}
    best = max(accepted for accepted in sets if 20 * accepted <= share * len(impostor))
    assert round(point.far.value * len(impostor)) == best


@pytest.mark.parametrize(
    ("far", "impostors", "allowed"),
    [
        (1e-3, 1000, 1),
        (0.29, 100, 29),  # 28.999999999999996 in floating point
        (1e-3, 3999, 3),
        (1.0, 7, 7),
        (1e-6, 87_549_528, 87),
    ],
)
def test_whole_impostors(far, impostors, allowed) -> None:
    assert allowed_impostors(far, impostors) == allowed


@pytest.mark.parametrize(
    ("far", "error", "words"),
    [
        (1e-3, Undefined, "999 impostor pairs cannot resolve a false-accept rate of 0.001: it takes at least 1000"),
        (3e-4, Undefined, "at least 3334"),
        (0.0, UsageError, r"\(0, 1\]"),
        (1.5, UsageError, "1.5"),
        (NAN, UsageError, "nan"),
    ],
)
def test_targets_that_are_refused(far, error, words) -> None:
    with pytest.raises(error, match=words):
        allowed_impostors(far, 999)


def test_points_are_those_the_impostors_resolve() -> None:
    curve = roc([0.9], np.arange(100) / 100)
    assert [point.target for point in operating_points(curve)] == [0.1, 0.01]
    assert resolvable((0.1, 0.03), 33) == (0.1,)
    assert resolvable((0.1, 0.03), 34) == (0.1, 0.03)


@pytest.mark.parametrize(
    ("genuine", "impostor", "threshold"),
    [
        ([0.75, 0.5], [0.25, 0.0], 0.375),
        ([1.0, 0.5], [0.75, 0.25], 0.375),  # 3 of 4 right at 0.375 and at 0.875: the first, rising
        ([1.0, 0.5], [0.5, 0.25], 0.375),  # a tie across: 3 of 4 at 0.375 and at 0.75
        ([0.0], [1.0], 0.5),  # the only midpoint, wrong as it is
    ],
)
def test_best_threshold_by_hand(genuine, impostor, threshold) -> None:
    assert best_threshold(roc(genuine, impostor)) == threshold


@settings(deadline=None, max_examples=50)
@given(genuine=coarse, impostor=coarse)
def test_best_threshold_against_a_loop(genuine, impostor) -> None:
    scores = sorted({*genuine, *impostor})
    if len(scores) < 2:
        with pytest.raises(Undefined, match="all scores are"):
            best_threshold(roc(genuine, impostor))
        return
    midpoints = [(a + b) / 2 for a, b in pairwise(scores)]
    right = [sum(g >= t for g in genuine) + sum(i < t for i in impostor) for t in midpoints]
    assert best_threshold(roc(genuine, impostor)) == midpoints[right.index(max(right))]


def test_det_axes_are_normal_quantiles() -> None:
    curve = roc(GENUINE, IMPOSTOR)
    x, y = probit(curve.far), probit(curve.frr)
    np.testing.assert_allclose(x, norm.ppf([0, 0, 0, 0.2, 0.4, 0.8, 0.8, 1]))
    assert y[0] == INF
    assert y[-1] == -INF
    assert probit([0.025, 0.975]) == pytest.approx([-1.959964, 1.959964])


# Each row: what is wrong with the scores -> what is said.
@pytest.mark.parametrize(
    ("genuine", "impostor", "error", "words"),
    [
        ([], [0.1], EmptyScores, "no genuine scores"),
        ([0.1], [], EmptyScores, "no impostor scores"),
        ([0.1, NAN], [0.1], DataError, "nan as genuine score 1"),
        ([0.1], [-INF], DataError, "-inf as impostor score 0"),
        ([[0.1]], [0.1], UsageError, r"\(1, 1\)"),
    ],
)
def test_scores_that_are_none(genuine, impostor, error, words) -> None:
    with pytest.raises(error, match=words):
        roc(genuine, impostor)
    with pytest.raises(error, match=words):
        error_rates(genuine, impostor, 0.5)


def test_a_threshold_of_nothing_is_refused_and_one_of_zero_is_a_threshold() -> None:
    with pytest.raises(UsageError, match="nan"):
        error_rates([0.1], [0.1], NAN)
    rates = error_rates([0.0, -0.0], [-0.5], 0.0)
    assert (rates.frr.value, rates.far.value) == (0.0, 0.0)


def test_single_precision_and_negative_zero_change_nothing() -> None:
    curve = roc(np.array([0.0, 0.1], dtype=np.float32), np.array([-0.0], dtype=np.float32))
    assert curve.thresholds.tolist() == [INF, float(np.float32(0.1)), 0.0]
    assert not math.copysign(1, curve.thresholds[-1]) < 0
