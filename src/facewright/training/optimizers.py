"""The training of a phase: frozen parts, learning rates by part, optimizers and adaptive gradient clipping.

A network's outline (`stages()`) is the order from its input to its classifier; freezing and rates follow it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from facewright.errors import UnknownName, UsageError
from facewright.models.blocks import Stage
from facewright.training.recipe_parts import OptimizerSpec

FUSED = ("cpu", "cuda", "mps", "xpu")  # devices on which torch updates all parameters in one kernel
SMALLEST_GRADIENT = 1e-6  # below it a norm is not divided by; the authors' code has the same
ALL_BUT = re.compile(r"all but first (\d+)")


def trained_names(network: nn.Module, which: str) -> frozenset[str]:
    """Names of the parameters that a phase trains; those that the architecture itself never trains stay out.

    Args:
        network: of the catalogue, with its head.
        which: "all"; "head", the classifier alone; "last-stage", that and the last stage of the backbone; "from NAME",
            a stage or part of the outline and all behind it; "all but first N", without the first N layers with weights
            (convolutions and linear layers; a norm belongs to the layer before it).
    Raises:
        UnknownName: no such stage or part.
        UsageError: another text, or nothing would be left to train.
    """
    wanting = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    if which == "all":
        return frozenset(wanting)
    outline = _outline(network)
    order = {name: outline.place(name) for name in wanting}
    if which == "head":
        chosen = [name for name in wanting if name.startswith(outline.classifier)]
    elif which == "last-stage":
        chosen = [name for name in wanting if order[name] >= outline.last_stage()]
    elif which.startswith("from "):
        chosen = [name for name in wanting if order[name] >= outline.find(which.removeprefix("from ").strip())]
    elif ALL_BUT.fullmatch(which):
        chosen = _behind(network, wanting, int(which.rsplit(" ", 1)[1]))
    else:
        expected = "all, head, last-stage, 'from STAGE' or 'all but first N'"
        raise UsageError(f"a phase trains {expected}, not {which!r}")
    if not chosen:
        raise UsageError(f"a phase that trains {which!r} leaves no parameter of {type(network).__name__} to train")
    return frozenset(chosen)


def freeze(network: nn.Module, trained: frozenset[str]) -> None:
    """Let gradients reach the named parameters and no others."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)


def training_mode(network: nn.Module, frozen_norms: bool = False) -> None:
    """Training mode where something learns, inference mode elsewhere: a frozen batch norm keeps its statistics.

    A layer without parameters (dropout, stochastic depth) follows the layer with parameters before it, in the head the
    head as a whole.

    Args:
        frozen_norms: batch norms that learn keep their statistics too.
    """
    network.train()
    learns = True
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own:
            learns = any(parameter.requires_grad for parameter in own)
        if not list(module.children()):
            module.train(learns and not (frozen_norms and isinstance(module, nn.modules.batchnorm._BatchNorm)))
    if hasattr(network, "classifier_name"):
        head = network.get_submodule(str(network.classifier_name))
        learns = any(parameter.requires_grad for parameter in head.parameters())
        for module in head.modules():
            if not list(module.children()) and not list(module.parameters(recurse=False)):
                module.train(learns)


@dataclass(frozen=True)
class Group:
    """Parameters that share a rate."""

    parameters: tuple[nn.Parameter, ...]
    factor: float  # of the phase's learning rate
    head: bool


def rate_groups(network: nn.Module, layer_decay: float) -> tuple[Group, ...]:
    """Parameters that want gradients, from the input to the head; each part learns slower than the one behind it.

    Args:
        layer_decay: rate of a part over that of the next; 1.0 gives the backbone one group.
    Source: layer-wise learning rate decay as in BEiT, arXiv:2106.08254, appendix; a part of the outline is a layer.
    """
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if not hasattr(network, "stages"):
        return (Group(tuple(parameter for _, parameter in named), 1.0, head=False),)
    outline = _outline(network)
    order = sorted({outline.place(name) for name, _ in network.named_parameters()})  # some parts have no weights
    parts: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        head = name.startswith(outline.classifier)
        depth = 0 if layer_decay == 1.0 else len(order) - 1 - order.index(outline.place(name))
        parts.setdefault((-depth, head), []).append(parameter)
    ordered = sorted(parts, key=lambda key: (key[0], key[1]))
    return tuple(Group(tuple(parts[key]), layer_decay ** -key[0], head=key[1]) for key in ordered)


@dataclass(frozen=True)
class _Outline:
    """The parts of a network in order, and where its stages begin."""

    paths: tuple[tuple[str, ...], ...]  # of the modules of each part
    starts: tuple[tuple[str, int], ...]  # stage name, its first part
    classifier: str  # what the names of the head's parameters begin with

    def place(self, parameter: str) -> int:
        """The part that a parameter belongs to: of the longest path leading to it; the network's own: the first."""
        best, place = -1, 0
        for number, paths in enumerate(self.paths):
            for path in paths:
                if path and f"{parameter}.".startswith(f"{path}.") and len(path) > best:
                    best, place = len(path), number
        return len(self.paths) if parameter.startswith(self.classifier) else place

    def last_stage(self) -> int:
        """The first part of the last stage of the backbone."""
        return [start for name, start in self.starts if name != "head"][-1]

    def find(self, name: str) -> int:
        """The first part of what is named so."""
        known = dict(self.starts) | {path: number for number, paths in enumerate(self.paths) for path in paths if path}
        if name not in known:
            raise UnknownName("stage or part", name, known)
        return known[name]


def _outline(network: nn.Module) -> _Outline:
    if not hasattr(network, "stages"):
        raise UsageError(f"{type(network).__name__} has no outline, so it can only be trained whole")
    stages: Sequence[Stage] = network.stages()  # type: ignore[operator]
    paths: list[tuple[str, ...]] = []
    starts: list[tuple[str, int]] = []
    for stage in stages:
        starts.append((stage.name, len(paths)))
        paths += [part.paths for part in stage.parts]
    return _Outline(tuple(paths), tuple(starts), f"{network.classifier_name}.")


def _behind(network: nn.Module, wanting: Sequence[str], layers: int) -> list[str]:
    """Parameters behind the first `layers` layers with weights."""
    passed = 0
    frozen: set[str] = set()
    for path, module in network.named_modules():  # in the order they were made
        weighty = any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
        passed += weighty
        if passed <= layers:
            frozen |= {f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)}
    return [name for name in wanting if name not in frozen]


def build(rule: OptimizerSpec, groups: Sequence[Group], learning_rate: float) -> Optimizer:
    """Build an optimizer for groups of parameters.

    Weight decay spares norms and biases (every parameter of one dimension) unless `decay_all`; see "Bag of Tricks",
    arXiv:1812.01187, section 3.1.

    Args:
        groups: from `rate_groups`.
        learning_rate: the base rate; times a group's factor it is kept as `base`, scaled by the schedule at every step.
    """
    device, momentum = groups[0].parameters[0].device.type, rule.momentum
    fused = device in FUSED
    parts = [part for group in groups for part in _parts(rule, group, learning_rate)]
    if rule.name == "sgd":
        return torch.optim.SGD(parts, lr=learning_rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
    on_cpu, elsewhere = (_AdamW, torch.optim.AdamW) if rule.name == "adamw" else (_Adam, torch.optim.Adam)
    kind = on_cpu if device == "cpu" else elsewhere
    return kind(parts, lr=learning_rate, betas=(0.9, rule.beta2), fused=fused)


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
