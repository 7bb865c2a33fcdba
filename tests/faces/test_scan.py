"""Scanning with a network made by hand, which likes bright squares on dark ground: where it looks and what it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facewright.errors import UnknownName, UsageError
from facewright.faces import scan
from facewright.faces.boxes import Frame
from facewright.faces.scan import Scanner, Search, cut, false_alarms, levels
from facewright.graphs import plain
from facewright.input_spec import InputSpec
from facewright.metrics.detection import iou
from fixtures import plain_graph

SIDE = 16
SPEC = InputSpec(SIDE, SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SEARCH = Search(smallest=12, nested=1.0)


class Square(nn.Module):
    """A score for a bright middle (the inner 8 x 8 points) on a dark border; the second class is the square."""

    def __init__(self, padding: int = 0, outputs: int = 2) -> None:
        super().__init__()
        template = torch.full((1, 3, SIDE, SIDE), -1.0 / (3 * (SIDE**2 - 64)))
        template[:, :, 4:12, 4:12] = 1.0 / (3 * 64)
        self.conv = nn.Conv2d(3, 1, SIDE, padding=padding, bias=False)
        self.conv.weight = nn.Parameter(template, requires_grad=False)
        self.pool, self.flatten, self.fc = nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(1, outputs)
        self.fc.weight = nn.Parameter(torch.tensor([[0.0], [20.0]][-outputs:]), requires_grad=False)
        self.fc.bias = nn.Parameter(torch.tensor([0.0, -10.0][-outputs:]), requires_grad=False)
        self.padded = padding > 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        out: Tensor = self.fc(self.flatten(self.pool(x) if self.padded else x))
        return out


def photo(*squares: tuple[int, int, int], size: tuple[int, int] = (80, 110)) -> NDArray[np.uint8]:
    """Dark with white squares at (x, y) of a side."""
    image = np.zeros((*size, 3), np.uint8)
    for x, y, side in squares:
        image[y : y + side, x : x + side] = 255
    return image


def scanner(search: Search = SEARCH, model: nn.Module | None = None) -> Scanner:
    return Scanner(Square().eval() if model is None else model.eval(), SPEC, 1, search)


# squares in the photo -> as many faces, in the middle half of their patches
@pytest.mark.parametrize(
    "squares",
    [
        [(40, 30, 8)],
        [(40, 30, 20)],
        [(20, 20, 8), (70, 40, 14)],
        [],
    ],
)
@pytest.mark.parametrize("refine", [True, False])
def test_squares_are_found_where_they_are(squares: list[tuple[int, int, int]], refine: bool) -> None:
    middle = Frame(0.25, 0.25, 0.5, 0.5)
    found = scanner(replace(SEARCH, threshold=0.9, frame=middle, refine=refine)).find(photo(*squares))
    assert len(found) == len(squares)
    assert (np.diff(found.scores) <= 0).all()
    truth = np.array([(x, y, side, side) for x, y, side in squares], np.float64).reshape(-1, 4)
    if squares:
        assert (iou(found.boxes, truth).max(axis=0) > 0.6).all()
        assert found.support.min() >= 1
    assert [set(row) for row in found.to_list()] == [{"x", "y", "w", "h", "score", "hits"}] * len(squares)


def test_a_photo_without_a_face_or_smaller_than_a_patch_gives_an_empty_list() -> None:
    for image in (photo(), photo(size=(5, 7)), photo(size=(1, 300))):
        found = scanner().find(image)
        assert len(found) == 0
        assert found.to_list() == []


def test_one_pass_and_single_patches_agree() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 61, 3), np.uint8)
    dense = scanner()
    assert dense.why_windows is None
    assert dense.stride == 1
    chances = dense.probabilities(image)
    assert chances.shape == (50 - SIDE + 1, 61 - SIDE + 1)
    model = Square().eval()
    for row, column in ((0, 0), (34, 45), (17, 3)):
        patch = torch.from_numpy(image[row : row + SIDE, column : column + SIDE]).permute(2, 0, 1)[None] / 255
        alone = torch.softmax(model(patch), 1)[0, 1]
        assert chances[row, column] == pytest.approx(float(alone), abs=1e-5)


def test_strips_and_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 61, 3), np.uint8)
    for model in (Square(), Square(padding=1)):
        whole = scanner(model=model).probabilities(image)
        with monkeypatch.context() as patch:
            patch.setattr(scan, "TILE", 61 * (SIDE + 5))
            patch.setattr(scan, "BATCH", 3)
            np.testing.assert_allclose(scanner(model=model).probabilities(image), whole, atol=1e-6)


def test_a_network_that_pads_is_run_patch_by_patch() -> None:
    image = np.random.default_rng(0).integers(0, 256, (49, 61, 3), np.uint8)
    padding = Square(padding=1).eval()
    windows = scanner(model=padding)
    assert windows.why_windows is not None and "pads" in windows.why_windows
    chances = windows.probabilities(image)
    assert chances.shape == ((49 - SIDE) // 8 + 1, (61 - SIDE) // 8 + 1)
    patch = torch.from_numpy(image[24:40, 16:32]).permute(2, 0, 1)[None] / 255
    assert chances[3, 2] == pytest.approx(float(torch.softmax(padding(patch), 1)[0, 1]), abs=1e-6)


def test_one_output_is_the_logit_of_the_second_class() -> None:
    image = photo((40, 30, 8))
    two, one = scanner().hits(image), scanner(model=Square(outputs=1)).hits(image)
    np.testing.assert_allclose(one.scores, two.scores, atol=1e-6)
    first = Scanner(Square(outputs=1).eval(), SPEC, 0, SEARCH).probabilities(image)
    np.testing.assert_allclose(first, 1 - scanner(model=Square(outputs=1)).probabilities(image), atol=1e-6)


def test_levels_run_from_the_smallest_patch_to_the_last_that_fits() -> None:
    sizes = [level.pixels.shape[:2] for level in levels(photo(), SPEC, Search(smallest=8, growth=2.0))]
    assert sizes == [(160, 220), (80, 110), (40, 55), (20, 28)]
    (first, *_) = levels(photo(), SPEC, Search(smallest=8, growth=2.0))
    assert first.scale == (0.5, 0.5)


def test_suppression_support_and_nesting_decide_what_is_left() -> None:
    image = photo((40, 30, 20))
    hard, soft = scanner().find(image), scanner(replace(SEARCH, suppression="soft")).find(image)
    assert len(soft) >= len(hard) >= 1
    most = int(hard.support.max())
    assert len(scanner(replace(SEARCH, support=most)).find(image)) < len(scanner().find(image)) or len(hard) == 1
    assert len(scanner(replace(SEARCH, support=10_000)).find(image)) == 0
    crowded = replace(SEARCH, overlap=0.9)
    assert len(scanner(replace(crowded, nested=0.3)).find(image)) < len(scanner(crowded).find(image))


# a search that is refused -> why
@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"threshold": 0.0}, UsageError, "between 0 and 1"),
        ({"threshold": 1.0}, UsageError, "between 0 and 1"),
        ({"smallest": 4}, UsageError, "8 px"),
        ({"growth": 1.0}, UsageError, "growth"),
        ({"support": 0}, UsageError, "1 hit"),
        ({"suppression": "herd"}, UnknownName, "did you mean 'hard'"),
    ],
)
def test_refuses(values: dict, error: type[Exception], words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(error, match=words):
        Search(**values)


def test_false_alarms_are_the_surest_patches() -> None:
    photos = [photo((40, 30, 8)), photo(), photo((20, 20, 8), (70, 40, 14))]
    alarms = false_alarms(scanner(), photos, limit=100, seed=0)
    assert alarms.shape[1:] == (SIDE, SIDE, 3)
    assert alarms.dtype == np.uint8
    scores = [scanner().probabilities(alarm)[0, 0] for alarm in alarms]
    assert len(alarms) >= 3
    assert min(scores) > 0.3  # cut anew, a patch differs a little from the level it was found on
    few = false_alarms(scanner(), photos, limit=2, seed=0)
    np.testing.assert_array_equal(few, alarms[:2])
    assert false_alarms(scanner(), [photo()], limit=5, seed=0).shape == (0, SIDE, SIDE, 3)
    assert not np.array_equal(false_alarms(scanner(), photos, limit=2, seed=1), few)  # other sizes


def test_patches_at_known_faces_are_no_false_alarms() -> None:
    image = photo((20, 20, 8), (70, 40, 14))
    face = [[16, 16, 16, 16]]  # the first square's patch
    alarms = false_alarms(scanner(replace(SEARCH, threshold=0.9)), [image], limit=50, seed=0, known=[face])
    every = false_alarms(scanner(replace(SEARCH, threshold=0.9)), [image], limit=50, seed=0, known=[[]])
    assert (len(alarms), len(every)) == (1, 2)


def test_a_cut_patch_is_the_photo_s_own_pixels_where_the_size_fits() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 61, 3), np.uint8)
    np.testing.assert_array_equal(cut(image, np.array([7.0, 9.0, 16.0, 16.0]), SPEC), image[9:25, 7:23])


def test_the_graph_of_an_exported_model_scores_every_patch() -> None:
    graph, image = plain(plain_graph.model()), np.random.default_rng(0).integers(0, 256, (21, 38, 3), np.uint8)
    found = Scanner(graph, plain_graph.SPEC, 0, SEARCH)
    assert found.why_windows is not None and found.stride == 8
    expected = np.empty((3, 5))
    for row, column in np.ndindex(3, 5):
        red, green, _ = image[8 * row : 8 * row + 4, 8 * column : 8 * column + 5].mean(axis=(0, 1))
        expected[row, column] = 1 / (1 + np.exp(2 * (green - red)))
    np.testing.assert_allclose(found.probabilities(image), expected, rtol=1e-3, atol=1e-12)
