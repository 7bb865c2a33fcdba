"""Overlap, matching and average precision: by hand, and against explicit loops."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest

from facewright.errors import Undefined, UsageError
from facewright.metrics import detection
from facewright.metrics.detection import (
    average_precision,
    best_threshold,
    evaluate_detections,
    iou,
    match,
    precision_recall,
)

BOX = [0, 0, 10, 10]


def test_the_examples_hold() -> None:
    ran = doctest.testmod(detection)
    assert ran.attempted > 0
    assert ran.failed == 0


# other box -> intersection over union with BOX
@pytest.mark.parametrize(
    ("other", "share"),
    [
        ([0, 0, 10, 10], 1.0),
        ([10, 0, 10, 10], 0.0),  # they touch
        ([5, 0, 10, 10], 1 / 3),
        ([2, 2, 5, 5], 0.25),  # inside
        ([-5, -5, 20, 20], 0.25),  # around
        ([30, 30, 1, 1], 0.0),
    ],
)
def test_overlap_by_hand(other: list[float], share: float) -> None:
    assert iou([BOX], [other])[0, 0] == pytest.approx(share, abs=1e-12)
    assert iou([other], [BOX])[0, 0] == pytest.approx(share, abs=1e-12)


# found boxes, scores, true boxes -> which are right
@pytest.mark.parametrize(
    ("found", "scores", "truth", "right"),
    [
        ([], [], [BOX], []),
        ([BOX], [0.9], [], [False]),
        ([BOX, BOX], [0.5, 0.9], [BOX], [False, True]),  # found twice: the surer one is right
        ([BOX, BOX], [0.9, 0.9], [BOX], [True, False]),  # equally sure: the first
        ([[0, 0, 10, 5]], [0.9], [BOX], [True]),  # exactly half
        ([[0, 0, 10, 4.9]], [0.9], [BOX], [False]),
        # the one it overlaps most is taken: it does not pass on to the next
        ([BOX, [1, 0, 10, 10]], [0.9, 0.8], [BOX, [4, 0, 10, 10]], [True, False]),
        ([BOX, [40, 0, 8, 8]], [0.1, 0.9], [[40, 0, 10, 10], BOX], [True, True]),
    ],
)
def test_which_boxes_are_right(
    found: list[list[float]], scores: list[float], truth: list[list[float]], right: list[bool]
) -> None:
    assert match(found, scores, truth).tolist() == right


# scores and hits of every box found, true boxes -> average precision
@pytest.mark.parametrize(
    ("scores", "right", "faces", "area"),
    [
        ([], [], 3, 0.0),
        ([0.9], [True], 1, 1.0),
        ([0.9], [True], 2, 0.5),
        ([0.9, 0.8], [False, True], 1, 0.5),
        ([0.8, 0.8], [False, True], 1, 0.5),  # tied: in whatever order they come
        ([0.8, 0.8], [True, False], 1, 0.5),
        ([0.9, 0.8, 0.7, 0.6], [True, False, True, True], 4, 0.25 + 0.25 * 0.75 + 0.25 * 0.75),  # 2/3 is lifted to 3/4
    ],
)
def test_average_precision_by_hand(scores: list[float], right: list[bool], faces: int, area: float) -> None:
    assert average_precision(precision_recall(scores, right, faces)) == pytest.approx(area)


def test_average_precision_against_an_explicit_loop() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores = generator.random(60).round(1)
        right = generator.random(60) < scores
        faces = int(right.sum()) + 5
        steps = sorted(set(scores.tolist()), reverse=True)
        points = [(right[scores >= s].sum() / faces, right[scores >= s].mean()) for s in steps]
        area, reached = 0.0, 0.0
        for index, (recall, _) in enumerate(points):
            area += (recall - reached) * max(precision for _, precision in points[index:])
            reached = recall
        assert average_precision(precision_recall(scores, right, faces)) == pytest.approx(area)


def test_several_photos_are_judged_together() -> None:
    found = [([BOX, [50, 0, 10, 10]], [0.9, 0.7]), ([], []), ([[3, 0, 10, 10]], [0.8])]
    truth = [[BOX], [BOX], [BOX]]
    result = evaluate_detections(found, truth, threshold=0.75)
    assert (result.photos, result.faces) == (3, 3)
    assert result.precision is not None
    assert (result.precision.value, result.precision.n) == (1.0, 2)
    assert result.recall.value == pytest.approx(2 / 3)
    assert result.average_precision == pytest.approx(2 / 3)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == result.to_dict()


def test_nothing_found_has_no_precision() -> None:
    result = evaluate_detections([([BOX], [0.4])], [[BOX]], threshold=0.5)
    assert result.precision is None
    assert result.recall.value == 0.0
    assert result.average_precision == 1.0  # over all scores


def test_a_false_alarm_in_a_photo_without_a_face_counts() -> None:
    result = evaluate_detections([([BOX], [0.4]), ([BOX], [0.9])], [[BOX], []], threshold=0.1)
    assert result.average_precision == 0.5


def test_the_best_threshold_is_undefined_where_nothing_is_right() -> None:
    with pytest.raises(Undefined, match="no true box"):
        best_threshold(precision_recall([0.9], [False], faces=1))


# arguments -> what they are refused with
@pytest.mark.parametrize(
    ("found", "truth", "error", "words"),
    [
        ([([BOX], [0.5])], [[]], Undefined, "recall of no faces"),
        ([([BOX], [0.5])], [], UsageError, "each of the 1 photos"),
        ([([BOX], [0.5, 0.6])], [[BOX]], UsageError, "score for each of the 1 boxes"),
        ([([[0, 0, 0, 5]], [0.5])], [[BOX]], UsageError, "above 0"),
        ([([[0, 0, 5]], [0.5])], [[BOX]], UsageError, r"\(N, 4\)"),
        ([([[0, 0, float("nan"), 5]], [0.5])], [[BOX]], UsageError, "finite"),
    ],
)
def test_refuses(found: list, truth: list, error: type[Exception], words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(error, match=words):
        evaluate_detections(found, truth, threshold=0.5)
