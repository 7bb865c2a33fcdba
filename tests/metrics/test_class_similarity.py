"""Images unlike their class: medians against a loop, copies left out, planted images of other people found."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from facewright.errors import Undefined, UsageError
from facewright.metrics.label_issues import CHANCE, class_similarity, find_outliers


def people(sizes: list[int], seed: int, spread: float = 0.6) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Embeddings around a direction for each person."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(len(sizes), 32))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    points = middles[labels] + spread * random.normal(size=(len(labels), 32))
    return points.astype(np.float32), labels


def test_it_agrees_with_an_explicit_loop() -> None:
    embeddings, labels = people([4, 3, 2], seed=1)
    groups = ["a", "a", "b", "c", "d", "a", "e", "f", "g"]  # rows 0, 1 and 5 are copies
    found = class_similarity(embeddings, labels, groups, classes=4)
    for row, number in product(range(9), range(4)):
        others = [other for other in range(9) if labels[other] == number and groups[other] != groups[row]]
        cosines = [
            float(embeddings[row] @ embeddings[o])
            / float(np.linalg.norm(embeddings[row]) * np.linalg.norm(embeddings[o]))
            for o in others
        ]
        expected = np.median(cosines) if cosines else np.nan
        assert found[row, number] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(found[:, 3]).all()


def test_planted_images_of_other_people_are_found_and_where_they_belong() -> None:
    embeddings, labels = people([30, 30, 30, 30], seed=0)
    given = labels.copy()
    given[[5, 40, 100]] = [2, 0, 1]
    similarity = class_similarity(embeddings, given, [str(row) for row in range(120)], classes=4)
    found = find_outliers(similarity, given)
    assert set(found.rows.tolist()) == {5, 40, 100}
    assert {row: int(near) for row, near in zip(found.rows.tolist(), found.nearest, strict=True)} == {
        5: 0,
        40: 1,
        100: 3,
    }
    assert (np.diff(found.similarity) >= 0).all()
    right = np.setdiff1d(np.arange(120), [5, 40, 100])
    nonmated = [similarity[row, other] for row in right for other in range(4) if other != given[row]]
    assert np.mean(np.array(nonmated) >= found.threshold) == pytest.approx(CHANCE, abs=1 / len(nonmated))


def test_of_clean_labels_next_to_nothing_is_named() -> None:
    embeddings, labels = people([40, 40, 40], seed=2)
    found = find_outliers(class_similarity(embeddings, labels, [str(row) for row in range(120)], 3), labels)
    assert len(found.rows) <= 1


def test_a_copy_does_not_hide_an_outlier() -> None:
    embeddings, labels = people([40, 40, 40], seed=3)
    embeddings[0:12] = embeddings[50]  # twelve copies of another person's photo, filed under the first
    groups = ["copy"] * 12 + [str(row) for row in range(12, 120)]
    found = find_outliers(class_similarity(embeddings, labels, groups, 3), labels)
    assert set(range(12)) <= set(found.rows.tolist())


def test_an_image_alone_in_its_class_is_not_evaluated() -> None:
    embeddings, labels = people([30, 30, 1], seed=4)
    found = find_outliers(class_similarity(embeddings, labels, [str(row) for row in range(61)], 3), labels)
    assert 60 not in found.rows


def test_features_that_do_not_separate_the_classes() -> None:
    embeddings, labels = people([40, 40, 40], seed=5, spread=1e6)
    with pytest.raises(Undefined, match="of 120 images"):
        find_outliers(class_similarity(embeddings, labels, [str(row) for row in range(120)], 3), labels)


def test_too_few_nonmated_scores() -> None:
    embeddings, labels = people([10, 10], seed=6)
    with pytest.raises(Undefined, match="20 non-mated scores"):
        find_outliers(class_similarity(embeddings, labels, [str(row) for row in range(20)], 2), labels)


@pytest.mark.parametrize(
    ("labels", "groups", "words"),
    [
        (np.array([0]), ["a", "b"], "do not fit"),
        (np.array([0, 1]), ["a"], "do not fit"),
        (np.array([0, 2]), ["a", "b"], "labels from 0 to 1"),
        (np.array([-1, 0]), ["a", "b"], "got -1"),
    ],
)
def test_refusals(labels: NDArray[np.int64], groups: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        class_similarity(np.eye(2, dtype=np.float32), labels, groups, classes=2)
