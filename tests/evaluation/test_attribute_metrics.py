"""Attributes: loops, scikit-learn, unknown answers, the majority baseline, two models compared."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from facewright.errors import DataError, FacewrightError, Undefined, UsageError
from facewright.evaluation.compare import compare_attributes
from facewright.evaluation.target_metrics import (
    AttributesResult,
    measure_attributes,
)

RANDOM = np.random.default_rng(0)
N = 120
NAMES = ("glasses", "hat", "smile")
TRUTH = (RANDOM.random((N, 3)) < [0.2, 0.1, 0.55]).astype(float)
SCORES = 0.3 * TRUTH + RANDOM.random((N, 3)) * 0.7
TRUTH[RANDOM.random((N, 3)) < 0.15] = np.nan
LIMITS = [0.45, 0.5, 0.4]
RESULT = measure_attributes(SCORES, TRUTH, LIMITS, NAMES)


@pytest.mark.parametrize("k", range(3))
def test_each_attribute_against_scikit_learn(k: int) -> None:
    row, known = RESULT.attributes[k], ~np.isnan(TRUTH[:, k])
    truth, scores = TRUTH[known, k], SCORES[known, k]
    said = scores >= LIMITS[k]
    assert (row.name, row.n, row.unknown) == (NAMES[k], known.sum(), N - known.sum())
    assert row.prevalence.value == pytest.approx(truth.mean())
    assert row.baseline.value == pytest.approx(max(truth.mean(), 1 - truth.mean()))
    assert row.accuracy.value == pytest.approx(reference.accuracy_score(truth, said))
    assert row.accuracy_at_half.value == pytest.approx(reference.accuracy_score(truth, scores >= 0.5))
    assert row.balanced_accuracy and row.auc and row.average_precision
    assert row.balanced_accuracy.value == pytest.approx(reference.balanced_accuracy_score(truth, said))
    assert row.auc.value == pytest.approx(reference.roc_auc_score(truth, scores))
    assert row.average_precision.value == pytest.approx(reference.average_precision_score(truth, scores))
    for rate in (row.accuracy, row.balanced_accuracy, row.auc, row.average_precision):
        assert rate.low < rate.value < rate.high


def test_the_means_stand_beside_the_mean_of_the_baselines() -> None:
    rows = RESULT.attributes
    assert RESULT.mean_accuracy.value == pytest.approx(sum(row.accuracy.value for row in rows) / 3)
    assert RESULT.mean_baseline.value == pytest.approx(sum(row.baseline.value for row in rows) / 3)
    assert RESULT.mean_gain == pytest.approx(RESULT.mean_accuracy.value - RESULT.mean_baseline.value)
    assert RESULT.mean_auc == pytest.approx(sum(row.auc.value for row in rows if row.auc) / 3)


def test_the_interval_of_the_mean_is_over_images_not_over_answers() -> None:
    truth = np.repeat((RANDOM.random((200, 1)) < 0.5).astype(float), 4, axis=1)
    scores = np.where(RANDOM.random((200, 1)) < 0.8, truth, 1 - truth)  # four times the same answer
    four = measure_attributes(scores, truth, [0.5] * 4, list("abcd"))
    one = four.attributes[0].accuracy
    assert four.mean_accuracy.value == pytest.approx(one.value)
    assert four.mean_accuracy.high - four.mean_accuracy.low == pytest.approx(one.high - one.low, rel=0.05)
    drawn = [
        measure_attributes(SCORES[rows], TRUTH[rows], LIMITS, NAMES).mean_accuracy.value
        for rows in np.random.default_rng(1).integers(0, N, (300, N))
    ]
    half = (RESULT.mean_accuracy.high - RESULT.mean_accuracy.low) / 2
    assert half == pytest.approx(1.96 * np.std(drawn), rel=0.2)  # against the bootstrap


def test_an_attribute_with_one_answer_or_none() -> None:
    truth = np.array([[1.0, np.nan, 1.0], [1.0, np.nan, 0.0]])
    result = measure_attributes([[0.9, 0.1, 0.4], [0.2, 0.1, 0.6]], truth, [0.5] * 3, NAMES)
    assert result.undefined == ("hat",)
    glasses, smile = result.attributes
    assert (glasses.baseline.value, glasses.balanced_accuracy, glasses.auc, glasses.average_precision) == (
        1,
        None,
        None,
        None,
    )
    assert smile.accuracy.value == 0 and smile.baseline.value == 0.5
    assert result.mean_gain == pytest.approx(-0.5)  # worse than no classifier, and said so
    with pytest.raises(Undefined):
        measure_attributes([[0.9]], [[np.nan]], [0.5], ["hat"])


def test_two_models_are_compared_on_the_known_images_with_holm() -> None:
    truth = np.array([[1.0, 1.0]] * 6 + [[np.nan, 0.0]] * 4)
    a, b = truth == 1, np.zeros((10, 2), bool)
    b[:3, 1] = True
    glasses, hat = compare_attributes({"a": a, "b": b}, truth, ["glasses", "hat"])
    assert (glasses.n, glasses.p_value, glasses.accuracy_difference) == (6, 2 * 0.5**6, 1.0)
    assert (hat.n, hat.p_value, hat.accuracy_difference) == (10, 0.25, pytest.approx(0.3))
    assert (glasses.holm_p_value, hat.holm_p_value) == (2 * glasses.p_value, 0.25)
    assert glasses.within_noise and hat.within_noise
    assert len(compare_attributes({"a": a, "b": b, "c": b}, truth, ["glasses", "hat"])) == 6


@pytest.mark.parametrize(
    ("scores", "truth", "limits", "names", "error"),
    [
        ([[0.5]], [[0.5]], [0.5], ["hat"], UsageError),
        ([[0.5]], [[1, 0]], [0.5], ["hat"], UsageError),
        ([0.5], [1], [0.5], ["hat"], UsageError),
        ([[np.nan]], [[1]], [0.5], ["hat"], DataError),
        ([[0.5]], [[1]], [0.5, 0.5], ["hat"], UsageError),
        ([[0.5]], [[1]], [np.nan], ["hat"], UsageError),
        ([[0.5]], [[1]], [0.5], ["hat", "mask"], UsageError),
    ],
)
def test_refusals(
    scores: object, truth: object, limits: object, names: list[str], error: type[FacewrightError]
) -> None:
    with pytest.raises(error):
        measure_attributes(scores, truth, limits, names)  # type: ignore[arg-type]


def test_a_result_survives_json() -> None:
    facts = json.loads(json.dumps(RESULT.to_dict(), allow_nan=False))
    assert AttributesResult.model_validate(facts) == RESULT
    assert facts["attributes"][0]["auc"].keys() == {"value", "low", "high", "n"}
