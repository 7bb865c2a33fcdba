"""Network and objective as one module, and the moving average of the network's weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

CUDA_GRAPHS = "reduce-overhead"  # a mode of torch.compile


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Compute in `dtype` where autocast does; float32 leaves everything as it is."""
    return nullcontext() if dtype is torch.float32 else torch.autocast(device.type, dtype)


class NoHead(nn.Identity):
    """Stands for a head where the network gives class scores by itself."""

    def embed(self, scores: Tensor) -> Tensor:  # (B, C) -> the same
        return scores

    def classify(self, scores: Tensor) -> Tensor:  # (B, C) -> the same
        return scores


class TrainingModule(nn.Module):
    """A network and its objective, as one module: what gradients are averaged for across processes.

    Args:
        network: images to class scores; with `forward_features` where there is a head.
        objective: `losses.objective.Objective` or alike: (head, features, targets, step) to (loss, scores).
        head: name of the module inside the network that the objective is given; None: the network's own classifier,
            whatever it is, and the objective sees class scores.
        dtype: what the backbone computes in; head and loss are always float32.
        compiled: the mode in which torch.compile runs the backbone; None: not at all. In the mode of CUDA graphs its
            outputs are overwritten by the next batch.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: nn.Module,
        head: str | None,
        dtype: torch.dtype = torch.float32,
        compiled: str | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.head = head
        self.dtype, self.compiled = dtype, compiled
        backbone = network.forward if head is None else network.forward_features
        self.backbone: Callable[[Tensor], Tensor] = backbone  # type: ignore[assignment]
        if compiled is not None:
            self.backbone = torch.compile(self.backbone, mode=compiled)
        self.no_head = NoHead()

    def forward(self, inputs: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Compute the loss and the class scores (B, C).

        Args:
            inputs: (B, 3, H, W) images, or (B, F) features.
            targets: (B,) class numbers, (B, C) shares or (B, T) targets.
            step: of the phase, from 0; for losses that are annealed.
        """
        if inputs.ndim == 2:
            features = inputs
        else:
            if self.compiled == CUDA_GRAPHS:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            with autocast(inputs.device, self.dtype):
                features = self.backbone(inputs)
        head = self.no_head if self.head is None else self.network.get_submodule(self.head)
        loss, scores = self.objective(head, features.float(), targets, step)
        return loss, scores

    @property
    def warmups(self) -> int:
        """The first steps that take longer: torch compiles in one, warms up and records a graph in the next two."""
        return 0 if self.compiled is None else 3 if self.compiled == CUDA_GRAPHS else 1

    def scores(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Compute class scores (B, C) of images or features in float32, by a network of the same structure."""
        layers = network if inputs.ndim != 2 else network.get_submodule(str(self.head))
        scores: Tensor = layers(inputs).float()
        return scores

    def embeddings(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """Compute what the last layer of the head is given, (B, D), as `scores`."""
        features = inputs if inputs.ndim == 2 else network.forward_features(inputs)  # type: ignore[operator]
        found: Tensor = network.get_submodule(str(self.head)).embed(features).float()  # type: ignore[operator]
        return found


class AveragedNetwork(nn.Module):
    """A copy of a network whose weights and norm statistics follow it as an exponential moving average.

    The average forgets faster at first: min(decay, (1 + n) / (10 + n)) after n updates.

    Args:
        decay: share of the old average that a step keeps, in (0, 1).
    Source: the `num_updates` rule of TensorFlow's ExponentialMovingAverage.
    """

    n_averaged: Tensor  # stays on the CPU, where reading it waits for nothing

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = copy.deepcopy(network)
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights of one more step."""
        count = int(self.n_averaged)
        share = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        pairs = [
            (mine, theirs.detach())
            for kind in ("parameters", "buffers")
            for mine, theirs in zip(getattr(self.module, kind)(), getattr(network, kind)(), strict=True)
        ]
        moving = [pair for pair in pairs if count and pair[0].is_floating_point()]
        copied = [pair for pair in pairs if not (count and pair[0].is_floating_point())]
        if moving:
            torch._foreach_lerp_([mine for mine, _ in moving], [theirs for _, theirs in moving], 1 - share)
        if copied:
            torch._foreach_copy_([mine for mine, _ in copied], [theirs for _, theirs in copied])
        self.n_averaged += 1
