"""What is said about suspicious labels: the three lists, and that they survive being written and read back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from facewright.errors import UsageError
from facewright.evaluation.label_issues import LabelIssues, compare_with_classes, estimate_label_issues
from facewright.files import as_record
from facewright.metrics.label_issues import SEPARATION

CLASSES = ("ann", "bo", "cy")
PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0], [0.8, 0.1, 0.1], [0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.7, 0.2, 0.1], [0, 0, 1.0]]
)
LABELS = np.array([0, 0, 1, 1, 1, 2])
PATHS = ("a", "b", "c", "d", "e", "f")


def faces() -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Four people; the second is two (rows 40 to 89: 30 and 20), and row 0 belongs to the third."""
    random = np.random.default_rng(0)
    middles = 7 * np.eye(5, 48)
    people = np.repeat([0, 1, 4, 2, 3], [40, 30, 20, 40, 40])
    points = middles[people] + 0.6 * random.normal(size=(170, 48))
    points[0] = middles[2] + 0.6 * random.normal(size=48)
    labels = np.where(people == 4, 1, people)
    return tuple(f"{row:03}" for row in range(170)), labels, points.astype(np.float32)


def test_suspects_carry_names_and_both_probabilities() -> None:
    accuracy, errors, found = estimate_label_issues(PATHS, LABELS, CLASSES, PROBABILITIES)
    assert (accuracy.value, accuracy.n) == (pytest.approx(5 / 6), 6)
    assert errors == pytest.approx(0.0)  # 0.7 does not reach what ann's own images have, 0.85
    assert found == ()
    surer = PROBABILITIES.copy()
    surer[4] = [0.95, 0.05, 0.0]
    accuracy, errors, found = estimate_label_issues(PATHS, LABELS, CLASSES, surer)
    assert [(row.path, row.label, row.suggested) for row in found] == [("e", "bo", "ann")]
    assert (found[0].probability, found[0].suggested_probability) == (0.05, 0.95)
    assert found[0].margin == pytest.approx(-0.9)
    assert errors == pytest.approx(1.0)  # of three labelled bo, all were counted, one elsewhere


def test_a_stranger_and_a_parted_class_are_found() -> None:
    paths, labels, points = faces()
    found = compare_with_classes(paths, labels, ("ann", "bo", "cy", "di"), points, [str(row) for row in range(170)])
    assert found.refused is None and found.threshold is not None
    assert ("000", "ann", "cy") in [(row.path, row.label, row.nearest) for row in found.strangers]
    (parted,) = found.parted
    assert parted.label == "bo" and parted.separation >= SEPARATION and parted.within > parted.across
    second = {f"{row:03}" for row in range(70, 90)}  # less those that by chance are like another class
    assert set(parted.smaller) <= second and len(parted.smaller) >= 18
    assert set(parted.larger) == {f"{row:03}" for row in range(40, 70)}


def test_features_that_know_nothing_are_said_to() -> None:
    random = np.random.default_rng(1)
    points = random.normal(size=(120, 16)).astype(np.float32)
    found = compare_with_classes(
        [str(row) for row in range(120)], np.repeat([0, 1, 2], 40), CLASSES, points, list(map(str, range(120)))
    )
    assert found.refused is not None and "of 120 images" in found.refused
    assert (found.strangers, found.parted, found.threshold) == ((), (), None)


def made(likeness: bool) -> LabelIssues:
    surer = PROBABILITIES.copy()
    surer[4] = [0.95, 0.05, 0.0]
    accuracy, errors, suspects = estimate_label_issues(PATHS, LABELS, CLASSES, surer)
    paths, labels, points = faces()
    alike = compare_with_classes(paths, labels, ("ann", "bo", "cy", "di"), points, paths) if likeness else None
    return LabelIssues(
        dataset="faces",
        fingerprint="f00d",
        source="a probe",
        n=6,
        folds=5,
        classes=CLASSES,
        accuracy=accuracy,
        estimated_errors=errors,
        suspects=suspects,
        likeness=alike,
        notes=("left out: gus",),
    )


@pytest.mark.parametrize("likeness", [True, False])
def test_what_is_written_is_read_back(likeness: bool) -> None:
    found = made(likeness)
    facts = found.to_dict()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert as_record(json.loads(json.dumps(facts)), LabelIssues, "a test", error=UsageError) == found


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"task": "classification"}, "task"),
        ({"suspects": [{"path": "a"}]}, "suspects"),
        ({"accuracy": {}}, "accuracy"),
        ({"surplus": 1}, "surplus"),
        ({"likeness": {"strangers": []}}, "likeness"),
    ],
)
def test_other_facts_are_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        as_record(made(True).to_dict() | change, LabelIssues, "a test", error=UsageError)
