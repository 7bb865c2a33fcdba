"""Model summary: every layer's output shape, parameters and floating-point operations.

Nothing is computed: for one call the model's parameters are replaced by tensors on the meta device, which have shapes
and no storage, so a 60-million-parameter network is read in a moment and the model itself stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from facewright.models.blocks import Join, Model


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer."""

    name: str  # dotted path inside the model; "" is the model itself
    kind: str  # class name of the layer
    output_shape: tuple[int, ...]  # without the batch: (C, H, W) or (C,)
    parameters: int  # its own, counted at its first call only
    flops: int  # its own, a multiply-add = 2


@dataclass(frozen=True)
class ModelSummary:
    """Every layer in the order of execution, and the totals for one image."""

    rows: tuple[LayerRow, ...]
    parameters: int
    flops: int
    output_shapes: dict[str, tuple[int, ...]]  # of every module, containers too, at its last call


@dataclass(frozen=True)
class BlockRow:
    """One part of a model's outline: a block, or a convolution with its norm."""

    stage: str
    name: str  # dotted path of its first module
    paths: tuple[str, ...]  # of all its modules
    kind: str  # class name of the first
    join: Join
    output_shape: tuple[int, ...]
    parameters: int
    flops: int


def summarize(model: nn.Module, size: int) -> ModelSummary:
    """The layers of a model with their shapes, parameters and FLOPs, by forward hooks.

    A row is a call of a layer that has no children, or that does arithmetic or holds parameters of its own beside them:
    so the rows' FLOPs and parameters add up to the totals.

    Args:
        size: side of the square RGB image, px.
    Source: FLOPs by torch.utils.flop_counter: convolutions and matrix products; norms, activations and pools count
    nothing.
    """
    counter = FlopCounterMode(display=False)
    recorder = _Recorder(counter)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            parameters = tuple(module.parameters(recurse=False))  # by now: during the call they are stand-ins
            stack.callback(module.register_forward_pre_hook(recorder.enter).remove)
            stack.callback(module.register_forward_hook(partial(recorder.leave, name, parameters)).remove)
        with counter:
            _run_on_shapes(model, size)
    rows, flops = tuple(recorder.rows), int(counter.get_total_flops())
    return ModelSummary(rows, sum(row.parameters for row in rows), flops, recorder.output_shapes)


def by_block(model: Model, summary: ModelSummary) -> tuple[BlockRow, ...]:
    """The same layers gathered into the parts of the model's outline."""
    gathered = []
    for stage in model.stages():
        for part in stage.parts:
            inside = tuple(f"{path}." for path in part.paths)
            rows = [row for row in summary.rows if row.name in part.paths or row.name.startswith(inside)]
            first, last = part.paths[0], [path for path in part.paths if path][-1]
            if last not in summary.output_shapes:  # replaced by another head: it is not called
                continue
            gathered.append(
                BlockRow(
                    stage.name,
                    first,
                    part.paths,
                    type(model.get_submodule(first)).__name__,
                    part.join,
                    summary.output_shapes[last],
                    sum(row.parameters for row in rows),
                    sum(row.flops for row in rows),
                )
            )
    return tuple(gathered)


def group_repeats(rows: Iterable[BlockRow]) -> tuple[tuple[BlockRow, int], ...]:
    """Blocks of one stage that follow each other with equal shape and size, once each with how many there are."""
    groups = (list(group) for _, group in groupby(rows, key=lambda row: replace(row, name="", paths=())))
    return tuple((group[0], len(group)) for group in groups)


@dataclass
class _Recorder:
    """Forward hooks that turn the calls of modules into rows.

    A stack holds, for each call under way, the FLOPs counted when it began and those that the calls inside it took.
    """

    counter: FlopCounterMode
    rows: list[LayerRow] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    inside: list[int] = field(default_factory=lambda: [0])
    output_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    counted: set[nn.Parameter] = field(default_factory=set)

    def enter(self, module: nn.Module, inputs: object) -> None:
        self.begun.append(self.counter.get_total_flops())
        self.inside.append(0)

    def leave(
        self, name: str, parameters: tuple[nn.Parameter, ...], module: nn.Module, inputs: object, output: Tensor
    ) -> None:
        total = self.counter.get_total_flops() - self.begun.pop()
        own = total - self.inside.pop()
        self.inside[-1] += total
        self.output_shapes[name] = tuple(output.shape[1:])
        fresh = [parameter for parameter in parameters if parameter not in self.counted]
        self.counted.update(fresh)
        idle = isinstance(module, nn.Identity)
        if not idle and (fresh or own or next(module.children(), None) is None):
            count = sum(parameter.numel() for parameter in fresh)
            self.rows.append(LayerRow(name, type(module).__name__, self.output_shapes[name], count, own))


def _run_on_shapes(model: nn.Module, size: int) -> None:
    tensors = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    modes = {module: module.training for module in model.modules()}
    model.eval()  # in training mode the norms refuse a single point per channel
    try:
        with torch.no_grad():
            torch.func.functional_call(model, tensors, (torch.empty(1, 3, size, size, device="meta"),))
    finally:
        for module, training in modes.items():
            module.training = training
