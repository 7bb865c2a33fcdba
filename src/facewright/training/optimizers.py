"""Optimizers over two groups of parameters: those that decay and those that do not."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from facewright.errors import UsageError

NAMES = ("adamw", "adam", "sgd")


def build(
    name: str,
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    decay_all: bool,
    momentum: float,
    beta2: float,
) -> Optimizer:
    """An optimizer for the parameters that want gradients.

    Weight decay spares norms and biases (every parameter of one dimension) unless `decay_all`; see He et al.,
    "Bag of Tricks", arXiv:1812.01187, section 3.1.

    Args:
        name: adamw (decoupled decay, arXiv:1711.05101), adam (arXiv:1412.6980; decay as L2) or sgd (Nesterov).
        learning_rate: the base rate; kept in each group as `base`, scaled by the schedule at every step.
    Raises:
        UsageError: an unknown name.
    """
    wanted = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in wanted if decay_all or p.ndim > 1]
    spared = [p for p in wanted if not (decay_all or p.ndim > 1)]
    groups = [
        {"params": decayed, "weight_decay": weight_decay, "base": learning_rate},
        {"params": spared, "weight_decay": 0.0, "base": learning_rate},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, beta2), fused=True)
    if name == "adam":
        return torch.optim.Adam(groups, lr=learning_rate, betas=(0.9, beta2), fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    raise UsageError(f"unknown optimizer {name!r}; known: {', '.join(NAMES)}")


def set_rate(optimizer: Optimizer, factor: float) -> float:
    """Scale every group's base rate; returns the first group's rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor
    return float(optimizer.param_groups[0]["lr"])


def tensors_of(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """The state by position of the parameter: {"3.exp_avg": …}."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, slots in state.items() for key, value in slots.items()}


def restore(optimizer: Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Take back what `tensors_of` gave, each tensor in the memory layout of its parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
