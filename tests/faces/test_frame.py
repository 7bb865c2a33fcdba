"""Where the face lies in its patch: applied, and fitted."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from facewright.errors import Undefined, UsageError
from facewright.faces import boxes as frame
from facewright.faces.boxes import Frame, fit_frame


def test_the_example_holds() -> None:
    ran = doctest.testmod(frame)
    assert (ran.attempted > 0, ran.failed) == (True, 0)


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
