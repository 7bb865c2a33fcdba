"""Adaptive gradient clipping against a loop over units."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import Parameter

from facewright.errors import UsageError
from facewright.training.optimizers import clip_unitwise

SHAPES = {
    "scalar": (),
    "bias": (6,),
    "linear": (6, 5),
    "convolution": (6, 3, 2, 2),
    "depthwise": (6, 1, 3, 3),
    "gain": (6, 1, 1, 1),  # one axis longer than 1: one unit
    "one output": (1, 5),
    "positions": (1, 4, 5),
}


def parameter(shape: tuple[int, ...], seed: int) -> Parameter:
    generator = torch.Generator().manual_seed(seed)
    made = Parameter(torch.randn(shape, dtype=torch.float64, generator=generator))
    rows = shape[0] if shape else 1
    # Units from far below the bound to far above it.
    drawn = torch.randn(rows, made.numel() // rows, dtype=torch.float64, generator=generator)
    made.grad = (drawn * torch.logspace(-4, 2, rows, dtype=torch.float64).unsqueeze(1)).reshape(shape)
    return made


def clipped(weights: list[float], gradients: list[float], factor: float, eps: float) -> list[float]:
    """Eq. 3 for one unit."""
    norm = math.sqrt(sum(g * g for g in gradients))
    most = factor * max(math.sqrt(sum(w * w for w in weights)), eps)
    return [g * most / norm for g in gradients] if norm > most else gradients


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("factor", [0.01, 0.5])
def test_against_a_loop(name: str, factor: float) -> None:
    made = parameter(SHAPES[name], seed=0)
    one_unit = sum(length > 1 for length in made.shape) <= 1
    rows = (1, -1) if one_unit else (made.shape[0], -1)
    pairs = zip(made.detach().reshape(rows).tolist(), made.grad.reshape(rows).tolist(), strict=True)
    expected = torch.tensor([clipped(w, g, factor, 1e-3) for w, g in pairs], dtype=torch.float64)
    clip_unitwise([made], factor)
    assert torch.allclose(made.grad, expected.reshape(made.shape), rtol=1e-12)


def test_what_is_small_enough_keeps_its_bits() -> None:
    layer = Parameter(torch.randn(4, 3))
    layer.grad = torch.randn(4, 3) * 1e-4
    before = layer.grad.clone()
    clip_unitwise([layer], 0.1)
    assert torch.equal(layer.grad, before)


# Each row: weights, gradients -> clipped at factor 0.1, eps 1e-3.
@pytest.mark.parametrize(
    ("weights", "gradients", "expected"),
    [
        ([3.0, 4.0], [0.0, 10.0], [0.0, 0.5]),
        ([3.0, 4.0], [0.3, 0.4], [0.3, 0.4]),  # exactly at the bound
        ([0.0, 0.0], [0.0, 10.0], [0.0, 1e-4]),  # weights of zero can still grow
        ([3.0, 4.0], [0.0, 0.0], [0.0, 0.0]),  # no division by nothing
    ],
)
def test_by_hand(weights: list[float], gradients: list[float], expected: list[float]) -> None:
    layer = Parameter(torch.tensor([weights]))
    layer.grad = torch.tensor([gradients])
    clip_unitwise([layer], 0.1)
    assert layer.grad.tolist()[0] == pytest.approx(expected, rel=1e-6)


def test_the_memory_layout_makes_no_difference() -> None:
    plain = nn.Conv2d(3, 4, 3)
    last = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    last.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 8, 8)
    for layer in (plain, last):
        layer(x).square().sum().backward()
        clip_unitwise(layer.parameters(), 0.01)
    assert torch.allclose(plain.weight.grad, last.weight.grad, rtol=1e-4, atol=1e-7)


def test_a_gradient_that_is_no_number_is_not_hidden() -> None:
    layer = Parameter(torch.ones(2, 2))
    layer.grad = torch.tensor([[math.nan, 1.0], [1.0, 1.0]])
    clip_unitwise([layer], 0.1)
    assert not torch.isfinite(layer.grad[0]).all()


def test_without_a_gradient_there_is_nothing_to_do() -> None:
    layer = Parameter(torch.ones(2, 2))
    clip_unitwise([layer], 0.1)
    assert layer.grad is None


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan])
def test_a_factor_that_clips_everything(factor: float) -> None:
    with pytest.raises(UsageError, match="above 0"):
        clip_unitwise([], factor)
