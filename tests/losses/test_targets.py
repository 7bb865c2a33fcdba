"""The objective of targets against loops over images and targets, and the bias that training starts at."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from facewright.losses.targets import (
    TaskObjective,
    accuracy,
    attribute_losses,
    fixed_weights,
    starting_bias,
    target_losses,
)
from facewright.metrics.calibration import target_values
from facewright.specs import ObjectiveSpec, TaskSpec

NAN = float("nan")
TASK = TaskSpec.from_dict(
    {
        "targets": [
            {"name": "hat", "kind": "attribute", "weight": 3.0},
            {"name": "age", "kind": "number", "number": {"head": "dex", "low": 0.0, "high": 10.0, "bins": 3}},
            {"name": "race", "kind": "classes", "classes": ["a", "b"]},
            {"name": "smile", "kind": "attribute"},
            {"name": "rank", "kind": "number", "number": {"head": "coral", "low": 0.0, "high": 2.0, "bins": 3}},
            {"name": "yaw", "kind": "number", "number": {"head": "huber", "delta": 1.0, "low": -1.0, "high": 1.0}},
            {"name": "mood", "kind": "votes", "classes": ["glad", "sad"]},
        ]
    }
)
TRUTH = torch.tensor(
    [
        [1.0, 4.0, 1.0, NAN, 2.0, 0.5, 3.0, 1.0],
        [0.0, NAN, 0.0, NAN, NAN, -1.0, NAN, NAN],
        [NAN, 10.0, NAN, NAN, 0.0, NAN, 0.0, 2.0],
    ]
)


def test_the_columns_of_each_target() -> None:
    assert [part.scores for part in TASK.parts] == [
        slice(0, 1),
        slice(1, 4),
        slice(4, 6),
        slice(6, 7),
        slice(7, 9),
        slice(9, 10),
        slice(10, 12),
    ]
    assert len(TASK.scores) == len(set(TASK.scores)) == 12
    assert TASK.truths == ("hat", "age", "race", "smile", "rank", "yaw", "mood: glad", "mood: sad")
    assert TASK.values == ("hat", "age", "race: a", "race: b", "smile", "rank", "yaw", "mood: glad", "mood: sad")
    assert TaskSpec.from_dict(TASK.to_dict()) == TASK


def test_losses_against_a_loop() -> None:
    scores = torch.randn(3, 12, generator=torch.Generator().manual_seed(0)).double()
    p = 1 / (1 + np.exp(-scores.numpy()))

    def chosen(row: int, places: slice, label: int) -> float:
        return float(-torch.log_softmax(scores[row, places], 0)[label])

    wanted = {
        "hat": np.mean([-math.log(p[0, 0]), -math.log(1 - p[1, 0])]),
        "age": np.mean([chosen(0, slice(1, 4), 1), chosen(2, slice(1, 4), 2)]),
        "race": np.mean([chosen(0, slice(4, 6), 1), chosen(1, slice(4, 6), 0)]),
        "smile": 0.0,
        "rank": np.mean([-math.log(p[0, 7]) - math.log(p[0, 8]), -math.log(1 - p[2, 7]) - math.log(1 - p[2, 8])]) / 2,
        "yaw": np.mean(
            [h * h / 2 if (h := abs(float(scores[r, 9]) - t)) < 1 else h - 0.5 for r, t in ((0, 0.5), (1, -1))]
        ),
        "mood": np.mean(
            [0.75 * chosen(0, slice(10, 12), 0) + 0.25 * chosen(0, slice(10, 12), 1), chosen(2, slice(10, 12), 1)]
        ),
    }
    losses = target_losses(scores, TRUTH, TASK)
    np.testing.assert_allclose(losses, [wanted[name] for name in TASK.names], rtol=1e-6)
    head = nn.Identity()
    head.embed = head.classify = lambda x: x  # type: ignore[assignment]
    loss, _ = TaskObjective(ObjectiveSpec(), TASK)(head, scores, TRUTH, 0)
    assert float(loss) == pytest.approx((3 * losses[0] + losses[1:].sum()).item() / 9, rel=1e-6)
    learned = TaskObjective(ObjectiveSpec(weighting="uncertainty"), TASK)
    halves = [0.5 if target.number is not None else 1.0 for target in TASK.targets]
    assert learned(head, scores, TRUTH, 0)[0].item() == pytest.approx(
        float((torch.tensor(halves) * losses).sum()), rel=1e-6
    )
    assert float(fixed_weights(TASK).sum()) == pytest.approx(1)


@pytest.mark.parametrize(("gamma", "smoothing"), [(0.0, 0.2), (2.0, 0.0)])
def test_attributes_against_a_loop(gamma: float, smoothing: float) -> None:
    scores, truth = torch.tensor([[2.0], [-1.0], [0.5]]).double(), torch.tensor([[1.0], [1.0], [NAN]])
    total = 0.0
    for z, t in ((2.0, 1.0), (-1.0, 1.0)):
        p, t = 1 / (1 + math.exp(-z)), t * (1 - smoothing) + smoothing / 2
        total += -((1 - (t * p + (1 - t) * (1 - p))) ** gamma) * (t * math.log(p) + (1 - t) * math.log(1 - p)) / 2
    assert float(attribute_losses(scores, truth, gamma, smoothing)) == pytest.approx(total, rel=1e-6)


def test_accuracy_is_over_known_answers() -> None:
    scores = torch.zeros(3, 12)
    scores[0, 0], scores[1, 0] = 1.0, 1.0  # hat: right, wrong
    scores[0, 5], scores[1, 4] = 1.0, 1.0  # race: both right
    scores[0, 10], scores[2, 10] = 1.0, 1.0  # mood: right, wrong
    assert float(accuracy(scores, TRUTH, TASK)) == pytest.approx(
        (0.5 + 1 + 0.5 + 0 + 0.5 + 0) / 6
    )  # of the numbers, rank alone is near


def test_training_starts_at_the_frequencies() -> None:
    bias = starting_bias(TRUTH, TASK)
    assert bias[0] == 0.0 and bias[6] == 0.0  # one yes, one no; nothing known
    values = target_values(bias[None].double().numpy(), TASK)[0]
    assert values[TASK.values.index("yaw")] == pytest.approx(-1.0)  # the lower median
    assert values[2] == pytest.approx(values[3])
    np.testing.assert_allclose(
        torch.softmax(bias[1:4].double(), 0), [1 / 9, 4 / 9, 4 / 9]
    )  # 4 is nearest to 5; a third is added to each
    np.testing.assert_allclose(torch.sigmoid(bias[7:9]), [5 / 9, 4 / 9])  # above 0, above 1


def test_values_are_what_the_scores_stand_for() -> None:
    scores = np.zeros((1, 12))
    scores[0, 1:4], scores[0, 7:9], scores[0, 9] = np.log([1, 1, 2]), [1, -1], 1.0
    values = target_values(scores, TASK)[0]
    np.testing.assert_allclose(values[[0, 1, 5, 6]], [0.5, 0.25 * 5 + 0.5 * 10, 1.0, 1.0])
