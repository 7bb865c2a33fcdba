"""Unit vectors and cosines, where rounding and zeros make them awkward."""

from __future__ import annotations

import pytest
import torch

from facewright.vectors import cosines_within, precise, square_root, unit


def test_cosines_never_leave_their_range() -> None:
    rows = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    assert (unit(rows) @ unit(rows).T).max() > 1  # rounding does leave it
    cosines = cosines_within(rows)
    assert cosines.max() == 1
    assert cosines.min() >= -1


@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e-11, 1.0, 1e15])
def test_rows_have_length_one_or_none(scale: float) -> None:
    rows = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)) * scale
    lengths = unit(rows).norm(dim=1)
    expected = torch.ones(5) if scale > 1e-12 else torch.zeros(5)
    assert torch.allclose(lengths, expected)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_precision(dtype: torch.dtype, expected: torch.dtype) -> None:
    assert precise(torch.ones(2, dtype=dtype)).dtype == expected


def test_the_root_of_zero_has_no_gradient() -> None:
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    square_root(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]
