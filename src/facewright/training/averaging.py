"""Weights averaged over the steps of a run (Polyak averaging with exponential forgetting)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of the model that follows it: weights and the statistics of its norms.

    Args:
        decay: share of the old average that a step keeps, in (0, 1).
    """
    return AveragedModel(model, multi_avg_fn=_warmed(decay), use_buffers=True)


def _warmed(decay: float) -> Callable[[Any, Any, Any], None]:
    """Averaging that forgets faster at first: min(decay, (1 + n) / (10 + n)) after n updates.

    Source: the `num_updates` rule of TensorFlow's ExponentialMovingAverage.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        share = min(decay, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - share)
        else:
            torch._foreach_copy_(averaged, current)

    return update
