"""Unit vectors and the cosines between them, exact enough for losses and without a gradient that is no number."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from facewright.errors import UsageError


def precise(x: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def exactly(x: Tensor) -> AbstractContextManager[object]:
    """In here, autocast leaves matrix products of x alone: bfloat16's three digits are too few for a small angle."""
    kind = x.device.type
    # Only where it is on: an exported graph would hold the switch, and some devices have none.
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


def unit(x: Tensor) -> Tensor:  # (B, D) -> (B, D)
    """Each row at length 1. One below 1e-12 has no direction: it becomes zero and gets no gradient, not a huge one."""
    x = precise(x)
    squares = (x * x).sum(1, keepdim=True)
    real = squares > 1e-24
    return torch.where(real, x * torch.where(real, squares, 1.0).rsqrt(), 0.0)


def cosines_within(embeddings: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """The cosine of every row with every row, in [-1, 1]."""
    with exactly(embeddings):
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
