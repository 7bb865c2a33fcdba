"""Unit vectors and the cosines between them, exact enough for losses and without a gradient that is no number."""

from __future__ import annotations

import torch
from torch import Tensor

from facewright.errors import UsageError


def precise(x: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def unit(x: Tensor) -> Tensor:  # (B, D) -> (B, D)
    """Each row at length 1. A row of zeros has no direction: it stays zero and gets no gradient, not a huge one."""
    x = precise(x)
    squares = (x * x).sum(1, keepdim=True)
    real = squares > 0
    return torch.where(real, x * torch.where(real, squares, 1.0).rsqrt(), 0.0)


def cosines_within(embeddings: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """The cosine of every row with every row, in [-1, 1]; no autocast, for three digits are too few."""
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = unit(embeddings)
        return (rows @ rows.T).clamp(-1, 1)


def square_root(x: Tensor) -> Tensor:
    """The root of numbers >= 0; at 0, where the slope is infinite, the gradient is 0."""
    real = x > 0
    return torch.where(real, torch.where(real, x, 1.0).sqrt(), 0.0)


def check_labels(x: Tensor, labels: Tensor) -> None:
    """Rows of two dimensions, one whole number for each.

    Raises:
        UsageError: they are not.
    """
    if x.ndim != 2 or labels.shape != x.shape[:1] or labels.dtype.is_floating_point:
        raise UsageError(
            f"expected (B, D) rows and (B,) whole numbers as labels, got {tuple(x.shape)} and "
            f"{tuple(labels.shape)} of {labels.dtype}"
        )
