"""Losses of numbers and votes, and uncertainty weights, against loops and numerical gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from facewright.errors import UsageError
from facewright.heads import TiedLinear, build, last_layer
from facewright.losses.targets import (
    UncertaintyWeights,
    absolute_error,
    expected_value_loss,
    number_bias,
    number_loss,
    number_values,
    ordinal_loss,
    ranks,
    vote_loss,
)
from facewright.metrics import calibration
from facewright.specs import HeadSpec, NumberSpec

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


SPECS = {
    head: NumberSpec.from_dict({"head": head, "bins": 21, "low": -20.0, "high": 80.0})
    for head in ("l1", "huber", "dex", "coral")
}


@pytest.mark.parametrize("head", SPECS)
def test_a_number_is_what_its_head_means(head: str) -> None:
    spec, given = SPECS[head], scores(7, SPECS[head].scores, seed=3)
    values = number_values(given, spec)
    assert torch.allclose(values.double(), torch.from_numpy(calibration.number_values(np.asarray(given), spec)))
    for row, value in zip(given.tolist(), values.tolist(), strict=True):
        if head == "dex":
            total = sum(math.exp(one) for one in row)
            expected = sum(math.exp(one) / total * (-20 + 5 * k) for k, one in enumerate(row))
        elif head == "coral":
            expected = -20 + 5 * sum(one > 0 for one in row)
        else:
            expected = 30 + 50 * row[0]
        assert value == pytest.approx(expected)


@pytest.mark.parametrize("head", SPECS)
def test_training_starts_at_the_training_part(head: str) -> None:
    """Without any features, no other biases have a lower loss than the ones that training starts with."""
    spec = SPECS[head]
    truth = torch.tensor([0.0, 5.0, 5.0, 10.0, 10.0, 10.0, 60.0, 60.0, NAN] * 40, dtype=torch.float64)
    bias = number_bias(truth, spec).double().requires_grad_()
    value = number_values(bias.detach()[None], spec).item()
    assert value == pytest.approx({"dex": 20.0}.get(head, 10.0), abs=0.5)  # the mean; else the median
    if head in ("dex", "coral"):
        (slope,) = torch.autograd.grad(number_loss(bias.expand(360, -1), truth, spec), bias)
        assert slope.abs().max() < 0.005  # but for what smooths the counts


def test_the_scores_of_a_run_share_their_weights_and_so_fall() -> None:
    torch.manual_seed(0)
    head = build(HeadSpec(), features=6, classes=7, tied=[slice(2, 6)])
    layer = last_layer(head)
    assert isinstance(layer, TiedLinear)
    features = torch.randn(5, 6)
    given = head(features)
    for k in range(7):
        row = layer.weight[2 if 2 <= k < 6 else k]
        assert torch.allclose(given[:, k], features @ row + layer.bias[k])
    given[:, 2:6].sum().backward()
    assert layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad[2], 4 * features.sum(0), atol=1e-5)
    assert (layer.weight.grad[3:6] == 0).all() and (layer.weight[3:6] == 0).all()
    assert set(head.state_dict()) == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(
    "wrong", [{"low": 3.0, "high": 3.0}, {"bins": 1}, {"head": "l2"}, {"level": 1.0}, {"tolerance": -1}, {"low": 1e12}]
)
def test_settings_of_a_number_are_checked(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        NumberSpec.from_dict(wrong)
