"""The photo with its boxes: what is drawn where, and that the photo itself is not drawn on."""

from __future__ import annotations

import numpy as np

from facewright.report.faces import FOUND, TRUE, draw_boxes


def test_found_and_true_boxes_are_drawn_in_their_colours() -> None:
    photo = np.zeros((120, 160, 3), np.uint8)
    page = draw_boxes(photo, [[20, 40, 50, 60]], [0.987], [[100, 30, 40, 40]])
    assert page.shape == photo.shape
    assert not photo.any()
    assert tuple(page[70, 20]) == FOUND  # its left edge
    assert tuple(page[100, 45]) == FOUND  # its lower edge
    assert tuple(page[50, 100]) == TRUE
    assert not page[70, 45].any()  # inside, nothing is covered
    assert (page[28:39, 20:50] == FOUND).all(axis=2).any()  # the score above it


def test_boxes_at_and_over_the_edge_keep_their_score_inside() -> None:
    photo = np.zeros((60, 60, 3), np.uint8)
    page = draw_boxes(photo, [[-10, -10, 80, 30]], [1.0])
    assert (page[:14] == FOUND).all(axis=2).any()


def test_nothing_found_gives_the_photo() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    np.testing.assert_array_equal(draw_boxes(photo, [], []), photo)
