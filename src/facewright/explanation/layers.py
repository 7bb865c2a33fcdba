"""Target layers for heat maps, their activations and gradients, and the attention of a transformer's layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from facewright.errors import UnknownName, UsageError
from facewright.heads import SigmoidHead
from facewright.models.blocks import FixedGrid, Model
from facewright.models.vit import PATCH, Attention, Block, VisionTransformer

FEWEST = 4  # points along the shorter side of a usable map

Shapes = dict[str, tuple[int, int]]
"""Rows and columns of maps, by the dotted path of the layer that gives them, in the order of the outline."""


def map_shapes(model: Model, height: int, width: int, layer: str | None = None) -> Shapes:
    """Return the map sizes of the layers in a model's outline, or of `layer`; for a transformer, of its patches.

    Layers that only resample a map to a fixed size are skipped, as is the classifier (SqueezeNet's gives a map).

    Args:
        model: in inference mode. height, width: of the images, px.
    Raises:
        UnknownName: no such layer. UsageError: there is no map.
    """
    if isinstance(model, VisionTransformer):
        return {"patch_embed": (-(-height // PATCH), -(-width // PATCH))}
    shapes: Shapes = {}

    def note(path: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        if output.ndim == 4:
            shapes[path] = (output.shape[2], output.shape[3])

    paths = [path for stage in model.stages() for part in stage.parts for path in part.paths if path]
    wanted = (
        [path for path in paths if _gives_feature_map(model, path)] if layer is None else [_known_layer(model, layer)]
    )
    handles = [model.get_submodule(path).register_forward_hook(partial(note, path)) for path in wanted]
    with _removing(handles), torch.inference_mode():
        model(torch.zeros(1, 3, height, width, device=next(model.parameters()).device))
    if not shapes:
        raise UsageError(f"{layer or type(model).__name__} gives no map; choose another layer")
    return shapes


def choose_target_layer(shapes: Shapes) -> str:
    """Choose the target layer: the last whose map has at least 4 points along both sides.

    The papers take the last convolution, whose map has 7 or 14 points a side at their image sizes. For a small image
    that map is a single point. If all maps are smaller than 4, the last of the largest ones is taken.

    Args:
        shapes: at least one.
    >>> choose_target_layer({"a": (28, 28), "b": (7, 7), "c": (2, 2)})
    'b'
    >>> choose_target_layer({"a": (3, 3), "b": (3, 3), "c": (1, 1)})
    'b'
    """
    enough = min(FEWEST, max(min(shape) for shape in shapes.values()))
    return [path for path, shape in shapes.items() if min(shape) >= enough][-1]


def layer_gradients(model: Model, layer: str, inputs: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Return a layer's map and the gradient of a class's score before softmax with respect to it.

    Where a ReLU works in place on the layer's output, the map is what the ReLU left of it, as in the papers.

    Args:
        inputs: (B, 3, H, W), normalised. index: of the class.
    Returns:
        Two times (B, K, h, w).
    """
    held: list[Tensor] = []

    def hold(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        # The graph begins here, so that nothing below is remembered; a copy, since a leaf cannot be changed in place.
        held.append(output.detach().requires_grad_().clone())
        return held[-1]

    with _removing([model.get_submodule(layer).register_forward_hook(hold)]), torch.enable_grad():
        score = _class_score(model, model(inputs), index).sum()
        (gradients,) = torch.autograd.grad(score, held[-1])
    return held[-1].detach(), gradients


def attentions(model: VisionTransformer, inputs: Tensor) -> list[Tensor]:
    """Return the attention weights of each layer.

    Args:
        inputs: (B, 3, H, W), normalised.
    Returns:
        For each layer, first to last, (B, heads, N, N); rows sum to one, the class token is the first.
    """
    found: list[Tensor] = []

    def weigh(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        attention = cast(Attention, module)
        query, key, _ = attention.qkv(given[0]).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        found.append(torch.softmax(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5, dim=-1))

    blocks = (cast(Block, block) for block in model.blocks)
    handles = [block.attn.register_forward_pre_hook(weigh) for block in blocks]
    with _removing(handles), torch.no_grad():
        model(inputs)
    return found


def _gives_feature_map(model: Model, path: str) -> bool:
    resampled = isinstance(model.get_submodule(path), nn.AdaptiveAvgPool2d | FixedGrid)
    return not resampled and path != model.classifier_name


def _known_layer(model: Model, layer: str) -> str:
    paths = [path for path, _ in model.named_modules() if path]
    if layer not in paths:
        raise UnknownName("layer", layer, [path for path in paths if path.count(".") < 2])
    return layer


def _class_score(model: Model, scores: Tensor, index: int) -> Tensor:
    """A class's score before softmax, (B, C) -> (B,); with one output for two classes, what sets it off the other.

    There the first class's score is 0 by definition, and what speaks for it is what speaks against the second.
    """
    if isinstance(model.get_submodule(model.classifier_name), SigmoidHead):
        return scores[:, index] - scores[:, 1 - index]
    return scores[:, index]


@contextmanager
def _removing(handles: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
