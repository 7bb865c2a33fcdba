"""Logistic regression on features: the strength from held-out folds, the scaling folded into the weights."""

from __future__ import annotations

import numpy as np
import pytest

from facewright.errors import UsageError
from facewright.training.probe import fit
from facewright.training.recipe_parts import Probe

RANDOM = np.random.default_rng(0)


def clouds(classes: int, each: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    middles = RANDOM.normal(size=(classes, 6)) * 3
    labels = np.repeat(np.arange(classes), each)
    points = middles[labels] + RANDOM.normal(size=(len(labels), 6)) * noise
    return (points * np.array([1, 10, 0.1, 1, 1, 1]) + 5).astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 5])
def test_it_separates_what_can_be_separated(classes: int) -> None:
    features, labels = clouds(classes, 20, 0.3)
    found = fit(features, labels, np.arange(len(labels)), Probe(strengths=(0.01, 1.0), folds=4), seed=0)
    assert found.weight.shape == (classes, 6)
    assert ((features @ found.weight.T + found.bias).argmax(1) == labels).all()


def test_two_classes_give_the_same_odds_as_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    features, labels = clouds(2, 30, 2.0)
    found = fit(features, labels, np.arange(60), Probe(strengths=(1.0,)), seed=0)
    scaled = (features - features.mean(0, dtype=np.float64)) / features.std(0, dtype=np.float64)
    expected = LogisticRegression(C=1.0, max_iter=2000, tol=1e-4).fit(scaled, labels).decision_function(scaled)
    scores = features @ found.weight.T + found.bias
    np.testing.assert_allclose(scores[:, 1] - scores[:, 0], expected, atol=1e-4)


def test_the_strength_is_the_one_that_holds_on_other_data() -> None:
    labels = np.tile([0, 1], 40)
    noise = RANDOM.normal(size=(80, 30)).astype(np.float32)  # nothing to learn: the strongest penalty is the best
    found = fit(noise, labels, np.arange(80), Probe(strengths=(1e-4, 1.0, 100.0)), seed=0)
    assert found.strength == 1e-4
    assert found.log_losses[0] < found.log_losses[1] < found.log_losses[2]


def test_copies_never_stand_on_two_sides_of_a_fold() -> None:
    labels = np.tile([0, 1], 20)
    noise = RANDOM.normal(size=(40, 80)).astype(np.float32)
    copies, all_labels = np.tile(noise, (4, 1)), np.tile(labels, 4)
    apart = fit(copies, all_labels, np.arange(160), Probe(strengths=(1e-4, 100.0)), seed=0)
    together = fit(copies, all_labels, np.tile(np.arange(40), 4), Probe(strengths=(1e-4, 100.0)), seed=0)
    assert apart.strength == 100.0, "copies on the other side make learning by heart look right"
    assert together.strength == 1e-4


def test_one_picture_of_a_class_cannot_be_held_out() -> None:
    features, labels = clouds(3, 5, 1.0)
    keep = np.r_[0:11]  # one of the third class
    with pytest.raises(UsageError, match="two training images"):
        fit(features[keep], labels[keep], keep, Probe(strengths=(0.1, 1.0)), seed=0)
