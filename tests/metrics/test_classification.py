"""Classification metrics against scikit-learn on random data with many ties, and by hand."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics import classification as metrics
from facewright.metrics.intervals import tally

seeds = st.integers(0, 2**32 - 1)


def problem(seed: int, most_classes: int = 6) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels and probabilities that tie often: built from few distinct whole numbers."""
    generator = np.random.default_rng(seed)
    classes, n = int(generator.integers(2, most_classes + 1)), int(generator.integers(1, 60))
    labels = generator.integers(0, classes, n)
    votes = generator.integers(0, 4, (n, classes)) + (np.arange(classes) == labels[:, None])
    votes[:, 0] += votes.sum(axis=1) == 0
    return labels, votes / votes.sum(axis=1, keepdims=True), classes


@settings(deadline=None, max_examples=60)
@given(seed=seeds)
def test_counts_and_rates_equal_those_of_scikit_learn(seed) -> None:
    labels, probabilities, classes = problem(seed)
    guess, names = probabilities.argmax(axis=1), np.arange(classes)
    counts = tally(labels, guess, classes)
    assert metrics.accuracy(labels, guess).value == pytest.approx(reference.accuracy_score(labels, guess))
    confusion = reference.confusion_matrix(labels, guess, labels=names)
    assert metrics.confusion_matrix(labels, guess, classes).tolist() == confusion.tolist()
    ours = [metrics.precision(counts), metrics.recall(counts), metrics.f1(counts)]
    theirs = reference.precision_recall_fscore_support(labels, guess, labels=names, zero_division=np.nan)
    for mine, expected in zip(ours, theirs[:3], strict=True):
        np.testing.assert_allclose(mine, expected)
    present = np.unique(labels)
    macro = [metrics.macro_precision(counts), metrics.macro_recall(counts), metrics.macro_f1(counts)]
    options = {"labels": present, "zero_division": 0}
    assert macro == pytest.approx(
        reference.precision_recall_fscore_support(labels, guess, average="macro", **options)[:3]
    )
    assert [metrics.weighted(values, counts) for values in ours] == pytest.approx(
        reference.precision_recall_fscore_support(labels, guess, average="weighted", **options)[:3]
    )


@settings(deadline=None, max_examples=60)
@given(seed=seeds)
def test_ranking_equals_that_of_scikit_learn(seed) -> None:
    labels, probabilities, classes = problem(seed)
    for c in range(classes):
        positive, scores = labels == c, probabilities[:, c]
        if not positive.any():
            continue
        assert metrics.average_precision(positive, scores) == pytest.approx(
            reference.average_precision_score(positive, scores)
        )
        if positive.all():
            continue
        assert metrics.roc_auc(positive, scores) == pytest.approx(reference.roc_auc_score(positive, scores))
        x, y, thresholds = reference.roc_curve(positive, scores, drop_intermediate=False)
        curve = metrics.roc_curve(positive, scores)
        np.testing.assert_allclose(np.stack([curve.x, curve.y, curve.thresholds]), np.stack([x, y, thresholds]))
        y, x, thresholds = reference.precision_recall_curve(positive, scores)
        curve = metrics.pr_curve(positive, scores)
        np.testing.assert_allclose(np.stack([curve.x, curve.y]), np.stack([x, y])[:, ::-1])
        np.testing.assert_allclose(curve.thresholds[1:], thresholds[::-1])


@settings(deadline=None, max_examples=60)
@given(seed=seeds)
def test_log_loss_equals_that_of_scikit_learn(seed) -> None:
    labels, probabilities, classes = problem(seed)  # zeros among them: both clip at the same probability
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference.log_loss(labels, probabilities, labels=np.arange(classes))
    of_truth = np.asarray(probabilities)[np.arange(len(labels)), labels]
    assert metrics.losses(of_truth).mean() == pytest.approx(expected)


@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_top_k_equals_that_of_scikit_learn_where_nothing_ties(seed) -> None:
    labels, probabilities, classes = problem(seed)
    scores = probabilities + np.random.default_rng(seed).random(probabilities.shape) * 1e-6
    for k in range(1, classes):
        if classes > 2:
            expected = reference.top_k_accuracy_score(labels, scores, k=k, labels=np.arange(classes))
            assert (metrics.ranks(labels, scores) <= k).mean() == pytest.approx(expected)


def test_ten_images_by_hand() -> None:
    # Class 0 three times right, once 1; class 1 twice right, twice 0; class 2 once right, once 1.
    labels = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    guess = [0, 0, 0, 1, 1, 1, 0, 0, 2, 1]
    counts = tally(labels, guess, 3)
    assert metrics.accuracy(labels, guess).value == 0.6
    assert metrics.confusion_matrix(labels, guess, 3).tolist() == [[3, 1, 0], [2, 2, 0], [0, 1, 1]]
    assert metrics.precision(counts).tolist() == [3 / 5, 2 / 4, 1 / 1]
    assert metrics.recall(counts).tolist() == [3 / 4, 2 / 4, 1 / 2]
    assert metrics.f1(counts).tolist() == [6 / 9, 4 / 8, 2 / 3]
    assert float(metrics.macro_f1(counts)) == pytest.approx((6 / 9 + 4 / 8 + 2 / 3) / 3)
    assert metrics.weighted(metrics.f1(counts), counts) == pytest.approx((4 * 6 / 9 + 4 * 4 / 8 + 2 * 2 / 3) / 10)


