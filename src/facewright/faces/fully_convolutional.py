"""A patch classifier turned into one that gives the scores of every patch of a photo in a single pass.

A network whose convolutions and pools pad nothing computes the same for a patch inside a photo as for the patch alone;
so its head, which was made for the map of one patch, becomes a convolution that is slid over the map of the photo:

    mean over the map                   mean over a window of that side, stride 1
    mean down to a grid                 mean over a cell of the grid, stride 1; what follows is dilated by the cell
    flatten, linear                     convolution with a kernel of the map's side
    linear behind it                    1x1 convolution

A network that pads, or that mixes the map's points in another way, is refused with the reason. Norms are folded into
the convolutions before them. Source: Sermanet et al. 2014, "OverFeat" (arXiv:1312.6229), section 3.5; Long, Shelhamer
and Darrell 2015, "Fully convolutional networks for semantic segmentation" (arXiv:1411.4038), section 3.1.
"""

from __future__ import annotations

import copy
import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facewright.errors import Unconvertible
from facewright.models.blocks import FixedGrid

TOLERANCE = 1e-4  # largest difference of a score between the pass over a photo and the patch alone

# What works point by point: the same on a map of a photo as on that of a patch.
_POINTWISE = (
    nn.BatchNorm2d | nn.Dropout | nn.Dropout2d | nn.Identity
    | nn.ReLU | nn.ReLU6 | nn.LeakyReLU | nn.PReLU | nn.ELU | nn.GELU | nn.SiLU | nn.Hardswish | nn.Sigmoid | nn.Tanh
)  # fmt: skip
_POINTWISE_FUNCTIONS = (torch.relu, nn.functional.relu, nn.functional.leaky_relu, nn.functional.dropout)
_JOINS = (operator.add, operator.iadd, operator.mul, torch.add, torch.mul, torch.cat)


@dataclass(frozen=True)
class Dense:
    """A network that scores every patch of a photo."""

    network: nn.Module
    stride: int  # px between one patch and the next, down and across
    height: int  # px of a patch
    width: int

    def scores(self, photos: Tensor) -> Tensor:
        """Compute the scores of the patches that begin every `stride` px.

        Args:
            photos: (B, 3, H, W) as the network is fed, H and W at least those of a patch.
        Returns:
            (B, C, (H - height) // stride + 1, (W - width) // stride + 1).
        """
        rows, columns = (
            (photos.shape[2] - self.height) // self.stride + 1,
            (photos.shape[3] - self.width) // self.stride + 1,
        )
        # A network that leaves the last pixels of a patch unread could begin one more patch than the photo holds.
        every: Tensor = self.network(photos)
        return every[:, :, :rows, :columns]


@dataclass(frozen=True)
class _Map:
    """The known facts about a layer's output for one patch."""

    sides: tuple[int, int]  # points down and across
    stride: int  # px of the patch between neighbouring patches' maps
    dilation: int = 1  # points of the photo's map between two that belong to one patch's
    flat: bool = False  # the points stand in one row


def to_dense(model: nn.Module, height: int, width: int) -> Dense:
    """Turn a patch classifier into a dense one; the model itself stays as it is.

    Args:
        model: (B, 3, height, width) -> (B, C), in inference mode.
        height, width: px of its patches.
    Raises:
        Unconvertible: the network pads, or does what has no equal on a whole photo; says what.
    >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
    >>> dense = to_dense(nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.ReLU(), *head).eval(), 17, 17)
    >>> dense.stride, dense.scores(torch.zeros(1, 3, 21, 31)).shape
    (2, torch.Size([1, 2, 3, 8]))
    """
    private = copy.deepcopy(model).eval().requires_grad_(False)
    try:
        graph = _Tracer().trace(private)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError) as error:
        raise Unconvertible(f"{type(model).__name__} decides while it runs what it does ({error})") from None
    stride = _Conversion(private, graph, (height, width)).run()
    network = fx.GraphModule(private, graph).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    dense = Dense(network, stride, height, width)
    _check_equal(model, dense)
    return dense


