"""Suppression and averaging against explicit loops over all pairs; the face box in a patch: applied, and fitted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from facewright.errors import Undefined, UsageError
from facewright.faces.boxes import Frame, Share, average, fit_frame, keep_best, soften
from facewright.metrics.detection import iou

Floats = NDArray[np.float64]


def crowd(count: int, seed: int = 0, side: float = 300.0) -> tuple[Floats, Floats]:
    """Boxes of very different sizes, and scores with many ties."""
    generator = np.random.default_rng(seed)
    sizes = np.exp(generator.uniform(np.log(5), np.log(120), (count, 2)))
    return np.hstack([generator.uniform(0, side, (count, 2)), sizes]), generator.random(count).round(2) + 0.01


def share(a: Floats, b: Floats, of: Share) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0.0) * max(height, 0.0)
    first, second = a[2] * a[3], b[2] * b[3]
    return float(common / (min(first, second) if of == "smaller" else first + second - common))


@pytest.mark.parametrize("of", ["union", "smaller"])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.9])
def test_hard_suppression_is_the_greedy_loop(overlap: float, of: Share) -> None:
    boxes, scores = crowd(200)
    kept: list[int] = []
    for index in sorted(range(200), key=lambda i: (-scores[i], i)):
        if all(share(boxes[index], boxes[k], of) <= overlap for k in kept):
            kept.append(index)
    assert keep_best(boxes, scores, overlap, of).tolist() == kept


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_soft_suppression_is_the_paper_s_loop(sigma: float) -> None:
    boxes, scores = crowd(120)
    left, expected = dict(enumerate(scores.tolist())), []
    while left:
        best = min(left, key=lambda i: (-left[i], i))
        score = left.pop(best)
        if score < 0.2:
            break
        expected.append((best, score))
        left = {i: s * math.exp(-(share(boxes[i], boxes[best], "union") ** 2) / sigma) for i, s in left.items()}
    kept, softened = soften(boxes, scores, floor=0.2, sigma=sigma)
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(softened, [score for _, score in expected], rtol=1e-12)


def test_an_average_is_that_of_its_neighbours() -> None:
    boxes, scores = crowd(300, side=60.0)
    kept = keep_best(boxes, scores, 0.3)
    refined, support = average(boxes, scores, kept, overlap=0.5)
    for place, index in enumerate(kept):
        alike = [i for i in range(300) if share(boxes[i], boxes[index], "union") >= 0.5]
        assert support[place] == len(alike)
        mean = sum(boxes[i] * scores[i] for i in alike) / sum(scores[i] for i in alike)
        np.testing.assert_allclose(refined[place], mean)
    assert support.max() > 1


@pytest.mark.parametrize("side", [300.0, 3000.0])  # a few places with thousands of boxes each; a sea of boxes
def test_tens_of_thousands_of_boxes(side: float) -> None:
    boxes, scores = crowd(20_000, side=side)
    kept = keep_best(boxes, scores, 0.3)
    some = kept[:: max(1, len(kept) // 40)]
    shares = iou(boxes[some], boxes[kept])
    assert (np.sort(shares, axis=1)[:, -2] <= 0.3).all()  # the largest share is that with itself
    lost = np.setdiff1d(np.arange(20_000), kept)[::1000]
    suppressed = iou(boxes[lost], boxes[kept]) > 0.3
    assert (suppressed & (scores[kept] >= scores[lost][:, None])).any(axis=1).all()


def test_no_box_gives_no_box() -> None:
    assert keep_best([], []).tolist() == []
    kept, scores = soften([], [], floor=0.1)
    assert (kept.tolist(), scores.tolist()) == ([], [])
    refined, support = average([], [], [])
    assert (refined.shape, support.shape) == ((0, 4), (0,))


def test_a_face_inside_a_face_goes_only_by_the_smaller_share() -> None:
    boxes = [[0, 0, 100, 100], [30, 50, 30, 30]]
    assert keep_best(boxes, [0.9, 0.8], 0.3).tolist() == [0, 1]
    assert keep_best(boxes, [0.9, 0.8], 0.7, of="smaller").tolist() == [0]
    assert keep_best(boxes, [0.8, 0.9], 0.7, of="smaller").tolist() == [1]


def test_refuses() -> None:
    with pytest.raises(UsageError, match="score for each of the 1 boxes"):
        keep_best([[0, 0, 1, 1]], [0.5, 0.5])
    with pytest.raises(UsageError, match="above 0"):
        keep_best([[0, 0, 1, 0]], [0.5])
    with pytest.raises(UsageError, match="floor and a sigma"):
        soften([[0, 0, 1, 1]], [0.5], floor=0.0)


def test_a_frame_is_found_again() -> None:
    generator = np.random.default_rng(0)
    patches = [
        np.hstack([generator.uniform(0, 400, (n, 2)), generator.uniform(30, 60, (n, 1)) * [1, 1]]) for n in (5, 0, 8)
    ]
    true = Frame(0.1, 0.2, 0.8, 0.7)
    truth = [true.boxes(found) for found in patches]
    alarms = np.array([[900.0, 900.0, 40.0, 40.0]])  # overlaps no face
    fitted = fit_frame([np.vstack([found, alarms]) for found in patches], [t[::-1] for t in truth])
    np.testing.assert_allclose(
        [fitted.left, fitted.top, fitted.width, fitted.height],
        [true.left, true.top, true.width, true.height],
        atol=1e-9,
    )


def test_two_faces_are_too_few() -> None:
    boxes = [[0, 0, 9, 9], [50, 0, 9, 9]]
    with pytest.raises(Undefined, match=r"at least 3 .* got 2"):
        fit_frame([boxes], [boxes])
    with pytest.raises(Undefined, match="got 0"):
        fit_frame([], [])


@pytest.mark.parametrize("values", [(0, 0, 0, 1), (0, 0, 1, -1), (float("nan"), 0, 1, 1), (0, 0, 1, float("inf"))])
def test_refuses_a_frame_that_is_none(values: tuple[float, float, float, float]) -> None:
    with pytest.raises(UsageError, match="shares of the patch"):
        Frame(*values)
