"""Losses of numbers and votes, and uncertainty weights, against loops and numerical gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from facewright.errors import UsageError
from facewright.losses.numbers import (
    UncertaintyWeights,
    absolute_error,
    expected_value_loss,
    ordinal_loss,
    ranks,
    vote_loss,
)

NAN = float("nan")
TRUTH = torch.tensor([21.0, NAN, 48.6, 3.0, 120.0], dtype=torch.float64)
LOW, HIGH, BINS = 0.0, 100.0, 21  # 5 apart
NEAREST = [4, None, 10, 1, 20]


def scores(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("delta", [0.0, 0.5, 30.0])
def test_absolute_error_and_huber(delta: float) -> None:
    given, total = scores(5) * 30 + 30, 0.0
    for score, truth in zip(given.tolist(), TRUTH.tolist(), strict=True):
        if math.isnan(truth):
            continue
        error = abs(score - truth)
        total += error**2 / 2 / delta if error < delta else error - delta / 2
    assert float(absolute_error(given, TRUTH, delta)) == pytest.approx(total / 4)
    assert torch.autograd.gradcheck(lambda x: absolute_error(x, TRUTH, delta), given.requires_grad_())


def test_the_bins() -> None:
    assert ranks(TRUTH, BINS, LOW, HIGH).tolist() == [4, 0, 10, 1, 20]
    assert ranks(torch.tensor([-40.0, -1.0, 39.0]), 81, -40.0, 40.0).tolist() == [0, 39, 79]


def test_expected_value_loss() -> None:
    given, total = scores(5, BINS), 0.0
    for row, place in zip(np.asarray(given), NEAREST, strict=True):
        if place is not None:
            total -= row[place] - math.log(sum(math.exp(value) for value in row))
    assert float(expected_value_loss(given, TRUTH, LOW, HIGH)) == pytest.approx(total / 4)
    assert torch.autograd.gradcheck(lambda x: expected_value_loss(x, TRUTH, LOW, HIGH), given.requires_grad_())


def test_ordinal_loss() -> None:
    given, total = scores(5, BINS - 1), 0.0
    for row, place in zip(np.asarray(given), NEAREST, strict=True):
        for k, value in enumerate(row) if place is not None else ():
            chance = 1 / (1 + math.exp(-value))
            total -= math.log(chance if place > k else 1 - chance)  # type: ignore[operator]
    assert float(ordinal_loss(given, TRUTH, LOW, HIGH)) == pytest.approx(total / 4)
    assert torch.autograd.gradcheck(lambda x: ordinal_loss(x, TRUTH, LOW, HIGH), given.requires_grad_())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_vote_loss(smoothing: float) -> None:
    given, total = scores(4, 3), 0.0
    votes = torch.tensor([[7.0, 3.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 2.0], [NAN, 1.0, 0.0]], dtype=torch.float64)
    for i in (0, 2):
        row = given[i].tolist()
        normal = math.log(sum(math.exp(value) for value in row))
        for c in range(3):
            share = float(votes[i, c] / votes[i].sum()) * (1 - smoothing) + smoothing / 3
            total -= share * (row[c] - normal)
    assert float(vote_loss(given, votes, smoothing)) == pytest.approx(total / 2)
    assert torch.autograd.gradcheck(lambda x: vote_loss(x, votes, smoothing), given.requires_grad_())


@pytest.mark.parametrize(
    ("loss", "width"),
    [
        (lambda x: absolute_error(x[:, 0], torch.full((2,), NAN)), 1),
        (lambda x: expected_value_loss(x, torch.full((2,), NAN), 0.0, 1.0), 4),
        (lambda x: ordinal_loss(x, torch.full((2,), NAN), 0.0, 1.0), 4),
        (lambda x: vote_loss(x, torch.zeros(2, 4)), 4),
    ],
)
def test_a_batch_of_which_nothing_is_known_moves_nothing(loss: object, width: int) -> None:
    given = torch.full((2, width), 1e4, requires_grad=True)
    value = loss(given)  # type: ignore[operator]
    value.backward()
    assert value.item() == 0 and given.grad is not None and (given.grad == 0).all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind: torch.dtype) -> None:
    given = scores(5, BINS).float()
    for loss in (lambda x: expected_value_loss(x, TRUTH, LOW, HIGH), lambda x: ordinal_loss(x, TRUTH, LOW, HIGH)):
        assert loss(given.to(kind)).dtype is torch.float32
        assert torch.equal(loss(given.to(kind)), loss(given.to(kind).float()))


def test_uncertainty_weights() -> None:
    weights = UncertaintyWeights([True, False])
    losses = torch.tensor([4.0, 0.5])
    assert weights(losses).item() == pytest.approx(0.5 * 4 + 0.5)  # at the start
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor([1.2, -0.3]))
    expected = 4 / (2 * math.exp(1.2)) + 1.2 / 2 + 0.5 / math.exp(-0.3) - 0.3 / 2  # sigma^2 = exp(s), log sigma = s / 2
    assert weights(losses).item() == pytest.approx(expected)
    # At the minimum, sigma^2 is the loss of a number, and twice that of a class.
    with torch.no_grad():
        weights.log_variances.copy_(torch.tensor([4.0, 1.0]).log())
    (slope,) = torch.autograd.grad(weights(losses), weights.log_variances)
    assert slope.tolist() == pytest.approx([0, 0], abs=1e-6)
    with pytest.raises(UsageError):
        weights(torch.zeros(3))
