"""Unit vectors and the cosines between them as tensors: full precision, and gradients that are always finite."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def precise(x: Tensor) -> Tensor:
    """Convert half precision to float32; leave float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def exactly(x: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for matrix products of x: bfloat16's three digits are too few for a small angle."""
    kind = x.device.type
    # Only where it is on: an exported graph would hold the switch, and some devices have none.
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


def unit(x: Tensor) -> Tensor:  # (B, D) -> (B, D)
    """Scale each row to length 1. One below 1e-12 has no direction: it becomes zero, with a gradient of zero."""
    x = precise(x)
    squares = (x * x).sum(1, keepdim=True)
    real = squares > 1e-24
    return torch.where(real, x * torch.where(real, squares, 1.0).rsqrt(), 0.0)


def cosines_within(embeddings: Tensor) -> Tensor:  # (B, D) -> (B, B)
    """Compute the cosine of every row with every row, in [-1, 1]."""
    with exactly(embeddings):
        rows = unit(embeddings)
        return (rows @ rows.T).clamp(-1, 1)


def square_root(x: Tensor) -> Tensor:
    """Return the root of numbers >= 0; at 0, where the slope is infinite, the gradient is 0."""
    real = x > 0
    return torch.where(real, torch.where(real, x, 1.0).sqrt(), 0.0)
