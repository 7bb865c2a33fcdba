"""Votes: loops over annotators, ties, images without votes."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from facewright.errors import DataError, FacewrightError, Undefined, UsageError
from facewright.evaluation.target_metrics import VotesResult, measure_votes

RANDOM = np.random.default_rng(0)
NAMES = ("neutral", "happy", "sad", "fear")
VOTES = RANDOM.multinomial(10, [0.5, 0.3, 0.15, 0.05], 60).astype(float)
SCORES = RANDOM.dirichlet(np.ones(4), 60)
RESULT = measure_votes(SCORES, VOTES, NAMES)


def test_agreement_is_counted_over_pairs_of_annotators() -> None:
    agreed, with_model, with_majority = [], [], []
    for votes, scores in zip(VOTES.astype(int), SCORES, strict=True):
        annotators = [c for c in range(4) for _ in range(votes[c])]
        pairs = list(itertools.combinations(annotators, 2))
        agreed.append(sum(a == b for a, b in pairs) / len(pairs))
        with_model.append(annotators.count(int(scores.argmax())) / 10)
        with_majority.append(max(map(annotators.count, range(4))) / 10)
    for rate, values in (
        (RESULT.annotators_agree, agreed), (RESULT.model_agrees, with_model), (RESULT.majority_agrees, with_majority)
    ):  # fmt: skip
        assert rate is not None and rate.value == pytest.approx(sum(values) / 60) and rate.n == 60
        half = 1.96 * np.std(values) / 60**0.5
        assert rate.high - rate.low == pytest.approx(2 * half, rel=0.1)


def test_accuracy_is_against_a_majority_that_is_clear() -> None:
    right = counted = 0
    for votes, scores in zip(VOTES, SCORES, strict=True):
        best = [c for c in range(4) if votes[c] == max(votes)]
        if len(best) == 1:
            counted += 1
            right += int(scores.argmax() == best[0])
    assert RESULT.tied == 60 - counted > 0
    assert RESULT.accuracy is not None
    assert (RESULT.accuracy.value, RESULT.accuracy.n) == (right / counted, counted)
    assert sum(row.n for row in RESULT.per_class) == counted
    assert sum(row.recall.value * row.n for row in RESULT.per_class if row.recall) == pytest.approx(right)


def test_no_model_has_a_lower_cross_entropy_than_the_shares() -> None:
    expected = -sum(
        VOTES[i, c] / 10 * math.log(SCORES[i, c]) for i in range(60) for c in range(4) if VOTES[i, c]
    ) / 60  # fmt: skip
    assert RESULT.cross_entropy == pytest.approx(expected)
    perfect = measure_votes(VOTES / 10, VOTES, NAMES)
    assert perfect.cross_entropy == pytest.approx(perfect.entropy)
    assert RESULT.entropy == perfect.entropy < RESULT.cross_entropy


def test_images_without_votes_and_with_one() -> None:
    result = measure_votes([[1, 0]] * 4, [[0, 0], [np.nan, 1], [1, 0], [2, 2]], ["a", "b"])
    assert (result.n, result.unknown, result.tied) == (2, 2, 1)
    assert result.annotators_agree is not None
    assert (result.annotators_agree.value, result.annotators_agree.n) == (pytest.approx(1 / 3), 1)
    assert measure_votes([[1, 0]], [[1, 0]], ["a", "b"]).annotators_agree is None
    assert measure_votes([[1, 0]], [[1, 1]], ["a", "b"]).accuracy is None


@pytest.mark.parametrize(
    ("scores", "votes", "names", "error"),
    [
        ([[1, 0]], [[0, 0]], "ab", Undefined),
        ([[1, 0]], [[1, 0, 0]], "ab", UsageError),
        ([[1, 0]], [[1, 0]], "abc", UsageError),
        ([[1, 0]], [[0.5, 0.5]], "ab", UsageError),
        ([[1, 0]], [[3, -1]], "ab", UsageError),
        ([[np.nan, 0]], [[1, 0]], "ab", DataError),
    ],
)
def test_refusals(scores: object, votes: object, names: str, error: type[FacewrightError]) -> None:
    with pytest.raises(error):
        measure_votes(scores, votes, list(names))  # type: ignore[arg-type]


def test_a_result_survives_json() -> None:
    assert VotesResult.model_validate(json.loads(json.dumps(RESULT.to_dict(), allow_nan=False))) == RESULT
