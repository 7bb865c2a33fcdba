"""Intervals against scipy's, the bootstrap against drawing images one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from facewright.errors import Undefined, UsageError
from facewright.files import as_record
from facewright.metrics import intervals
from facewright.metrics.classification import macro_f1, macro_recall
from facewright.metrics.intervals import (
    Rate,
    Tally,
    bootstraps,
    clopper_pearson,
    mcnemar_exact,
    paired_bootstrap,
    tally,
    wilson,
)

shares = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None, max_examples=80)
@given(share=shares, confidence=st.sampled_from([0.8, 0.95, 0.999]))
@pytest.mark.parametrize(("ours", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
def test_intervals_equal_those_of_scipy(ours, method, share, confidence) -> None:
    k, n = share
    rate, expected = ours(k, n, confidence), binomtest(k, n).proportion_ci(confidence, method)
    assert (rate.value, rate.n) == (k / n, n)
    assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


@pytest.mark.parametrize("ours", [wilson, clopper_pearson])
@pytest.mark.parametrize(
    ("k", "n", "confidence", "error"),
    [
        (0, 0, 0.95, Undefined),  # no cases: no share
        (-1, 5, 0.95, UsageError),
        (6, 5, 0.95, UsageError),  # more hits than cases
        (1, 5, 1.0, UsageError),  # certainty has no interval
    ],
)
def test_shares_that_are_none(ours, k, n, confidence, error) -> None:
    with pytest.raises(error):
        ours(k, n, confidence)


def test_no_error_of_3000_still_means_up_to_0_00123() -> None:
    assert clopper_pearson(0, 3000).high == pytest.approx(0.00123, abs=5e-6)


def test_a_rate_survives_a_round_trip() -> None:
    rate = wilson(7, 9)
    assert as_record(rate.to_dict(), Rate, "a test", error=UsageError) == rate


@settings(deadline=None, max_examples=80)
@given(only_a=st.integers(0, 60), only_b=st.integers(0, 60), both=st.integers(0, 5))
def test_mcnemar_equals_the_binomial_test_on_discordant_pairs(only_a, only_b, both) -> None:
    a = [True] * only_a + [False] * only_b + [True] * both + [False] * both
    b = [False] * only_a + [True] * only_b + [True] * both + [False] * both
    n = only_a + only_b
    expected = binomtest(only_a, n, 0.5).pvalue if n else 1.0
    assert mcnemar_exact(a, b) == pytest.approx(expected, abs=1e-12)


# Each row: right by a, right by b -> p. Worked by hand: 2 * sum of binomials / 2^n, at most 1.
@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([1, 1, 1, 0], [1, 1, 1, 0], 1.0),  # never disagree
        ([], [], 1.0),  # no images: nothing speaks against equality
        ([1, 1, 1, 1, 1], [0, 0, 0, 0, 0], 0.0625),  # 2 / 32
        ([1, 1, 1, 0], [0, 0, 0, 1], 0.625),  # 2 (1 + 4) / 16
        ([1, 0], [0, 1], 1.0),  # an even split
    ],
)
def test_mcnemar_by_hand(a, b, p) -> None:
    assert mcnemar_exact(a, b) == p
    assert mcnemar_exact(b, a) == p


def test_mcnemar_refuses_different_numbers_of_images() -> None:
    with pytest.raises(UsageError, match=r"\(2,\) and \(3,\)"):
        mcnemar_exact([1, 0], [1, 0, 1])


def test_tally_refuses_what_is_no_class() -> None:
    with pytest.raises(UsageError, match=r"predicted: expected class numbers in \[0, 2\)"):
        tally([0, 1], [0, 2], classes=2)
    with pytest.raises(UsageError, match="whole numbers"):
        tally([0.0, 1.0], [0, 1], classes=2)


def drawn_one_by_one(statistic, labels, guesses, classes, resamples) -> np.ndarray:
    """The plain way: draw images with replacement within each class, count, again and again."""
    generator = np.random.default_rng(1)
    values = []
    for _ in range(resamples):
        drawn = [
            generator.choice(members, members.size) for members in (np.flatnonzero(labels == c) for c in range(classes))
        ]
        rows = np.concatenate(drawn)
        values.append([float(statistic(tally(labels[rows], guess[rows], classes))) for guess in guesses])
    return np.array(values)


@pytest.fixture(scope="module")
def two_models():
    generator = np.random.default_rng(0)
    labels = np.sort(generator.integers(0, 4, 120))
    a = np.where(generator.random(120) < 0.8, labels, generator.integers(0, 4, 120))
    b = np.where(generator.random(120) < 0.6, labels, a)  # mistakes are shared
    return labels, a, b


def test_the_bootstrap_is_that_of_drawing_images(two_models) -> None:
    labels, a, b = two_models
    plain = drawn_one_by_one(macro_f1, labels, (a, b), 4, resamples=3000)
    one = bootstraps((macro_f1,), labels, a, 4, resamples=20_000)[0]
    both = paired_bootstrap(macro_f1, labels, (a, b), 4, resamples=20_000)
    # Two Monte Carlo runs: percentiles of 3,000 draws are good to about 0.005 here.
    assert (one.low, one.high) == pytest.approx(np.percentile(plain[:, 0], [2.5, 97.5]), abs=0.012)
    assert (both.low, both.high) == pytest.approx(np.percentile(plain[:, 0] - plain[:, 1], [2.5, 97.5]), abs=0.012)
    assert one.value == float(macro_f1(tally(labels, a, 4)))
    assert both.value == one.value - float(macro_f1(tally(labels, b, 4)))


def test_pairing_cancels_what_both_models_find_hard(two_models) -> None:
    labels, a, b = two_models
    paired = paired_bootstrap(macro_f1, labels, (a, b), 4)
    apart = [bootstraps((macro_f1,), labels, guess, 4, seed=seed)[0] for seed, guess in enumerate((a, b))]
    unpaired = sum((rate.high - rate.low) ** 2 for rate in apart) ** 0.5
    assert paired.high - paired.low < unpaired


def test_the_bootstrap_is_a_function_of_its_seed(two_models) -> None:
    labels, a, b = two_models
    draw = [paired_bootstrap(macro_f1, labels, (a, b), 4, seed=seed) for seed in (0, 0, 1)]
    assert draw[0] == draw[1] != draw[2]


# Each row: predictions of a and of b for labels 0 0 1 1 -> difference of macro recall and its interval.
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], (0, 0, 0)),  # the same: no difference in any resample
        ([0, 0, 1, 1], [1, 1, 0, 0], (1, 1, 1)),  # always right against always wrong
        ([0, 0, 1, 1], [0, 0, 0, 0], (0.5, 0.5, 0.5)),  # strata are kept: class 1 is always half of the mean
    ],
)
def test_paired_bootstrap_by_hand(a, b, expected) -> None:
    rate = paired_bootstrap(macro_recall, [0, 0, 1, 1], (a, b), classes=2, resamples=50)
    assert (rate.value, rate.low, rate.high, rate.n) == (*expected, 4)


def singles(classes: int, images: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of so many images a class, seven of ten right, a mistake any other class."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), images)
    other = (labels + generator.integers(1, classes, labels.size)) % classes
    return labels, np.where(generator.random(labels.size) < 0.7, labels, other)


@pytest.mark.parametrize("images", [2, 4])
def test_intervals_of_classes_with_few_images_hold_the_expected_macro_f1(images) -> None:
    classes = 200
    values = [float(macro_f1(tally(*singles(classes, images, seed), classes))) for seed in range(300)]
    found = [bootstraps((macro_f1,), *singles(classes, images, seed), classes, resamples=200)[0] for seed in range(100)]
    assert np.mean([rate.low <= np.mean(values) <= rate.high for rate in found]) >= 0.85  # over images 73, 80 %


def test_an_interval_of_very_many_classes_holds_its_value() -> None:
    labels, guessed = singles(1000, 2, 0)
    kept = np.arange(2000) % 2 < (np.arange(2000) < 400)  # most classes keep no image, 200 one of theirs
    kept |= np.arange(2000) > 1400  # and 300 both
    rate = bootstraps((macro_f1,), labels[kept], guessed[kept], 1000, resamples=200)[0]
    assert rate.low < rate.value < rate.high


def test_classes_are_drawn_in_blocks_with_those_without_an_image_left_out(monkeypatch) -> None:
    labels, a = singles(60, 2, 0)
    b = np.where(np.arange(labels.size) % 5, a, labels)
    f1 = 2 * (counts := tally(labels * 3, a * 3, 180)).hits[::3] / (2 + counts.predicted[::3])
    one = bootstraps((macro_f1,), labels * 3, a * 3, 180)[0]
    error = 1.96 * f1.std() / 60**0.5
    assert (one.low, one.high) == pytest.approx((f1.mean() - error, f1.mean() + error), abs=0.006)
    paired = paired_bootstrap(macro_f1, labels, (b, a), 60)
    assert 0 < paired.low < paired.value < paired.high
    monkeypatch.setattr(intervals, "CELLS", 10_000)
    found = paired_bootstrap(macro_f1, labels, (b, a), 60)
    assert (found.low, found.high) == pytest.approx((paired.low, paired.high), abs=0.006)


def test_a_bootstrap_of_no_images_is_undefined() -> None:
    with pytest.raises(Undefined):
        bootstraps((lambda counts: counts.hits.sum(-1) * 1.0,), [], [], classes=2)[0]


def test_statistics_work_on_one_and_on_many_counts() -> None:
    one = tally([0, 0, 1], [0, 1, 1], 2)
    many = Tally(np.stack([one.hits] * 3), one.labelled, np.stack([one.predicted] * 3))
    assert macro_f1(many).tolist() == [float(macro_f1(one))] * 3