class _Tracer(fx.Tracer):
    """A recorder of layer calls; what has a rule of its own below is one layer."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FixedGrid | nn.Linear) or super().is_leaf_module(m, module_qualified_name)


class _Conversion:
    """A walk over a recorded network, from the patch to its scores, that replaces each layer by its equal."""

    def __init__(self, model: nn.Module, graph: fx.Graph, patch: tuple[int, int]) -> None:
        self.model = model
        self.graph = graph
        self.patch = patch
        self.maps: dict[fx.Node, _Map] = {}
        self.used: set[str] = set()

    def run(self) -> int:
        """Convert, and return the stride of the scores in px."""
        for node in list(self.graph.nodes):
            if node.op == "placeholder":
                self.maps[node] = _Map(self.patch, 1)
            elif node.op == "call_module":
                self.maps[node] = self._module(node, self.maps[node.args[0]])
            elif node.op in ("call_function", "call_method"):
                self._function(node)
            elif node.op == "output":
                return self._output(node)
            else:
                raise Unconvertible(f"it uses {node.target!r}, a value of its own, beside its layers")
        raise Unconvertible("it has no output")

    def _module(self, node: fx.Node, before: _Map) -> _Map:
        name = str(node.target)
        layer = self.model.get_submodule(name)
        if name in self.used and not isinstance(layer, _POINTWISE):
            raise Unconvertible(f"it uses its layer {name} twice")
        self.used.add(name)
        match layer:
            case nn.BatchNorm2d():
                self._fold(node, layer)
                return before
            case nn.Flatten():
                return self._flattened(node, before)
            case nn.Linear():
                return self._linear(name, layer, before)
            case nn.Conv2d():
                return self._convolution(name, layer, before)
            case nn.MaxPool2d() | nn.AvgPool2d():
                return self._pool(name, layer, before)
            case nn.AdaptiveAvgPool2d() | FixedGrid():
                return self._grid(name, layer, before)
        if not isinstance(layer, _POINTWISE):
            raise Unconvertible(f"its layer {name} is a {type(layer).__name__}, which has no equal on a whole photo")
        return before

    def _convolution(self, name: str, layer: nn.Conv2d, before: _Map) -> _Map:
        padding = (layer.padding,) if isinstance(layer.padding, str) else tuple(layer.padding)
        if before.flat or any(side not in (0, "valid") for side in padding):
            raise Unconvertible(f"its convolution {name} pads the patch's border, which a photo does not have")
        return self._slid(name, layer, _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.dilation), before)

    def _pool(self, name: str, layer: nn.MaxPool2d | nn.AvgPool2d, before: _Map) -> _Map:
        kernel, step = _pair(layer.kernel_size), _pair(layer.stride)
        if any(_pair(layer.padding)):
            raise Unconvertible(f"its pool {name} pads the patch's border, which a photo does not have")
        if layer.ceil_mode and any((s - k) % t for s, k, t in zip(before.sides, kernel, step, strict=True)):
            raise Unconvertible(f"its pool {name} reaches over the patch's border, which a photo does not have")
        layer.ceil_mode = False
        dilation = _pair(getattr(layer, "dilation", 1))
        if before.dilation != 1 and not isinstance(layer, nn.MaxPool2d):
            raise Unconvertible(f"its pool {name} takes means of a map that was already brought to a grid")
        return self._slid(name, layer, kernel, step, dilation, before)

    def _slid(
        self,
        name: str,
        layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d,
        kernel: tuple[int, int],
        step: tuple[int, int],
        dilation: tuple[int, int],
        before: _Map,
    ) -> _Map:
        """Return the map behind a kernel; behind a grid it takes every `dilation`-th point of the photo's map."""
        if step[0] != step[1] or (before.dilation != 1 and step != (1, 1)):
            raise Unconvertible(f"its layer {name} strides by {step}, which would not meet every patch")
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        rows, columns = ((s - r) // step[0] + 1 for s, r in zip(before.sides, reach, strict=True))
        if before.dilation != 1:
            layer.dilation = tuple(d * before.dilation for d in dilation)
        return _Map((rows, columns), before.stride * step[0], before.dilation)

    def _grid(self, name: str, layer: nn.AdaptiveAvgPool2d | FixedGrid, before: _Map) -> _Map:
        wanted = (layer.side,) * 2 if isinstance(layer, FixedGrid) else _grid_sides(layer, before.sides)
        if wanted == before.sides:
            self.model.set_submodule(name, nn.Identity())
            return before
        cells = {have // want if have % want == 0 else 0 for have, want in zip(before.sides, wanted, strict=True)}
        if wanted == (1, 1) and before.dilation == 1:
            self.model.set_submodule(name, nn.AvgPool2d(before.sides, stride=1))
            return _Map(wanted, before.stride)
        if len(cells) != 1 or 0 in cells or before.dilation != 1:
            have = "x".join(map(str, before.sides))
            raise Unconvertible(f"its {name} averages a map of {have} points to cells that are not equally large")
        (cell,) = cells
        self.model.set_submodule(name, nn.AvgPool2d(cell, stride=1))
        return _Map(wanted, before.stride, cell)

    def _flattened(self, node: fx.Node, before: _Map) -> _Map:
        (source,) = node.all_input_nodes
        node.replace_all_uses_with(source)
        self.graph.erase_node(node)
        self.maps[source] = _Map(before.sides, before.stride, before.dilation, flat=True)
        return self.maps[source]

    def _linear(self, name: str, layer: nn.Linear, before: _Map) -> _Map:
        if not before.flat:
            raise Unconvertible(f"its linear layer {name} works along the columns of the map")
        points = before.sides[0] * before.sides[1]
        channels = layer.in_features // points
        equal = nn.Conv2d(
            channels,
            layer.out_features,
            before.sides,
            dilation=before.dilation,
            bias=layer.bias is not None,
            device=layer.weight.device,
        ).requires_grad_(False)
        equal.weight.copy_(layer.weight.view(layer.out_features, channels, *before.sides))
        if equal.bias is not None:
            equal.bias.copy_(layer.bias)
        self.model.set_submodule(name, equal.eval())
        return _Map((1, 1), before.stride, flat=True)

    def _fold(self, node: fx.Node, norm: nn.BatchNorm2d) -> None:
        """Put a norm into the convolution before it, where nothing else reads that convolution."""
        (source,) = node.all_input_nodes
        if source.op != "call_module" or len(source.users) != 1:
            return
        before = self.model.get_submodule(str(source.target))
        if isinstance(before, nn.Conv2d):
            self.model.set_submodule(str(source.target), fuse_conv_bn_eval(before, norm))
            self.model.set_submodule(str(node.target), nn.Identity())

    def _function(self, node: fx.Node) -> None:
        befores = [self.maps[source] for source in node.all_input_nodes]
        flattens = node.target is torch.flatten or node.target == "flatten"
        if flattens and node.args[1:] in ((1,), (1, -1)):
            self.maps[node] = self._flattened(node, befores[0])
        elif node.target in _POINTWISE_FUNCTIONS or (node.target in _JOINS and len(set(befores)) == 1):
            self.maps[node] = befores[0]
        else:
            called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "a function")
            raise Unconvertible(f"it calls {called}, which has no equal on a whole photo")

    def _output(self, node: fx.Node) -> int:
        result = self.maps[node.all_input_nodes[0]]
        if result.sides != (1, 1):
            raise Unconvertible(f"its scores are a map of {result.sides[0]}x{result.sides[1]} points, not one point")
        return result.stride


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _grid_sides(layer: nn.AdaptiveAvgPool2d, sides: tuple[int, int]) -> tuple[int, int]:
    wanted = layer.output_size if isinstance(layer.output_size, tuple) else (layer.output_size,) * 2
    rows, columns = (have if want is None else want for have, want in zip(sides, wanted, strict=True))
    return rows, columns


@torch.inference_mode()
def _check_equal(model: nn.Module, dense: Dense) -> None:
    """Score patches of a random image one by one and in one pass; refuse a conversion that changed a score."""
    generator = torch.Generator().manual_seed(0)
    height, width, step = dense.height, dense.width, dense.stride
    image = torch.randn(1, 3, height + 3 * step - 1, width + 3 * step, generator=generator)
    image = image.to(next((p.device for p in model.parameters()), image.device))
    together = dense.scores(image)[0]  # (C, 3, 4)
    corners = [(row, column) for row in range(3) for column in range(4)]
    patches = [image[0, :, r * step : r * step + height, c * step : c * step + width] for r, c in corners]
    alone: Tensor = model(torch.stack(patches))  # (12, C)
    difference = float((together.flatten(1).T - alone).abs().max() / max(1.0, float(alone.abs().max())))
    if difference > TOLERANCE:
        raise Unconvertible(f"the pass over a photo differs from its patches by {difference:.1e}")
