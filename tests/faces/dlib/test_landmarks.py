"""The cascade of trees, on one that is small enough to follow by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from facewright.errors import WeightsError
from facewright.faces.dlib.detection import LANDMARKS, FivePoints
from facewright.images import Pixels

CENTRE = 2


def arrays(**changed: object) -> dict[str, np.ndarray]:
    """One step of one tree of one node: is the pixel a quarter above the middle brighter than the one below it?

    If so, all points move to the right by a tenth of the box, else down by a fifth.
    """
    leaves = np.zeros((1, 1, 2, 5, 2))
    leaves[0, 0, 0, :, 0] = 0.1
    leaves[0, 0, 1, :, 1] = 0.2
    values = {
        "mean_face": [[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1]],
        "anchors": [[CENTRE, CENTRE]],
        "offsets": [[[0, -0.25], [0, 0.25]]],
        "first": [[[0]]],
        "second": [[[1]]],
        "thresholds": [[[10.0]]],
        "leaves": leaves,
    }
    return {name: np.array(array, np.float32) for name, array in (values | changed).items()}


def half_bright(above: int, below: int) -> Pixels:
    photo = np.zeros((101, 101, 3), np.uint8)
    photo[:50], photo[50:] = above, below
    return photo


@pytest.mark.parametrize(
    ("above", "below", "moved"),
    [
        (100, 0, (10, 0)),
        (0, 100, (0, 20)),
        (110, 100, (0, 20)),  # 10 more is not more than the threshold of 10
        (111, 100, (10, 0)),
    ],
)
def test_brightness_decides_where_the_points_go(above: int, below: int, moved: tuple[int, int]) -> None:
    points = FivePoints.from_arrays(arrays()).of(half_bright(above, below), [[0, 0, 101, 101]])
    wanted = np.array([[0, 0], [100, 0], [50, 50], [0, 100], [100, 100]]) + moved
    assert points.tolist() == [wanted.tolist()]


def test_points_follow_the_box_and_every_face_has_its_own() -> None:
    photo = half_bright(100, 0)
    points = FivePoints.from_arrays(arrays()).of(photo, [[0, 0, 101, 101], [20, 30, 41, 41], [20, 55, 41, 41]])
    assert points.shape == (3, 5, 2)
    assert points[1, CENTRE].tolist() == [20 + 20 + 4, 30 + 20]
    assert points[2, CENTRE].tolist() == [20 + 20, 55 + 20 + 8]  # all of it lies in the dark half


def test_pixels_outside_of_the_photo_are_black() -> None:
    bright = np.full((50, 50, 3), 200, np.uint8)
    points = FivePoints.from_arrays(arrays()).of(bright, [[0, 20, 41, 41]])  # the pixel below lies outside
    assert points[0, CENTRE].tolist() == [20 + 4, 40]


def test_no_box_no_points() -> None:
    assert FivePoints.from_arrays(arrays()).of(half_bright(1, 2), np.zeros((0, 4))).shape == (0, 5, 2)


@pytest.mark.parametrize(
    "changed",
    [
        {"anchors": [[5, 2]]},  # there are points 0 to 4
        {"second": [[[2]]]},  # there are pixels 0 and 1
        {"thresholds": [[[1.0, 2.0]]], "first": [[[0, 0]]], "second": [[[0, 0]]]},  # no full tree
        {"mean_face": [[0, 0], [1, 1]]},
        {"offsets": [[[0, 0], [0, 0]], [[0, 0], [0, 0]]]},  # of two steps
    ],
)
def test_trees_that_do_not_fit_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="no trees for five points"):
        FivePoints.from_arrays(arrays(**changed))


def test_tensors_that_are_missing_are_named() -> None:
    given = arrays()
    del given["leaves"]
    with pytest.raises(WeightsError, match="leaves"):
        FivePoints.from_arrays(given)


def test_another_file_of_dlibs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.dat").write_bytes(b"\x01\x01\x81\x04\x81\x01" + 4 * b"\x01\x01\x01\x00" + 8 * b"\x01\x00")
    with pytest.raises(WeightsError, match=r"no trees|cut short"):
        LANDMARKS.convert(tmp_path / "other.dat")
