"""Two classes as a yes or no: from predictions to thresholds and results, and where that is undefined."""

import json

import numpy as np
import pytest

from facewright.errors import RunError, Undefined, UnknownName
from facewright.evaluation.binary import class_threshold_of, evaluate_two_classes, two_sides_of
from facewright.evaluation.classification import ClassificationResult, Predictions, classify
from facewright.files import as_record

CLASSES = ("bare", "masked")


def predictions(scores: list[float], labels: list[int]) -> Predictions:
    second = np.array(scores)
    paths = tuple(f"{number}.png" for number in range(len(scores)))
    return Predictions(paths, np.array(labels, np.int64), np.stack([1 - second, second], axis=1))


VALIDATION = predictions([0.9, 0.7, 0.3, 0.1], [1, 1, 0, 0])
TEST = predictions([0.8, 0.55, 0.45, 0.6, 0.2], [1, 1, 1, 0, 0])


def test_the_second_class_is_the_one_to_accept() -> None:
    genuine, impostor = two_sides_of(TEST)
    assert genuine.tolist() == pytest.approx([0.8, 0.55, 0.45])
    assert impostor.tolist() == pytest.approx([0.6, 0.2])


def test_the_threshold_of_validation_is_scored_on_test() -> None:
    threshold = class_threshold_of(VALIDATION, CLASSES, "min-hter", "four images")
    result = evaluate_two_classes(VALIDATION, TEST, CLASSES, "min-hter")
    assert threshold is not None and result is not None
    assert threshold.value == result.threshold == 0.5
    assert (threshold.accepted, threshold.data, threshold.hter.value) == ("masked", "four images", 0.0)
    assert (result.accepted, result.rejected) == ("masked", "bare")
    assert (result.far.value, result.frr.value) == (0.5, pytest.approx(1 / 3))
    assert result.validation_hter == 0.0


# Each row: validation, test, classes: where there is no yes or no to judge.
@pytest.mark.parametrize(
    ("validation", "test", "classes"),
    [
        (predictions([0.9], [1]), TEST, CLASSES),
        (VALIDATION, predictions([0.9], [0]), CLASSES),
        (VALIDATION, TEST, ("a", "b", "c")),
    ],
)
def test_what_is_undefined_is_none(validation, test, classes) -> None:
    assert evaluate_two_classes(validation, test, classes, "min-hter") is None


def test_a_rule_that_no_threshold_meets() -> None:
    with pytest.raises(Undefined):
        class_threshold_of(VALIDATION, CLASSES, "far=0.01", "four images")
    assert evaluate_two_classes(VALIDATION, TEST, CLASSES, "far=0.01") is None
    with pytest.raises(UnknownName):
        evaluate_two_classes(VALIDATION, TEST, CLASSES, "best")


def test_a_result_with_a_yes_or_no_survives_json() -> None:
    plain = classify(TEST, CLASSES, "test")
    result = plain.model_copy(update={"binary": evaluate_two_classes(VALIDATION, TEST, CLASSES, "eer")})
    facts = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert facts["binary"]["hter"]["n"] == 5
    assert as_record(facts, ClassificationResult, "a test", error=RunError) == result
    assert plain.to_dict()["binary"] is None
    del facts["binary"]  # as files of before are
    assert as_record(facts, ClassificationResult, "a test", error=RunError) == plain
