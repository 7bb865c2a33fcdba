"""Learning rates over a run, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from facewright.errors import UsageError
from facewright.training.recipe_parts import Plateau, Schedule


@pytest.mark.parametrize(
    ("values", "steps", "step", "factor"),
    [
        ({"name": "constant"}, 100, 99, 1.0),
        ({"name": "step", "every": 10}, 200, 99, 1.0),  # the last step of epoch 10
        ({"name": "step", "every": 10}, 200, 100, 0.1),  # the first of epoch 11
        ({"name": "step", "every": 10, "factor": 0.5}, 300, 250, 0.25),
        ({"name": "cosine"}, 100, 0, 1.0),
        ({"name": "cosine"}, 100, 50, 0.5),
        ({"name": "cosine", "floor": 0.2}, 100, 50, 0.6),
        ({"name": "cosine", "warmup": 0.1}, 100, 4, 0.5),  # linear: the fifth of ten steps
        ({"name": "cosine", "warmup": 0.1}, 100, 10, 1.0),
        ({"name": "poly"}, 100, 0, 1.0),
        ({"name": "poly"}, 100, 50, 0.25),
        ({"name": "poly", "power": 1.0, "floor": 0.2, "warmup": 0.2}, 100, 60, 0.6),
        ({"name": "one-cycle", "warmup": 0.3}, 100, 0, 0.04),
        ({"name": "one-cycle", "warmup": 0.3}, 100, 30, 1.0),
        ({"name": "one-cycle", "warmup": 0.3}, 100, 65, 0.5),
    ],
)
def test_factor(values: dict[str, object], steps: int, step: int, factor: float) -> None:
    assert math.isclose(Schedule.from_dict(values).at(step, steps, 10), factor, abs_tol=1e-12)


@pytest.mark.parametrize("name", ["constant", "cosine", "one-cycle", "step", "plateau"])
def test_always_between_nothing_and_all(name: str) -> None:
    schedule = Schedule.from_dict({"name": name, "warmup": 0.25, "every": 2})
    assert all(0 < schedule.at(step, 40, 8) <= 1 for step in range(40))


def test_unknown_name() -> None:
    with pytest.raises(UsageError, match="'cosine'"):
        Schedule.from_dict({"name": "cosin"})


def test_plateau_lowers_after_its_patience_and_not_below_its_floor() -> None:
    schedule, plateau = Schedule(name="plateau", factor=0.1, patience=1, floor=0.05), Plateau()
    losses = [1.0, 0.9, 0.9, 0.95, 0.9, 0.9, 0.8]
    assert [plateau.update(loss, schedule) for loss in losses] == [False, False, False, True, False, True, False]
    assert plateau.scale == 0.05
