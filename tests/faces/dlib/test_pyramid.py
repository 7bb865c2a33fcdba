"""The layout of a pyramid, and the way of a box from its image back to the photo."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from facewright.faces.dlib.detection import LEAST, MARGIN, OUTER, lay_out


@pytest.mark.parametrize("size", [(250, 250), (60, 60), (480, 360), (100, 700), (700, 100), (12, 40), (6, 6), (5, 5)])
def test_levels_lie_in_the_image_and_never_touch(size: tuple[int, int]) -> None:
    layout = lay_out(*size)
    taken = np.zeros((layout.height, layout.width), np.int64)
    for left, top, width, height in layout.levels:
        assert min(left, top) >= OUTER
        assert left + width + OUTER <= layout.width and top + height + OUTER <= layout.height
        grown = slice(max(top - MARGIN, 0), top + height), slice(max(left - MARGIN, 0), left + width)
        assert not taken[top : top + height, left : left + width].any()
        taken[grown] += 1
    assert layout.levels[0][2:] == (size[1], size[0])
    sides = [(height, width) for _, _, width, height in layout.levels]
    for before, after in pairwise(sides):
        assert after == (5 * before[0] // 6, 5 * before[1] // 6)
    assert all(height >= LEAST for height, _ in sides[1:])


def test_levels_are_the_photo_made_smaller() -> None:
    photo = np.tile(np.arange(1, 61, dtype=np.uint8)[None, :, None], (60, 1, 3))  # a ramp from 1 to 60
    layout = lay_out(60, 60)
    image = layout.draw(photo, (200.0, 200.0, 200.0))
    assert image.shape == (layout.height, layout.width, 3)
    inside = np.zeros((layout.height, layout.width), np.bool_)
    for left, top, width, height in layout.levels:
        level = image[top : top + height, left : left + width]
        for row in (level[0, :, 0], level[-1, :, 2]):
            np.testing.assert_allclose(row, np.linspace(1, 60, width), rtol=1e-5)  # from the first pixel to the last
        inside[top : top + height, left : left + width] = True
    assert (image[~inside] == 200).all()


def test_boxes_come_back_to_the_place_in_the_photo() -> None:
    layout = lay_out(250, 250)
    rng = np.random.default_rng(0)
    for number, (left, top, width, height) in enumerate(layout.levels[:8]):
        places = rng.uniform(0.2, 0.8, (5, 2)) * (width, height)
        boxes = layout.in_photo(places + np.array([left, top]), 21.0)
        growth = 1.2**number
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:] / 2, places * growth, atol=1.5 + 0.5 * number)
        np.testing.assert_allclose(boxes[:, 2:], 21 * growth, atol=1 + growth)
        assert (boxes == boxes.round()).all()


def test_a_box_between_two_levels_belongs_to_the_nearer() -> None:
    layout = lay_out(60, 60)
    (_, first, _, height), (_, second, _, _) = layout.levels[:2]
    edge = first + height - 1
    near, far = layout.in_photo(np.array([[30.0, edge + 2], [30.0, second - 2]]), 11)
    assert near[2] == 11 and far[2] == 13  # 1.2 times 11
