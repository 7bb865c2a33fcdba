"""From predictions to a result: by hand, what is refused, what is undefined, and the way through JSON."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from facewright.errors import DataError, EmptyScores, UsageError
from facewright.evaluation.classification import ClassificationResult, Predictions, classify
from facewright.evaluation.results import Latency
from facewright.files import as_record

ABC = ("ann", "bob", "cyd")


def predictions(labels: list[int], probabilities: list[list[float]]) -> Predictions:
    paths = tuple(f"{i:02}.jpg" for i in range(len(labels)))
    return Predictions(paths, np.array(labels, dtype=np.int64), np.array(probabilities, dtype=np.float64))


def random_predictions(n: int, classes: int, seed: int = 0) -> Predictions:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    scores = generator.random((n, classes)) + (np.arange(classes) == labels[:, None])
    return predictions(labels.tolist(), (scores / scores.sum(axis=1, keepdims=True)).tolist())


def test_five_images_by_hand() -> None:
    said = predictions(
        [0, 0, 1, 1, 2],
        [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]],
    )
    result = classify(said, ABC, "test")
    assert (result.split, result.n, result.accuracy.value, result.accuracy.n) == ("test", 5, 0.8, 5)
    assert result.top5 is None  # three classes: top-5 says nothing
    assert result.confusion == ((1, 1, 0), (0, 2, 0), (0, 0, 1))
    assert result.log_loss == pytest.approx(-np.log([0.8, 0.2, 0.8, 1.0, 0.5]).mean())
    assert result.macro_f1.value == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)
    assert result.macro_f1.low <= result.macro_f1.value <= result.macro_f1.high
    ann, bob, cyd = result.per_class
    assert (ann.name, ann.n, ann.precision.value, ann.recall.value, ann.f1) == (
        "ann",
        2,
        1.0,
        0.5,
        pytest.approx(2 / 3),
    )
    assert (bob.precision.n, bob.recall.n) == (3, 2)  # each rate over its own count
    assert (cyd.auc, cyd.average_precision) == (1.0, 1.0)
    assert ann.auc == pytest.approx(5 / 6)  # 0.8 beats all three of the others, 0.2 loses to 0.25


def test_top_five_from_21_classes_on() -> None:
    names = tuple(f"c{i:02}" for i in range(21))
    assert classify(random_predictions(42, 21), names, "test").top5 is not None
    assert classify(random_predictions(40, 20), names[:20], "test").top5 is None


@pytest.mark.parametrize("classes", [2, 3, 21])
def test_a_result_survives_json(classes) -> None:
    names = tuple(f"c{i:02}" for i in range(classes))
    result = classify(random_predictions(50, classes), names, "validation")
    facts = result.to_dict()
    text = json.dumps(facts, allow_nan=False)
    assert json.loads(text) == facts  # plain values only: no tuple, no numpy scalar
    assert as_record(json.loads(text), ClassificationResult, "a test", error=UsageError) == result
    assert list(facts)[:4] == ["task", "split", "n", "classes"]
    assert facts["task"] == "classification"
    assert set(facts["accuracy"]) == {"value", "low", "high", "n"}


def test_facts_of_something_else_are_refused() -> None:
    facts = classify(random_predictions(9, 3), ABC, "test").to_dict()
    with pytest.raises(UsageError, match="verification"):
        as_record({**facts, "task": "verification"}, ClassificationResult, "a test", error=UsageError)
    del facts["macro_f1"], facts["top5"]
    with pytest.raises(UsageError, match="top5"):
        as_record(facts, ClassificationResult, "a test", error=UsageError)


def test_a_latency_survives_json() -> None:
    latency = Latency(median_ms=1.5, p95_ms=2.0, images_per_second=300.0, batch=32, threads=2)
    assert as_record(json.loads(json.dumps(latency.to_dict())), Latency, "a test", error=UsageError) == latency


# FAULTS row 18. Each row: labels, probabilities -> what is raised, and what the message must hold.
REFUSED = {
    "no image": ([], np.zeros((0, 3)).tolist(), EmptyScores, "no image"),
    "a NaN": ([0, 1], [[1, 0, 0], [math.nan, 0.5, 0.5]], DataError, "finite.*01.jpg"),
    "an infinity": ([0, 1], [[1, 0, 0], [math.inf, 0, 0]], DataError, "finite.*01.jpg"),
    "logits, not probabilities": ([0, 1], [[2, -1, 0], [1, 0, 0]], DataError, r"\[0, 1\].*00.jpg"),
    "rows that sum to 0.9": ([0, 1], [[1, 0, 0], [0.3, 0.3, 0.3]], DataError, "sum to one; 1 of 2.*01.jpg.*0.9"),
    "too few columns": ([0, 1], [[1, 0], [0, 1]], UsageError, r"\(2, 3\)"),
    "a label that is no class": ([0, 3], [[1, 0, 0], [1, 0, 0]], UsageError, r"\[0, 3\)"),
    "a label short": ([0], [[1, 0, 0], [1, 0, 0]], UsageError, r"\(1, 3\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_prediction_is_refused_by_name(name) -> None:
    labels, probabilities, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        classify(predictions(labels, probabilities), ABC, "test")


def test_float32_softmax_passes() -> None:
    logits = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    said = replace(random_predictions(40, 3), probabilities=softmax)
    assert 0 <= classify(said, ABC, "test").calibration_error <= 1


def test_one_class_only_is_undefined_not_invented() -> None:
    result = classify(predictions([0, 0], [[0.9, 0.1, 0.0], [0.6, 0.2, 0.2]]), ABC, "test")
    ann, bob, _ = result.per_class
    assert (ann.auc, bob.auc, result.macro_auc) == (None, None, None)  # no negatives; no positives
    assert (ann.average_precision, bob.average_precision) == (1.0, None)
    assert (bob.n, bob.precision, bob.recall, bob.f1) == (0, None, None, None)
    assert result.macro_f1.value == 1.0  # over the one class that has images
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_model_that_says_nothing() -> None:
    result = classify(predictions([0, 1, 2, 1], [[1 / 3] * 3] * 4), ABC, "test")
    assert result.macro_auc == result.micro_auc == 0.5  # every score ties
    assert result.accuracy.value == 0.25  # the first of the highest is the prediction
    assert result.per_class[1].precision is None
    assert result.macro_precision.value == pytest.approx(0.25 / 3)  # undefined precision counts as 0


def test_a_perfect_model_still_has_an_interval() -> None:
    result = classify(predictions([0, 1, 2], np.eye(3).tolist()), ABC, "test")
    assert (result.accuracy.value, result.accuracy.high, result.calibration_error) == (1.0, 1.0, 0.0)
    assert result.accuracy.low < 0.5
