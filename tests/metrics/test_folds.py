"""LFW View 2: the threshold of each fold comes from the others; failures stay and count."""

import math

import numpy as np
import pytest

from facewright.errors import DataError, EmptyScores, Undefined, UsageError
from facewright.metrics.people import accuracy_over_folds
from facewright.metrics.verification import best_threshold, roc

# Three folds of two pairs. The other folds' best thresholds: 0.5 for each but the last, whose own scores lie lower.
SCORES = [0.75, 0.25, 0.75, 0.25, 0.375, 0.0]
SAME = [True, False, True, False, True, False]
FOLDS = [0, 0, 1, 1, 2, 2]


def test_three_folds_by_hand() -> None:
    found = accuracy_over_folds(SCORES, SAME, FOLDS, number=3)
    # Folds 1 and 2 leave 0.375 as the lowest genuine: midway to 0.25. The third is judged at 0.5: one error.
    assert [fold.threshold for fold in found.folds] == [0.3125, 0.3125, 0.5]
    assert [(fold.number, fold.correct, fold.n) for fold in found.folds] == [(0, 2, 2), (1, 2, 2), (2, 1, 2)]
    assert found.mean == pytest.approx(5 / 6)
    assert found.std == pytest.approx(np.std([1, 1, 0.5], ddof=1))
    assert found.standard_error == pytest.approx(found.std / math.sqrt(3))
    assert found.correct.tolist() == [True, True, True, True, False, True]


def test_numbers_from_one_and_any_order_of_pairs() -> None:
    order = [5, 0, 3, 2, 4, 1]
    shuffled = accuracy_over_folds(
        [SCORES[i] for i in order], [SAME[i] for i in order], [FOLDS[i] + 1 for i in order], number=3
    )
    assert [fold.number for fold in shuffled.folds] == [1, 2, 3]
    assert shuffled.mean == pytest.approx(5 / 6)


def view2(seed: int = 0):
    generator = np.random.default_rng(seed)
    same = np.tile([True] * 30 + [False] * 30, 10)
    return generator.normal(size=600) + 2 * same, same, np.repeat(np.arange(10), 60)


def test_ten_folds_against_a_loop() -> None:
    scores, same, folds = view2()
    shares = []
    for k in range(10):
        rest = folds != k
        threshold = best_threshold(roc(scores[rest & same], scores[rest & ~same]))
        shares.append(np.mean((scores[~rest] >= threshold) == same[~rest]))
    found = accuracy_over_folds(scores, same, folds)
    assert [fold.accuracy for fold in found.folds] == shares
    assert found.mean == np.mean(shares)


def test_a_fold_has_no_say_in_its_own_threshold() -> None:
    scores, same, folds = view2()
    changed = np.where(folds == 4, scores + 100, scores)
    before, after = (accuracy_over_folds(values, same, folds).folds[4].threshold for values in (scores, changed))
    assert before == after


def test_failures_stay_in_their_fold_and_count_as_errors() -> None:
    scores = [*SCORES]
    scores[0] = float("nan")
    found = accuracy_over_folds(scores, SAME, FOLDS, failures=[0], number=3)
    assert [(fold.correct, fold.n, fold.failures) for fold in found.folds] == [(1, 2, 1), (2, 2, 0), (1, 2, 0)]
    assert not found.correct[0]
    left_out = accuracy_over_folds(scores, SAME, FOLDS, failures=[0], number=3, leave_failures_out=True)
    assert [(fold.correct, fold.n, fold.failures) for fold in left_out.folds] == [(1, 1, 1), (2, 2, 0), (1, 2, 0)]
    assert left_out.counted.tolist() == [False] + [True] * 5


# Each row: what is changed -> the error and what it says.
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"folds": [0, 0, 1, 1, 3, 3], "number": 4}, DataError, r"missing \[2\]"),
        ({}, DataError, r"expected 10 folds.* got \[0, 1, 2\]"),  # View 2 has ten
        ({"folds": [2, 2, 3, 3, 4, 4], "number": 3}, DataError, "numbered from 0 or 1"),
        ({"number": 1}, UsageError, "at least two folds"),
        ({"scores": SCORES[:5], "number": 3}, UsageError, r"\(5,\), \(6,\)"),
        ({"scores": [float("nan"), *SCORES[1:]], "number": 3}, DataError, "finite"),
        ({"failures": [6], "number": 3}, UsageError, r"\[0, 6\)"),
        ({"failures": [0, 2, 4], "number": 3}, EmptyScores, "no genuine"),
        ({"failures": [0, 1], "number": 3, "leave_failures_out": True}, EmptyScores, "none of its 2 pairs"),
        ({"scores": [0.5] * 6, "number": 3}, Undefined, "all scores are 0.5"),
    ],
)
def test_lists_that_are_refused(change, error, words) -> None:
    given = {"scores": SCORES, "same": SAME, "folds": FOLDS} | change
    with pytest.raises(error, match=words):
        accuracy_over_folds(**given)
