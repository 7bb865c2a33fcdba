"""A binary task end to end: threshold from validation, errors from test, and the way through JSON."""

import json

import numpy as np
import pytest

from facewright.errors import DataError, EmptyScores, UnknownName, UsageError
from facewright.evaluation.binary import evaluate_binary
from facewright.evaluation.classification import BinaryResult
from facewright.files import as_record
from facewright.metrics.binary import binary_errors, choose_binary_threshold

VALIDATION = ([0.9, 0.4], [0.3, 0.1])  # positives, negatives
TEST = ([0.8, 0.6, 0.38, 0.3], [0.36, 0.1])


def test_the_threshold_comes_from_validation_and_the_errors_from_test() -> None:
    result = evaluate_binary(VALIDATION, TEST)
    assert (result.positives, result.negatives, result.rule) == (4, 2, "min-hter")
    assert result.threshold == pytest.approx(0.35)
    assert result.validation_hter == 0.0
    assert (result.far.value, result.frr.value, result.hter.value) == (0.5, 0.25, 0.375)
    assert (result.far.n, result.frr.n, result.hter.n) == (2, 4, 6)
    assert (result.far_at_half.value, result.frr_at_half.value, result.hter_at_half.value) == (0.0, 0.5, 0.25)
    assert result.auc == 7 / 8
    assert (result.eer, result.eer_low, result.eer_high) == (0.125, 0.0, 0.25)  # equally close above 0.36


@pytest.mark.parametrize("rule", ["min-hter", "eer", "far=0.05"])
def test_rules(rule) -> None:
    generator = np.random.default_rng(0)
    parts = []
    for _ in range(2):
        labels = generator.random(400) < 0.88
        scores = generator.normal(size=400) + 1.5 * labels
        parts.append((scores[labels], scores[~labels]))
    result = evaluate_binary(*parts, rule)
    assert result.threshold == choose_binary_threshold(*parts[0], rule)
    assert result.hter == binary_errors(*parts[1], result.threshold).hter
    assert len(result.epc.weights) == 21


def test_a_result_survives_json() -> None:
    result = evaluate_binary(VALIDATION, TEST)
    facts = result.to_dict()
    text = json.dumps(facts, allow_nan=False)
    assert json.loads(text) == facts
    assert as_record(json.loads(text), BinaryResult, "a test", error=UsageError) == result
    with pytest.raises(UsageError, match="verification"):
        as_record({**facts, "task": "verification"}, BinaryResult, "a test", error=UsageError)
    del facts["hter"]
    with pytest.raises(UsageError, match="hter"):
        as_record(facts, BinaryResult, "a test", error=UsageError)


# Each row: validation, test, rule -> the error.
@pytest.mark.parametrize(
    ("validation", "test", "rule", "error", "words"),
    [
        (([0.1], []), TEST, "eer", EmptyScores, "no impostor"),
        (VALIDATION, ([], [0.1]), "eer", EmptyScores, "no genuine"),
        (VALIDATION, ([float("nan")], [0.1]), "eer", DataError, "nan"),
        (VALIDATION, TEST, "best", UnknownName, "threshold rule 'best'"),
    ],
)
def test_parts_that_are_refused(validation, test, rule, error, words) -> None:
    with pytest.raises(error, match=words):
        evaluate_binary(validation, test, rule)
