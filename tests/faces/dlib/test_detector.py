"""The detector's parts on pictures where the answer is known; against dlib itself in test_dlib_parity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from facewright.errors import UsageError, WeightsError
from facewright.faces.dlib import detector
from facewright.faces.dlib import files as dlib_files
from facewright.faces.dlib.detector import FIRST, MAX_MARGIN, STRIDE, WIDTHS, FaceDetector, MaxMarginNetwork


def blind(score: float) -> FaceDetector:
    """A detector that sees nothing and gives every window the same score."""
    network = MaxMarginNetwork()
    torch.nn.init.zeros_(network.score.weight)
    torch.nn.init.constant_(network.score.bias, score) if network.score.bias is not None else None
    return FaceDetector(network)


def test_where_the_windows_lie_is_what_the_convolutions_see() -> None:
    # The gradient of one score reaches the pixels of its window's middle, as far to the left as to the right.
    network = MaxMarginNetwork()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    x = torch.zeros(1, 3, 301, 301, requires_grad=True)
    scores = network(x)
    row, column = 16, 18
    scores[0, 0, row, column].backward()
    assert x.grad is not None
    rows, columns = np.nonzero(x.grad[0].abs().sum(0).numpy())
    assert ((rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2) == (
        row * STRIDE + FIRST,
        column * STRIDE + FIRST,
    )


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
    monkeypatch.setattr(detector, "MOST_PIXELS", 10_000)
    boxes, _ = blind(1.0).find(np.zeros((200, 200, 3), np.uint8))
    assert boxes[:, 2:].min() == pytest.approx(160, rel=0.03)
    with pytest.raises(UsageError, match="at least 161 px, or cut the photo into parts"):
        blind(1.0).find(np.zeros((200, 200, 3), np.uint8), smallest=100)


@pytest.mark.parametrize("smallest", [0, -1.0])
def test_no_smallest_face(smallest: float) -> None:
    with pytest.raises(UsageError, match="more than 0 pixels"):
        blind(1.0).find(np.zeros((20, 20, 3), np.uint8), smallest=smallest)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (3, 90), (30, 30)])
def test_tiny_photos_have_no_faces_and_do_no_harm(size: tuple[int, int]) -> None:
    boxes, scores = blind(-1.0).find(np.full((*size, 3), 255, np.uint8))
    assert len(boxes) == len(scores) == 0


def test_the_packages_file_is_the_network_that_is_expected(tmp_path: Path) -> None:
    found = FaceDetector.load(cache=tmp_path)
    boxes, _ = found.find(np.full((200, 200, 3), 128, np.uint8))
    assert len(boxes) == 0
    assert len(WIDTHS) == 7
    with pytest.raises(WeightsError, match="expected a detector"):
        MAX_MARGIN.convert(dlib_files.package_file(dlib_files.EMBEDDING))
