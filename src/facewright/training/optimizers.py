"""Optimizers over groups of parameters (by rate; with and without weight decay), and adaptive gradient clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from facewright.errors import UsageError
from facewright.training.freezing import Group
from facewright.training.recipe_parts import OptimizerSpec

FUSED = ("cpu", "cuda", "mps", "xpu")  # devices on which torch updates all parameters in one kernel
SMALLEST_GRADIENT = 1e-6  # below it a norm is not divided by; the authors' code has the same


def build(rule: OptimizerSpec, groups: Sequence[Group], learning_rate: float) -> Optimizer:
    """Build an optimizer for groups of parameters.

    Weight decay spares norms and biases (every parameter of one dimension) unless `decay_all`; see "Bag of Tricks",
    arXiv:1812.01187, section 3.1.

    Args:
        groups: from `freezing.rate_groups`.
        learning_rate: the base rate; times a group's factor it is kept as `base`, scaled by the schedule at every step.
    """
    momentum, beta2 = rule.momentum, rule.beta2
    device = groups[0].parameters[0].device.type
    fused = device in FUSED
    parts = [part for group in groups for part in _parts(rule, group, learning_rate)]
    if rule.name == "adamw":
        adamw = _AdamW if device == "cpu" else torch.optim.AdamW
        return adamw(parts, lr=learning_rate, betas=(0.9, beta2), fused=fused)
    if rule.name == "adam":
        adam = _Adam if device == "cpu" else torch.optim.Adam
        return adam(parts, lr=learning_rate, betas=(0.9, beta2), fused=fused)
    return torch.optim.SGD(parts, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=fused)


class _InMemoryOrder:
    """Shows the kernel channels-last weights in the order of memory; torch's for CPUs copies others there and back."""

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        """Fill the lists as torch does: weights, gradients, their means and mean squares, and two that stay."""
        found: bool = super()._init_group(group, *lists)  # type: ignore[misc]
        shown = lists[:4]
        for index, tensors in enumerate(zip(*shown, strict=True)):
            if all(one.ndim == 4 and one.is_contiguous(memory_format=torch.channels_last) for one in tensors):
                for column, one in zip(shown, tensors, strict=True):
                    column[index] = one.permute(0, 2, 3, 1)
        return found


class _Adam(_InMemoryOrder, torch.optim.Adam):
    pass


class _AdamW(_InMemoryOrder, torch.optim.AdamW):
    pass


def _parts(rule: OptimizerSpec, group: Group, learning_rate: float) -> list[dict[str, object]]:
    """Split a group into parameters with and without weight decay, as torch's optimizers want them."""
    decay = rule.head_weight_decay if group.head and rule.head_weight_decay else rule.weight_decay
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
    return rate(optimizer)


def rate(optimizer: Optimizer) -> float:
    """Return the learning rate of what learns fastest."""
    return max(float(group["lr"]) for group in optimizer.param_groups)


def tensors_of(optimizer: Optimizer) -> dict[str, Tensor]:
    """Return the state by position of the parameter: {"3.exp_avg": …}."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, slots in state.items() for key, value in slots.items()}


def restore(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take back what `tensors_of` gave, each tensor in the memory layout of its parameter."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter).copy_(value)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


@torch.no_grad()
def clip_unitwise(parameters: Iterable[Parameter], factor: float, eps: float = 1e-3) -> None:
    """Scale down, in place, each unit's gradient whose norm exceeds `factor` times the norm of the unit's weights.

    A unit is what feeds one output: a row of a linear layer, a filter of a convolution. Biases, gains of norms and
    everything else with one axis longer than 1 is a single unit, as in the authors' code.

    Args:
        parameters: those to clip; those without a gradient are passed over. The paper leaves the last layer, the
            classifier, out: so should the caller.
        factor: lambda > 0; 0.01 in the paper for batches of 4096, more for smaller ones.
        eps: the norm of a unit's weights counts as at least this, so that what starts at zero can grow.
    Raises:
        UsageError: the factor is not above 0.
    Source: Brock et al. 2021, "High-Performance Large-Scale Image Recognition Without Normalization",
    arXiv:2102.06171, eq. 3.
    >>> layer = Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    >>> layer.grad = torch.tensor([[0.0, 10.0], [0.0, 10.0]])
    >>> clip_unitwise([layer], factor=0.1)
    >>> [[round(value, 6) for value in row] for row in layer.grad.tolist()]  # norms 5 and 0.001, times 0.1
    [[0.0, 0.5], [0.0, 0.0001]]
    """
    if not factor > 0:
        raise UsageError(f"expected a clipping factor above 0, got {factor!r}; to clip nothing, do not call this")
    for parameter in parameters:
        if parameter.grad is None:
            continue
        most = factor * _unit_norms(parameter).clamp_min(eps)
        parameter.grad.mul_((most / _unit_norms(parameter.grad).clamp_min(SMALLEST_GRADIENT)).clamp_max(1))


def _unit_norms(x: Tensor) -> Tensor:
    """Compute the Euclidean norm of each unit, in a shape that broadcasts over x."""
    one_unit = sum(length > 1 for length in x.shape) <= 1
    norms: Tensor = torch.linalg.vector_norm(x, dim=tuple(range(0 if one_unit else 1, x.ndim)), keepdim=True)
    return norms
