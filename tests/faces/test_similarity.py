"""The similarity and the chip over many drawn faces: against Umeyama's closed form by SVD, and what must not change."""

from __future__ import annotations

import cmath
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from facewright.faces.alignment import ARCFACE, similarity

FEW = settings(max_examples=60, deadline=None, derandomize=True)
coordinates = st.floats(-500, 500, allow_nan=False, width=32)
turns = st.builds(cmath.rect, st.floats(0.05, 20), st.floats(-3.14, 3.14))
shifts = st.builds(complex, coordinates, coordinates)


@st.composite
def faces(draw: Any) -> np.ndarray:
    """(5, 2) points around ArcFace's, far from falling onto one."""
    noise = draw(st.lists(st.floats(-8, 8), min_size=10, max_size=10))
    return np.array(ARCFACE.points) * ARCFACE.side + np.reshape(noise, (5, 2))


def umeyama(source: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """Turn and scale, and shift, by the singular values of the covariance (Umeyama 1991, eq. 40 to 42)."""
    origin, goal = source - source.mean(0), target - target.mean(0)
    left, values, right = np.linalg.svd(goal.T @ origin / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = left @ np.diag(sign) @ right
    scale = (values * sign).sum() / origin.var(0).sum()
    turn = scale * complex(rotation[0, 0], rotation[1, 0])
    shift = target.mean(0) - scale * rotation @ source.mean(0)
    return turn, complex(*shift)


def moved(points: np.ndarray, turn: complex, shift: complex) -> np.ndarray:
    places = turn * (points @ [1, 1j]) + shift
    return np.stack([places.real, places.imag], axis=-1)


@FEW
@given(faces(), faces(), turns, shifts)
def test_it_is_umeyamas(source: np.ndarray, face: np.ndarray, turn: complex, shift: complex) -> None:
    target = moved(face, turn, shift)
    found, wanted = similarity(source, target), umeyama(source, target)
    assert abs(found[0] - wanted[0]) < 1e-9 * abs(turn)
    assert abs(found[1] - wanted[1]) < 1e-7 * (1 + abs(shift) + abs(turn) * 200)


@FEW
@given(faces(), faces(), turns, shifts)
def test_no_other_similarity_lies_nearer(source: np.ndarray, target: np.ndarray, turn: complex, shift: complex) -> None:
    best_turn, best_shift = similarity(source, target)

    def away(a: complex, b: complex) -> float:
        return float(((moved(source, a, b) - target) ** 2).sum())

    least = away(best_turn, best_shift)
    assert least <= away(turn, shift) + 1e-6
    for step in (1e-3, 1e-3j):  # no way down from it either
        assert least <= away(best_turn + step, best_shift - step * complex(*source.mean(0))) + 1e-9
        assert least <= away(best_turn, best_shift + step) + 1e-9


@FEW
@given(faces(), faces(), turns, shifts)
def test_turning_the_photo_turns_the_answer(
    source: np.ndarray, face: np.ndarray, turn: complex, shift: complex
) -> None:
    plain, changed = similarity(source, face), similarity(source, moved(face, turn, shift))
    assert abs(changed[0] - turn * plain[0]) < 1e-9 * abs(turn)
    assert abs(changed[1] - (turn * plain[1] + shift)) < 1e-7 * (1 + abs(shift) + abs(turn) * 200)
