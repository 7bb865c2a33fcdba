"""Optimizers over groups of parameters: by rate, and into those that decay and those that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from facewright.errors import UsageError
from facewright.training.freezing import Group

NAMES = ("adamw", "adam", "sgd")


@dataclass(frozen=True)
class Rule:
    """An update rule and its numbers."""

    name: str = "adamw"  # decoupled decay, arXiv:1711.05101; adam (arXiv:1412.6980; decay as L2); sgd (Nesterov)
    weight_decay: float = 0.0
    decay_all: bool = False  # norms and biases decay too
    momentum: float = 0.9  # sgd
    beta2: float = 0.999  # adam and adamw
    head_decay: float = 0.0  # above 0: weight decay of the head, in place of `weight_decay`


def build(rule: Rule, groups: Sequence[Group], learning_rate: float) -> Optimizer:
    """An optimizer for groups of parameters.

    Weight decay spares norms and biases (every parameter of one dimension) unless `decay_all`; see He et al.,
    "Bag of Tricks", arXiv:1812.01187, section 3.1.

    Args:
        groups: from `freezing.rate_groups`.
        learning_rate: the base rate; times a group's factor it is kept as `base`, scaled by the schedule at every step.
    Raises:
        UsageError: an unknown name.
    """
    name, momentum, beta2 = rule.name, rule.momentum, rule.beta2
    parts = [part for group in groups for part in _parts(rule, group, learning_rate)]
    if name == "adamw":
        return torch.optim.AdamW(parts, lr=learning_rate, betas=(0.9, beta2), fused=True)
    if name == "adam":
        return torch.optim.Adam(parts, lr=learning_rate, betas=(0.9, beta2), fused=True)
    if name == "sgd":
        return torch.optim.SGD(parts, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=True)
    raise UsageError(f"unknown optimizer {name!r}; known: {', '.join(NAMES)}")


def _parts(rule: Rule, group: Group, learning_rate: float) -> list[dict[str, object]]:
    """The group's parameters that decay and those that do not, as torch's optimizers want them."""
    decay = rule.head_decay if group.head and rule.head_decay else rule.weight_decay
    base = learning_rate * group.factor
    decayed = [p for p in group.parameters if rule.decay_all or p.ndim > 1]
    spared = [p for p in group.parameters if not (rule.decay_all or p.ndim > 1)]
    parts: list[dict[str, object]] = [
        {"params": decayed, "weight_decay": decay, "base": base},
        {"params": spared, "weight_decay": 0.0, "base": base},
    ]
    return [part for part in parts if part["params"]]


def set_rate(optimizer: Optimizer, factor: float) -> float:
    """Scale every group's base rate; returns the highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)


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
