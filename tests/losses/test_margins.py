"""Margin losses against angles written out, by numerical gradients, and at the ends of the circle."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from facewright.errors import UsageError
from facewright.losses.classification import NormQuality, a_softmax, a_softmax_blend, adaface, arcface, cosface

B, C = 12, 5


def cosines(seed: int = 0) -> Tensor:
    """(12, 5), own cosines from nearly -1 to nearly 1."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(B, C, dtype=torch.float64, generator=generator) * 1.9 - 0.95
    return values.scatter(1, labels().unsqueeze(1), torch.linspace(-0.99, 0.99, B, dtype=torch.float64).unsqueeze(1))


def labels() -> Tensor:
    return torch.arange(B) % C


def lengths() -> Tensor:
    return torch.linspace(0.5, 6, B, dtype=torch.float64)


def cross_entropy_of(rows: list[list[float]], weights: list[float]) -> float:
    total = 0.0
    for row, label in zip(rows, labels().tolist(), strict=True):
        total += weights[label] * (math.log(sum(math.exp(value) for value in row)) - row[label])
    return total / B


def replaced(own, factors) -> list[list[float]]:
    """factor_i * cosine, and factor_i * own(theta) for the picture's class."""
    rows = []
    for row, label, factor in zip(cosines().tolist(), labels().tolist(), factors, strict=True):
        changed = [factor * value for value in row]
        changed[label] = factor * own(math.acos(row[label]))
        rows.append(changed)
    return rows


def arc_own(margin: float):
    def own(theta: float) -> float:
        inside = theta + margin < math.pi
        return math.cos(theta + margin) if inside else math.cos(theta) - math.sin(math.pi - margin) * margin

    return own


def psi(margin: int, blend: float):
    def own(theta: float) -> float:
        k = next(k for k in range(margin) if theta <= (k + 1) * math.pi / margin + 1e-12)
        return (blend * math.cos(theta) + (-1) ** k * math.cos(margin * theta) - 2 * k) / (1 + blend)

    return own


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 3.0, 0.1]], ids=["even", "weighted"])
@pytest.mark.parametrize("margin", [0.0, 0.35])
def test_cosface(margin: float, weights: list[float] | None) -> None:
    expected = cross_entropy_of(replaced(lambda t: math.cos(t) - margin, [16.0] * B), weights or [1.0] * C)
    heavy = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    assert math.isclose(cosface(cosines(), labels(), 16.0, margin, heavy), expected, rel_tol=1e-12)
    assert torch.autograd.gradcheck(lambda x: cosface(x, labels(), 16.0, margin, heavy), cosines().requires_grad_())


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 3.0, 0.1]], ids=["even", "weighted"])
@pytest.mark.parametrize("margin", [0.0, 0.5, 1.2])
def test_arcface(margin: float, weights: list[float] | None) -> None:
    expected = cross_entropy_of(replaced(arc_own(margin), [16.0] * B), weights or [1.0] * C)
    heavy = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    assert math.isclose(arcface(cosines(), labels(), 16.0, margin, heavy), expected, rel_tol=1e-12)
    assert torch.autograd.gradcheck(lambda x: arcface(x, labels(), 16.0, margin, heavy), cosines().requires_grad_())


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("blend", [0.0, 5.0])
def test_a_softmax(margin: int, blend: float) -> None:
    expected = cross_entropy_of(replaced(psi(margin, blend), lengths().tolist()), [1.0] * C)
    assert math.isclose(a_softmax(cosines(), lengths(), labels(), margin, blend), expected, rel_tol=1e-12)
    inputs = (cosines().requires_grad_(), lengths().requires_grad_())
    assert torch.autograd.gradcheck(lambda x, y: a_softmax(x, y, labels(), margin, blend), inputs)


