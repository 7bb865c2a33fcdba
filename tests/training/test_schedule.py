"""Learning rates over a run, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from facewright.errors import UsageError
from facewright.training.schedule import Plateau, Schedule


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        (Schedule("constant", 100, 10), 99, 1.0),
        (Schedule("step", 200, 10, every=10), 99, 1.0),  # the last step of epoch 10
        (Schedule("step", 200, 10, every=10), 100, 0.1),  # the first of epoch 11
        (Schedule("step", 300, 10, every=10, factor=0.5), 250, 0.25),
        (Schedule("cosine", 100, 10), 0, 1.0),
        (Schedule("cosine", 100, 10), 50, 0.5),
        (Schedule("cosine", 100, 10, floor=0.2), 50, 0.6),
        (Schedule("cosine", 100, 10, warmup=0.1), 4, 0.5),  # linear: the fifth of ten steps
        (Schedule("cosine", 100, 10, warmup=0.1), 10, 1.0),
        (Schedule("one-cycle", 100, 10, warmup=0.3), 0, 0.04),
        (Schedule("one-cycle", 100, 10, warmup=0.3), 30, 1.0),
        (Schedule("one-cycle", 100, 10, warmup=0.3), 65, 0.5),
    ],
)
def test_factor(schedule: Schedule, step: int, factor: float) -> None:
    assert math.isclose(schedule.at(step), factor, abs_tol=1e-12)


@pytest.mark.parametrize("name", ["constant", "cosine", "one-cycle", "step", "plateau"])
def test_always_between_nothing_and_all(name: str) -> None:
    schedule = Schedule(name, 40, 8, warmup=0.25, every=2)
    assert all(0 < schedule.at(step) <= 1 for step in range(40))


def test_unknown_name() -> None:
    with pytest.raises(UsageError, match="known: constant, cosine"):
        Schedule("cosin", 1, 1)


def test_plateau_lowers_after_its_patience_and_not_below_its_floor() -> None:
    plateau = Plateau(factor=0.1, patience=1, floor=0.05)
    losses = [1.0, 0.9, 0.9, 0.95, 0.9, 0.9, 0.8]
    assert [plateau.update(loss) for loss in losses] == [False, False, False, True, False, True, False]
    assert plateau.scale == 0.05
