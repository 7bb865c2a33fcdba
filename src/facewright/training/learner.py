"""One step's path from pictures, or from features computed before, to a loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Whole(nn.Identity):
    """Stands for a head where the network gives class scores by itself."""

    def embed(self, scores: Tensor) -> Tensor:  # (B, C) -> the same
        return scores

    def classify(self, scores: Tensor) -> Tensor:  # (B, C) -> the same
        return scores


class Learner(nn.Module):
    """A network and what it is trained for, as one module: what gradients are averaged for across processes.

    Args:
        network: pictures to class scores; with `forward_features` where there is a head.
        objective: as `losses.Objective`: (head, features, targets, step) to (loss, class scores).
        head: name of the module inside the network that the objective is asked with; None: the network's own
            classifier, whatever it is, and the objective sees class scores.
        dtype: what the body computes in; head and loss are always float32.
    """

    def __init__(self, network: nn.Module, objective: nn.Module, head: str | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.head = head
        self.dtype = dtype
        self.whole = Whole()

    def forward(self, inputs: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The loss and the class scores (B, C).

        Args:
            inputs: (B, 3, H, W) pictures, or (B, F) features.
            targets: (B,) class numbers or (B, C) shares.
            step: of the phase, from 0; for losses that are annealed.
        """
        if inputs.ndim == 2:
            features = inputs
        else:
            with torch.autocast(inputs.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                features = self.network(inputs) if self.head is None else self.network.forward_features(inputs)  # type: ignore[operator]
        head = self.whole if self.head is None else self.network.get_submodule(self.head)
        loss, scores = self.objective(head, features.float(), targets, step)
        return loss, scores
