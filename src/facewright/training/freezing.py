"""Freezing: the parameters that a phase trains, the mode of each layer, and the learning rates.

A network's outline (`stages()`) is the order from its input to its classifier; everything here follows it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from facewright.errors import UnknownName, UsageError
from facewright.models.blocks import Stage

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