LOSSES = {
    "cosface": lambda x, y: cosface(x, y, 30.0, 0.35),
    "arcface": lambda x, y: arcface(x, y, 30.0, 0.5),
    "a-softmax": lambda x, y: a_softmax(x, torch.full((len(x),), 5.0), y, 4),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_worse_own_cosine_never_costs_less(name: str) -> None:
    """From an angle of 0 to one of pi, also beyond pi - m, where cos(theta + m) alone would rise again."""
    own = torch.linspace(1, -1, 2001, dtype=torch.float32)
    losses = [LOSSES[name](torch.stack([value, torch.tensor(0.0)]).unsqueeze(0), torch.tensor([0])) for value in own]
    assert all(later >= earlier for earlier, later in itertools.pairwise(losses))
    assert losses[0] < losses[-1]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("own", [1.0, -1.0, 1.0 + 1e-6, -1.0 - 1e-6])  # the last two as rounding leaves them
def test_ends_of_the_circle(name: str, own: float) -> None:
    x = torch.tensor([[own, 0.3], [0.3, own]], requires_grad=True)
    loss = LOSSES[name](x, torch.tensor([0, 1]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(x.grad).all()
    assert (x.grad.diagonal() < 0 if own < 0 else x.grad.diagonal() <= 0).all()  # a better cosine never costs more


@pytest.mark.parametrize("name", LOSSES)
def test_a_margin_makes_it_harder(name: str) -> None:
    x = torch.tensor([[0.8, 0.1], [0.2, 0.6]])
    without = {
        "cosface": lambda: cosface(x, torch.tensor([0, 1]), 30.0, 0.0),
        "arcface": lambda: arcface(x, torch.tensor([0, 1]), 30.0, 0.0),
        "a-softmax": lambda: a_softmax(x, torch.full((2,), 5.0), torch.tensor([0, 1]), 1),
    }
    assert LOSSES[name](x, torch.tensor([0, 1])) > without[name]()


@pytest.mark.parametrize(
    ("step", "blend"),
    [
        (0, 1000.0),
        (1, 1000 / 1.12),
        (1658, 1000 / 199.96),  # the last step above the least
        (1659, 5.0),
        (10**9, 5.0),
    ],
)
def test_blend(step: int, blend: float) -> None:
    assert math.isclose(a_softmax_blend(step), blend, rel_tol=1e-12)


@pytest.mark.parametrize("margin", [0, 2.5, 4.0, True])
def test_a_softmax_refuses_margins_that_are_no_whole_number(margin: float) -> None:
    with pytest.raises(UsageError, match="whole number of at least 1"):
        a_softmax(cosines(), lengths(), labels(), margin)


@pytest.mark.parametrize("name", LOSSES)
def test_labels_that_do_not_fit(name: str) -> None:
    with pytest.raises(UsageError, match="whole numbers as labels"):
        LOSSES[name](torch.zeros(3, 2), torch.tensor([0, 1]))


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 2.0, 3.0, 0.1]], ids=["even", "weighted"])
@pytest.mark.parametrize("margin", [0.0, 0.4, 1.2])
def test_adaface(margin: float, weights: list[float] | None) -> None:
    """Image by image: s (cos(theta + g_angle) - g_add), with the angle kept in [0, pi]."""
    order = torch.randperm(B, generator=torch.Generator().manual_seed(5))
    quality = torch.linspace(-1, 1, B, dtype=torch.float64)[order]
    rows = []
    for row, label, q in zip(cosines().tolist(), labels().tolist(), quality.tolist(), strict=True):
        turned = min(math.pi, max(0.0, math.acos(row[label]) - margin * q))
        changed = [16 * value for value in row]
        changed[label] = 16 * (math.cos(turned) - (margin * q + margin))
        rows.append(changed)
    heavy = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    expected = cross_entropy_of(rows, weights or [1.0] * C)
    assert math.isclose(adaface(cosines(), quality, labels(), 16.0, margin, heavy), expected, rel_tol=1e-12)
    same = torch.full((B,), 0.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: adaface(x, same, labels(), 16.0, margin), cosines().requires_grad_())


def test_adaface_is_arcface_for_the_worst_image_and_cosface_for_the_average_one() -> None:
    inside = cosines().clamp(-0.8, 0.8)  # theta + m below pi
    worst, average = -torch.ones(B), torch.zeros(B)
    for quality, loss in ((worst, arcface), (average, cosface)):
        expected = loss(inside, labels(), 16.0, 0.4).item()
        assert adaface(inside, quality, labels(), 16.0, 0.4).item() == pytest.approx(expected)


def test_the_quality_of_norms() -> None:
    quality, first, second = NormQuality(0.5, 0.25), torch.tensor([10.0, 20.0, 30.0]), torch.tensor([18.0, 22.0])
    assert quality(first).tolist() == pytest.approx([-0.5, 0.0, 0.5], abs=1e-4)  # mean 20, std 10, h 0.5
    mean, std = 0.75 * 20 + 0.25 * 20, 0.75 * 10 + 0.25 * math.sqrt(8)
    assert quality(second).tolist() == pytest.approx([(18 - mean) / std / 2, (22 - mean) / std / 2], abs=1e-4)
    quality.eval()
    assert quality(torch.tensor([100.0, 0.0])).tolist() == [1.0, -1.0]
    assert (quality.mean.item(), quality.std.item()) == pytest.approx((mean, std))
    norms = first.clone().requires_grad_()
    assert not quality(norms).requires_grad
