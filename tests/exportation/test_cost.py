"""What int8 costs: right and wrong answers on the same pictures."""

from __future__ import annotations

import numpy as np
import pytest

from facewright.errors import DataError
from facewright.exportation.agreement import ModelOutputs, measure_int8_cost

ANGLES = np.deg2rad([0.0, 10.0, 90.0, 100.0, 200.0])
PEOPLE = np.array(["ann", "ann", "bob", "bob", "cid"])


def on_circle(angles: np.ndarray, chances: list[list[float]] | None = None) -> ModelOutputs:
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    rows = None if chances is None else np.array(chances)
    return ModelOutputs(vectors, np.ones(len(angles)), rows, rows, None if rows is None else rows.max(1))


def test_pictures_of_its_classes_are_named() -> None:
    before = [[0.9, 0.1, 0], [0.9, 0.1, 0], [0.1, 0.9, 0], [0.1, 0.9, 0], [0.5, 0.3, 0.2]]
    after = [[0.9, 0.1, 0], [0.1, 0.9, 0], [0.1, 0.9, 0], [0.9, 0.1, 0], [0, 0, 1]]
    found = measure_int8_cost(
        on_circle(ANGLES, before), on_circle(ANGLES, after), PEOPLE, ("ann", "bob", "cid"), "by hand"
    )
    assert (found.question, found.float32.value, found.int8.value, found.int8.n) == ("class", 0.8, 0.6, 5)
    assert (found.lost, found.won, found.p_value) == (2, 1, 1.0)


def test_others_are_looked_for_among_their_like() -> None:
    turned = np.deg2rad([0.0, 85.0, 90.0, 100.0, 200.0])  # ann's second picture now looks like bob
    found = measure_int8_cost(on_circle(ANGLES), on_circle(turned), PEOPLE, (), "by hand")
    assert found.question == "nearest"
    assert (found.float32.value, found.float32.n) == (1.0, 4)  # cid is on one picture, and cannot be found again
    # Now wrong: ann's second, which is nearest to bob, and bob's first, which is nearest to it.
    assert (found.int8.value, found.lost, found.won) == (0.5, 2, 0)
    assert found.auc_float32 == 1.0 and found.auc_int8 < 1.0
    assert found.eer_float32 == 0.0 and found.eer_int8 > 0.0


def test_a_class_that_the_model_does_not_know_makes_it_a_search() -> None:
    chances = [[1.0, 0.0]] * 5
    found = measure_int8_cost(on_circle(ANGLES, chances), on_circle(ANGLES, chances), PEOPLE, ("ann", "bob"), "by hand")
    assert found.question == "nearest"


def test_nobody_on_two_pictures_is_refused() -> None:
    with pytest.raises(DataError, match="at least two images"):
        measure_int8_cost(on_circle(ANGLES), on_circle(ANGLES), np.array(list("abcde")), (), "by hand")