def test_ten_scores_with_ties_by_hand() -> None:
    scores = [0.9, 0.9, 0.8, 0.8, 0.8, 0.5, 0.5, 0.2, 0.2, 0.1]
    positive = [1, 0, 1, 1, 0, 1, 0, 0, 0, 0]
    curve = metrics.roc_curve(positive, scores)
    assert curve.thresholds.tolist() == [math.inf, 0.9, 0.8, 0.5, 0.2, 0.1]
    assert (curve.y * 4).tolist() == [0, 1, 3, 4, 4, 4]
    assert (curve.x * 6).tolist() == [0, 1, 2, 3, 5, 6]
    # 24 couples of a positive and a negative: 0.9 beats 5 and ties 1, each 0.8 beats 4 and ties 1, 0.5 beats 3, ties 1.
    assert metrics.roc_auc(positive, scores) == pytest.approx((5.5 + 2 * 4.5 + 3.5) / 24)
    # Steps of recall: 1/4 at precision 1/2, 2/4 at 3/5, 1/4 at 4/7.
    assert metrics.average_precision(positive, scores) == pytest.approx(1 / 4 * 1 / 2 + 2 / 4 * 3 / 5 + 1 / 4 * 4 / 7)


# Each row: true class, scores, k -> in the top k? Classes that tie with the true one stand before it.
@pytest.mark.parametrize(
    ("label", "scores", "k", "hit"),
    [
        (0, [0.5, 0.3, 0.2], 1, True),
        (0, [0.4, 0.4, 0.2], 1, False),  # a tie for the first place is no first place …
        (1, [0.4, 0.4, 0.2], 1, False),  # … whatever the order of the classes
        (0, [0.4, 0.4, 0.2], 2, True),
        (2, [0.25, 0.25, 0.25, 0.25], 3, False),  # a model that says nothing gets nothing …
        (2, [0.25, 0.25, 0.25, 0.25], 4, True),  # … until k takes them all
    ],
)
def test_top_k_counts_ties_against_the_model(label, scores, k, hit) -> None:
    assert (metrics.ranks(np.array([label]), np.array([scores])) <= k).tolist() == [hit]


# FAULTS row 18. Each row: positives, scores -> ROC-AUC, average precision (a number or what is raised).
HALVES = [0.5, 0.5, 0.5, 0.5]
FAULTS = {
    "no scores": ([], [], EmptyScores, EmptyScores),
    "negatives only": ([0, 0, 0, 0], HALVES, Undefined, Undefined),
    "positives only": ([1, 1, 1, 1], HALVES, Undefined, 1.0),
    "all tied": ([1, 0, 0, 0], HALVES, 0.5, 0.25),
    "all tied, another order": ([0, 0, 0, 1], HALVES, 0.5, 0.25),
    "one NaN": ([1, 0, 0, 0], [0.1, math.nan, 0.2, 0.3], DataError, DataError),
    "one infinite": ([1, 0, 0, 0], [0.1, math.inf, 0.2, 0.3], DataError, DataError),
    "a score is missing": ([1, 0, 0, 0], [0.1, 0.2, 0.3], UsageError, UsageError),
}


@pytest.mark.parametrize("name", FAULTS)
def test_one_class_ties_and_nan(name) -> None:
    positive, scores, auc, precision = FAULTS[name]
    for measure, expected in ((metrics.roc_auc, auc), (metrics.average_precision, precision)):
        if isinstance(expected, float):
            assert measure(positive, scores) == expected
        else:
            with pytest.raises(expected):
                measure(positive, scores)


# Each row: labels, predicted -> macro precision, recall, F1. What is undefined per class, and how the mean takes it.
@pytest.mark.parametrize(
    ("labels", "guess", "expected"),
    [
        ([0, 1], [0, 0], (0.25, 0.5, 1 / 3)),  # class 1 never predicted: precision undefined, 0 in the mean
        ([0, 0], [0, 0], (1, 1, 1)),  # class 1 has no image and nobody says it: not in the mean
        ([0, 0], [0, 1], (1, 0.5, 2 / 3)),  # class 1 has no image, is said once: costs class 0, not in the mean
        ([0, 1], [1, 0], (0, 0, 0)),
    ],
)
def test_macro_means_with_missing_classes(labels, guess, expected) -> None:
    counts = tally(labels, guess, 2)
    macro = [metrics.macro_precision(counts), metrics.macro_recall(counts), metrics.macro_f1(counts)]
    assert macro == pytest.approx(expected)


def test_undefined_rates_are_nan_per_class() -> None:
    counts = tally([0, 0], [0, 0], 2)
    for measure in (metrics.precision, metrics.recall, metrics.f1):
        values = measure(counts)
        assert values[0] == 1
        assert np.isnan(values[1])


def test_nothing_is_measured_on_no_images() -> None:
    for measure in (
        lambda: metrics.accuracy([], []),
        lambda: metrics.macro_f1(tally([], [], 3)),
        lambda: metrics.weighted(np.ones(3), tally([], [], 3)),
    ):
        with pytest.raises(Undefined):
            measure()


def test_an_impossible_answer_costs_36_nats_not_infinitely_many() -> None:
    assert metrics.losses([0.0])[0] == pytest.approx(52 * math.log(2))


def test_a_mean_of_nothing_defined_is_undefined() -> None:
    assert metrics.defined_mean([None, 0.5, 1.0]) == 0.75
    assert metrics.defined_mean([None]) is None
