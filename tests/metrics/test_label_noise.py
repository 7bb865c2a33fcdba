"""Confident learning: against an explicit loop, by hand, with ties, and on labels that were made wrong on purpose."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from facewright.errors import EmptyScores, FacewrightError, UsageError
from facewright.metrics.label_issues import confident_joint, estimated_errors, label_errors, normalised_margin


def made_up(images: int, classes: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.7), size=images)
    return probabilities, random.integers(0, classes, images).astype(np.int64)


def by_loop(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[list[float], list[list[int]]]:
    """The thresholds and the confident joint as the paper defines them, word by word."""
    classes = probabilities.shape[1]
    thresholds = []
    for j in range(classes):
        own = [probabilities[x, j] for x in range(len(labels)) if labels[x] == j]
        thresholds.append(sum(own) / len(own) if own else float("inf"))
    counts = [[0] * classes for _ in range(classes)]
    for x in range(len(labels)):
        above = [j for j in range(classes) if probabilities[x, j] >= thresholds[j]]
        if above:
            counts[labels[x]][max(above, key=lambda j: probabilities[x, j])] += 1
    return thresholds, counts


@pytest.mark.parametrize(("images", "classes"), [(60, 2), (200, 5), (150, 12)])
def test_it_agrees_with_an_explicit_loop(images: int, classes: int) -> None:
    for seed in range(5):
        probabilities, labels = made_up(images, classes, seed)
        found = confident_joint(probabilities, labels)
        thresholds, counts = by_loop(probabilities, labels)
        np.testing.assert_allclose(found.thresholds, thresholds, rtol=1e-12)
        assert found.counts.tolist() == counts
        listed = label_errors(found, probabilities, labels)
        assert len(listed.rows) == found.counts.sum() - np.trace(found.counts)
        assert (np.diff(listed.margins) >= 0).all()
        assert (listed.classes != labels[listed.rows]).all()


# Ten pictures of three classes; thresholds by hand: (.8 + .6 + .1) / 3 = .5, (.7 + .5 + .3 + .5) / 4 = .5, .4
BY_HAND = np.array(
    [
        [0.8, 0.1, 0.1],  # 0: sure
        [0.6, 0.3, 0.1],  # 0: sure
        [0.1, 0.8, 0.1],  # 0, looks like 1
        [0.2, 0.7, 0.1],  # 1: sure
        [0.5, 0.5, 0.0],  # 1: as much 0, both at their thresholds: stays
        [0.4, 0.3, 0.3],  # 1: reaches no threshold
        [0.1, 0.5, 0.4],  # 1: reaches two thresholds, its own is higher
        [0.3, 0.3, 0.4],  # 2: just at its threshold
        [0.2, 0.4, 0.4],  # 2: class 1 is as probable, but below its threshold
        [0.5, 0.1, 0.4],  # 2: both thresholds are reached, 0 is higher
    ]
)
LABELS = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])


def test_ten_pictures_by_hand() -> None:
    found = confident_joint(BY_HAND, LABELS)
    assert found.thresholds == pytest.approx([0.5, 0.5, 0.4])
    assert found.confident.tolist() == [0, 0, 1, 1, 1, -1, 1, 2, 2, 0]
    assert found.counts.tolist() == [[2, 1, 0], [0, 3, 0], [1, 0, 2]]
    listed = label_errors(found, BY_HAND, LABELS)
    assert listed.rows.tolist() == [2, 9] and listed.classes.tolist() == [1, 0]
    assert listed.margins == pytest.approx([-0.7, -0.1])
    assert estimated_errors(found, LABELS) == pytest.approx(1 / 3 * 3 + 0 + 1 / 3 * 3)


def test_equal_probabilities_reach_their_own_mean_whatever_it_is_rounded_to() -> None:
    probabilities = np.tile([0.1, 0.9], (3, 1))
    assert sum(probabilities[:, 0]) / 3 > 0.1  # what makes this a case
    found = confident_joint(probabilities, np.zeros(3, np.int64))
    assert found.confident.tolist() == [0, 0, 0]


def test_a_class_without_a_label_accuses_nobody() -> None:
    found = confident_joint(np.array([[0.1, 0.9], [0.3, 0.7]]), np.array([0, 0]))
    assert np.isinf(found.thresholds[1])
    assert found.counts.tolist() == [[1, 0], [0, 0]]
    assert estimated_errors(found, np.array([0, 0])) == 0


def test_a_shy_class_may_accuse_below_one_half() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.55, 0.45], [0.6, 0.4], [0.7, 0.3]])
    found = confident_joint(probabilities, np.array([0, 0, 0, 1, 1]))  # thresholds 0.75 and 0.35
    listed = label_errors(found, probabilities, np.array([0, 0, 0, 1, 1]))
    assert listed.rows.tolist() == [2] and listed.margins == pytest.approx([0.1])  # ranked last: its label leads


def test_wrong_labels_are_found_and_right_ones_left_alone() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(6), 50)
    logits = random.normal(size=(300, 6))
    logits[np.arange(300), truth] += 6
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong = random.permutation(300)[:24]
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + random.integers(1, 6, 24)) % 6
    joint = confident_joint(probabilities, labels)
    found = set(label_errors(joint, probabilities, labels).rows.tolist())
    assert len(found & set(wrong.tolist())) >= 18  # recall 0.75
    assert len(found & set(wrong.tolist())) / len(found) >= 0.9
    assert estimated_errors(joint, labels) == pytest.approx(24, abs=8)


@pytest.mark.parametrize(
    ("probabilities", "labels", "error", "words"),
    [
        (np.zeros((0, 2)), np.zeros(0, np.int64), EmptyScores, "no images"),
        (np.full((2, 2), 0.5), np.zeros(3, np.int64), UsageError, "a label for each row"),
        (np.ones((2, 1)), np.zeros(2, np.int64), UsageError, "two or more classes"),
        (np.full((2, 2), 0.5), np.array([0, 2]), UsageError, "labels from 0 to 1, got 0 … 2"),
        (np.full((2, 2), 0.5), np.array([-1, 0]), UsageError, "got -1"),
        (np.full((2, 2), 0.4), np.array([0, 1]), UsageError, "summing to one"),
        (np.array([[1.5, -0.5]]), np.array([0]), UsageError, "at least 0"),
        (np.array([[np.nan, 0.5]]), np.array([0]), UsageError, "summing to one"),
    ],
)
def test_refusals(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], error: type[FacewrightError], words: str
) -> None:
    for function in (confident_joint, normalised_margin):
        with pytest.raises(error, match=words):
            function(probabilities, labels)
