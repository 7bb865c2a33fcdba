"""The bar that an export has to pass: numbers to 1e-5, no decision changed, ties told apart from changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from facewright.exportation.agreement import ModelOutputs, StoredThresholds, compare_outputs
from facewright.inference import softmax

DRAWS = np.random.default_rng(0)
VECTORS = DRAWS.normal(size=(40, 8))
UNIT = (VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)).astype(np.float32)
SCORES = DRAWS.normal(size=(40, 3))


NORMS = np.linalg.norm(VECTORS, axis=1)


def answers(logits: np.ndarray = SCORES, vectors: np.ndarray = UNIT, norms: np.ndarray = NORMS) -> ModelOutputs:
    chances = softmax(logits)
    return ModelOutputs(vectors.astype(np.float32), norms, logits, chances, chances.max(1))


SAME = answers()


def test_the_same_answers_agree() -> None:
    found = compare_outputs(SAME, SAME, StoredThresholds(binary=(1, 0.5), unknown=(0.4,), verification=(0.3, 0.6)))
    assert (found.logits, found.probabilities, found.vectors, found.cosines) == (0, 0, 0, 0)
    assert (found.pictures, found.pairs, found.changed) == (40, 780, 0)
    assert found.decisions == 40 + 40 + 40 + 2 * 780  # classes, yes or no, strangers, pairs at two thresholds
    assert found.problem is None


def test_the_largest_difference_of_each_kind_is_told() -> None:
    moved, turned = SCORES.copy(), UNIT.copy()
    moved[7, 1] += 1e-3
    turned[3] = UNIT[3] + np.float32([2e-3, *[0] * 7])
    found = compare_outputs(SAME, answers(moved, turned), StoredThresholds())
    assert found.logits == pytest.approx(1e-3)
    assert found.probabilities == pytest.approx(np.abs(softmax(moved) - softmax(SCORES)).max())
    assert found.vectors == pytest.approx(2e-3, rel=1e-4)
    assert found.cosines == pytest.approx(2e-3 * np.abs(np.delete(UNIT[:, 0], 3)).max(), rel=1e-3)


# What is wrong -> what is said of it.
@pytest.mark.parametrize(
    ("other", "words"),
    [
        (answers(SCORES + np.float64([1e-4, 0, 0])), "probabilities by up to"),
        (answers(vectors=UNIT + np.float32(2e-5)), "vectors by up to 2e-05"),
        (answers(norms=NORMS * (1 - 2e-5)), "norms by up to 2e-05"),
        (answers(norms=NORMS * np.nan), "norms by up to nan"),  # the graph gives none
        (answers(SCORES * np.nan), "probabilities by up to nan"),  # no number is near enough
        (answers(-SCORES), "of 820 decisions change, over 40 images"),
    ],
)
def test_too_far_is_said_with_its_numbers(other: ModelOutputs, words: str) -> None:
    assert words in (compare_outputs(SAME, other, StoredThresholds()).problem or "")


def test_raw_scores_have_no_bar() -> None:
    found = compare_outputs(SAME, answers(SCORES + 100), StoredThresholds())  # the probabilities are the same
    assert found.logits == pytest.approx(100)
    assert found.problem is None


def shifted(by: float) -> tuple[ModelOutputs, ModelOutputs, float]:
    """Two models of which the second is a bit more sure of the first picture, and the first one's probability."""
    ours = np.array([[0.6, 0.4], [0.2, 0.8]])
    theirs = ours + np.array([[by, -by], [0, 0]])
    base = replace(
        SAME, vectors=UNIT[:2], norms=NORMS[:2], logits=np.log(ours), probabilities=ours, similarities=ours.max(1)
    )
    return base, replace(base, logits=np.log(theirs), probabilities=theirs, similarities=theirs.max(1)), 0.6


@pytest.mark.parametrize(
    ("line", "changed", "ties"),
    [
        (3e-6, 1, 0),  # between the two, and no tie: both are near enough, and yet the answer is another
        (0.5e-6, 0, 1),  # so near to PyTorch's own that it is a tie
        (9e-6, 0, 0),  # above both
    ],
)
def test_a_decision_between_two_near_numbers_counts_unless_it_is_a_tie(line: float, changed: int, ties: int) -> None:
    ours, theirs, at = shifted(5e-6)
    for lines in (StoredThresholds((0, at + line), (), (2.0,)), StoredThresholds(None, (at + line,), (2.0,))):
        found = compare_outputs(ours, theirs, lines)
        assert (found.changed, found.ties) == (changed, ties)
        assert found.probabilities == pytest.approx(5e-6)
        assert (found.problem is None) is (changed == 0)


def test_classes_as_likely_as_each_other_are_a_tie() -> None:
    even = np.array([[0.4, 0.4, 0.2]])
    ours = ModelOutputs(UNIT[:1], NORMS[:1], np.log(even), even, even.max(1))
    other = even + np.array([[-1e-7, 1e-7, 0]])
    found = compare_outputs(ours, replace(ours, probabilities=other), StoredThresholds())
    assert (found.decisions, found.changed, found.ties) == (1, 0, 1)


def test_pairs_are_decided_by_the_stored_threshold_or_by_one_that_few_reach() -> None:
    flipped = UNIT.copy()
    flipped[0] = -UNIT[0]
    by_stored = compare_outputs(SAME, answers(vectors=flipped), StoredThresholds(verification=(0.0,)))
    cosines = UNIT[1:].astype(np.float64) @ UNIT[0].astype(np.float64)
    assert by_stored.changed == np.count_nonzero((cosines >= 0) != (-cosines >= 0)) == 39
    assert compare_outputs(SAME, answers(vectors=flipped), StoredThresholds()).decisions == by_stored.decisions


def test_more_than_a_thousand_pictures_are_compared_with_their_neighbours() -> None:
    many = np.tile(UNIT, (28, 1))  # 1,120
    found = compare_outputs(
        ModelOutputs(many, np.ones(len(many)), None, None, None),
        ModelOutputs(many, np.ones(len(many)), None, None, None),
        StoredThresholds(verification=(2.0,)),
    )
    assert found.pairs == 1000 * 999 // 2 + 120 * 119 // 2
    assert (found.logits, found.probabilities) == (None, None)
