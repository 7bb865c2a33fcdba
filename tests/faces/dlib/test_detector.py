"""The detector's parts on pictures where the answer is known; against dlib itself in test_dlib_parity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from facewright.errors import UsageError
from facewright.faces import scaling
from facewright.faces.dlib import detection as detector
from facewright.faces.dlib.detection import FIRST, STRIDE, FaceDetector
from facewright.faces.dlib.graphs import MAX_MARGIN
from facewright.graphs import Session


class Blind:
    """Sees nothing and gives every window the same score."""

    def __init__(self, score: float) -> None:
        self.score = score

    def run(self, feeds: Mapping[str, Any]) -> list[np.ndarray]:
        _, height, width, _ = feeds["image"].shape
        return [np.full((1, 1, (height - 22) // STRIDE, (width - 22) // STRIDE), self.score, np.float32)]


def blind(score: float) -> FaceDetector:
    return FaceDetector(cast(Session, Blind(score)))


def test_where_the_windows_lie_is_what_the_network_sees(tmp_path: Path) -> None:
    # A changed pixel moves the scores around it, as far to the left as to the right.
    session = MAX_MARGIN.session(cache=tmp_path)
    image = np.full((1, 301, 301, 3), 120, np.float32)
    (before,) = session.run({"image": image})
    row, column = 16, 18
    image[0, row * STRIDE + FIRST, column * STRIDE + FIRST] += 100
    (after,) = session.run({"image": image})
    rows, columns = np.nonzero(np.abs(after - before)[0, 0] > 0)
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert middle == pytest.approx((row, column), abs=0.5)


def test_nothing_is_found_where_there_is_nothing() -> None:
    photo = np.zeros((100, 120, 3), np.uint8)
    boxes, scores = blind(-1.0).find(photo)
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    boxes, scores = blind(-1.0).find(photo, threshold=-2.0)
    assert len(boxes) > 0 and set(scores) == {-1.0}
    assert np.abs(boxes[:, 2] - boxes[:, 3]).max() <= 1 and boxes[:, 2].min() >= 79  # square but for rounding
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    for one in range(len(boxes)):
        for other in range(one):
            inner = np.maximum(np.minimum(high[one], high[other]) - np.maximum(low[one], low[other]), 0).prod()
            outer = (np.maximum(high[one], high[other]) - np.minimum(low[one], low[other])).prod()
            assert inner / outer <= detector.OVERLAP


@pytest.mark.parametrize(("smallest", "least"), [(40, 40), (160, 160), (20, 20)])
def test_the_smallest_face_is_that_of_the_photo(smallest: float, least: float) -> None:
    boxes, _ = blind(1.0).find(np.zeros((200, 160, 3), np.uint8), smallest=smallest)
    assert boxes[:, 2:].min() == pytest.approx(least, rel=0.03)


def test_a_large_photo_is_searched_for_larger_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "MAX_PIXELS", 10_000)
    boxes, _ = blind(1.0).find(np.zeros((200, 200, 3), np.uint8))
    assert boxes[:, 2:].min() == pytest.approx(160, rel=0.03)
    with pytest.raises(UsageError, match="161 px"):
        blind(1.0).find(np.zeros((200, 200, 3), np.uint8), smallest=100)


@pytest.mark.parametrize("smallest", [0, -1.0])
def test_no_smallest_face(smallest: float) -> None:
    with pytest.raises(UsageError):
        blind(1.0).find(np.zeros((20, 20, 3), np.uint8), smallest=smallest)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (3, 90), (30, 30)])
def test_tiny_photos_have_no_faces_and_do_no_harm(size: tuple[int, int]) -> None:
    boxes, scores = blind(-1.0).find(np.full((*size, 3), 255, np.uint8))
    assert len(boxes) == len(scores) == 0


def test_nothing_is_found_on_a_grey_photo(tmp_path: Path) -> None:
    boxes, _ = FaceDetector.load(cache=tmp_path).find(np.full((200, 200, 3), 128, np.uint8))
    assert len(boxes) == 0
