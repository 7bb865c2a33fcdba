"""Chips: the similarity against known ones, halving against a loop, sampling where the answer is known."""

from __future__ import annotations

import cmath

import numpy as np
import pytest

from facewright.errors import UsageError
from facewright.faces import alignment
from facewright.faces.alignment import ARCFACE, ARCFACE_CORNERS, DLIB, Template, align_face, halve, similarity
from facewright.images import Pixels

TEMPLATES = [DLIB, ARCFACE, ARCFACE_CORNERS]


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ramp(height: int, width: int) -> Pixels:
    """Red tells the column, green the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8)


def as_pairs(points: np.ndarray) -> np.ndarray:
    return np.stack([points.real, points.imag], axis=-1)


@pytest.mark.parametrize("turn", [1.0, 2j, cmath.rect(0.3, 2.0), cmath.rect(5, -0.4)])
@pytest.mark.parametrize("shift", [0, 100 - 7j])
def test_a_similarity_is_found_again(turn: complex, shift: complex) -> None:
    source = np.random.default_rng(0).normal(size=(5, 2))
    target = as_pairs(turn * (source @ [1, 1j]) + shift)
    found = similarity(source, target)
    assert found == (pytest.approx(turn), pytest.approx(shift))


def test_a_mirror_image_is_not_mirrored_back() -> None:
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    turn, shift = similarity(square, square * [-1, 1])
    assert turn == pytest.approx(0) and shift == pytest.approx(-0.5 + 0.5j)


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_points_that_lie_on_the_template_give_the_photo_itself(template: Template) -> None:
    side = template.side
    photo = noise(side, side)
    found = align_face(photo, np.array(template.points) * side, template=template)
    assert found.shape == (side, side, 3) and found.dtype == np.uint8
    wanted = photo.astype(int)
    if template.rule == "corners":  # dlib's: half a pixel off, for the middle of the chip is taken as side / 2
        wanted = (wanted[:-1, :-1] + wanted[1:, :-1] + wanted[:-1, 1:] + wanted[1:, 1:]) // 4
    assert np.abs(found[1:-2, 1:-2] - wanted[1 : side - 2, 1 : side - 2]).max() <= 1  # rounded down


@pytest.mark.parametrize("size", [40, 112, 150])
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_the_points_land_on_the_template(template: Template, size: int) -> None:
    photo = ramp(250, 250)
    turn = cmath.rect(120, 0.35)
    places = as_pairs(turn * (np.array(template.points) @ [1, 1j]) + 80 + 30j)  # in the photo
    found = align_face(photo, places, size, template)
    for (x, y), wanted in zip(np.array(template.points) * size, places, strict=True):
        column, row = int(x), int(y)
        seen = found[row, column, :2]
        there = turn * complex(column, row) / size + 80 + 30j
        assert abs(complex(*seen) - there) < 2.5
        assert abs(complex(*seen) - complex(*wanted)) < 2.5 + 2 * 120 / size


def test_halving_is_the_filter_written_as_a_loop() -> None:
    photo = noise(13, 18)
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    wanted = np.zeros((5, 7, 3), np.uint8)
    for row in range(5):
        for column in range(7):
            patch = photo[2 * row : 2 * row + 5, 2 * column : 2 * column + 5].astype(int)
            wanted[row, column] = (patch * kernel[..., None]).sum((0, 1)) // 256
    np.testing.assert_array_equal(halve(photo), wanted)
    assert halve(noise(8, 30)).size == 0


def test_a_large_face_is_averaged_and_not_skipped() -> None:
    photo = np.zeros((1200, 1200, 3), np.uint8)
    photo[::2, ::2] = 255  # a quarter is white: a chip that skips would see all or nothing
    found = align_face(photo, np.array(DLIB.points) * 900 + 100)
    inner = found[5:-5, 5:-5].astype(int)
    assert abs(inner.mean() - 255 / 4) < 3 and inner.std() < 4


def test_outside_of_the_photo_is_black() -> None:
    photo = np.full((40, 40, 3), 200, np.uint8)
    found = align_face(photo, np.array(DLIB.points) * 150 - 100)
    assert found[-1, -1].tolist() == [0, 0, 0] and found[110, 110].tolist() == [200, 200, 200]
    assert not align_face(photo, np.array(DLIB.points) * 150 + 5_000).any()


@pytest.mark.parametrize(
    ("points", "size", "said"),
    [
        (np.zeros((4, 2)), 150, "expected 5 points x, y for the template dlib"),
        (np.full((5, 2), np.nan), 150, "expected 5 points"),
        (np.ones((5, 2)), 150, "all but fall onto one"),
        (np.array(DLIB.points), 1, "got 1"),
    ],
)
def test_what_gives_no_chip(points: np.ndarray, size: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        align_face(noise(20, 20), points, size)


def test_the_templates_agree_with_each_other() -> None:
    # dlib's corners of the eyes and ArcFace's middles of them, in one chip of 112 px
    corners = np.array(ARCFACE_CORNERS.points) * 112
    middles = np.array(ARCFACE.points) * 112
    assert np.abs((corners[2] + corners[3]) / 2 - middles[0]).max() < 1.1  # on the left of the picture
    assert np.abs((corners[0] + corners[1]) / 2 - middles[1]).max() < 1.1
    assert middles[2, 1] < corners[4, 1] < middles[3, 1]  # tip of the nose, base of it, mouth
    turn, shift = alignment.similarity(DLIB.points, ARCFACE_CORNERS.points)
    assert abs(turn.imag) < 0.01 and abs(turn * (0.5 + 0.5j) + shift - (0.5 + 0.5j)) < 0.15
