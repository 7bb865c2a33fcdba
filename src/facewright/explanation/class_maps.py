"""Heat maps of a class in an image: Grad-CAM, Grad-CAM++ and, for transformers, attention rollout.

Sources:
    Grad-CAM: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization" (arXiv:1610.02391), eq. 1 and 2.
    Grad-CAM++: Chattopadhay et al. 2018, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks"
        (arXiv:1710.11063).
    Attention rollout: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers" (arXiv:2005.00928), eq. 1.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from threading import Lock
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from facewright.data.augment import normalise, resize
from facewright.devices import moved
from facewright.errors import UnknownName, UsageError
from facewright.heads import SigmoidHead
from facewright.images import Pixels
from facewright.inference import Classifier
from facewright.models.blocks import FixedGrid, Model
from facewright.models.vit import PATCH, Attention, Block, VisionTransformer
from facewright.records import notebook_display

FEWEST = 4  # points along the shorter side of a usable map

Shapes = dict[str, tuple[int, int]]
"""Rows and columns of maps, by the dotted path of the layer that gives them, in the order of the outline."""

METHODS = ("grad-cam", "grad-cam++", "rollout")

Heat = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ExplainedPhoto:
    """The heat map of a class in one photo, or the reason why there is none."""

    path: str
    name: str = ""  # the class that was asked about
    probability: float = 0.0  # of that class
    predicted: str = ""  # the class that the model predicts
    heat: Heat | None = None  # (H, W) in [0, 1], at the size of the network's input; None: the photo cannot be used
    photo: Pixels | None = None  # (k H, k W, 3): the part of the photo that the network sees, finer
    overlay: str | None = None  # the image that was written
    error: str | None = None

    @property
    def peak(self) -> tuple[int, int] | None:
        """Column and row of the hottest point, px of the network's input; None where nothing is hot."""
        if self.heat is None or not self.heat.any():
            return None
        row, column = np.unravel_index(int(self.heat.argmax()), self.heat.shape)
        return int(column), int(row)

    def to_dict(self) -> dict[str, Any]:
        if self.heat is None:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "class": self.name,
            "probability": self.probability,
            "predicted": self.predicted,
            "peak": None if self.peak is None else dict(zip("xy", self.peak, strict=True)),
            "hot": float((self.heat >= 0.5).mean()),  # share of the input with half of the greatest heat or more
            "overlay": self.overlay,
            "error": None,
        }


@dataclass(frozen=True, eq=False)
class Explained:
    """The result of `facewright explain` for photos."""

    model: str
    method: str
    layer: str  # whose map was read
    points: tuple[int, int]  # rows and columns of that map
    input_size: tuple[int, int]  # height and width, px
    photos: tuple[ExplainedPhoto, ...]
    page: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As `explain --json` prints it."""
        return {
            "task": "explain",
            "model": self.model,
            "method": self.method,
            "layer": self.layer,
            "points": list(self.points),
            "input_size": list(self.input_size),
            "photos": [photo.to_dict() for photo in self.photos],
            "page": self.page,
        }

    _repr_html_ = notebook_display


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
    with ExitStack() as hooks, torch.inference_mode():
        for path in wanted:
            hooks.enter_context(model.get_submodule(path).register_forward_hook(partial(note, path)))
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

    with model.get_submodule(layer).register_forward_hook(hold), torch.enable_grad():
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

    with ExitStack() as hooks, torch.no_grad():
        for block in model.blocks:
            hooks.enter_context(cast(Block, block).attn.register_forward_pre_hook(weigh))
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


class Explainer:
    """A classifier that shows which regions of an image support a class.

    Args:
        classifier: the model; it can be used elsewhere at the same time, and several threads may share an explainer.
        method: one of `METHODS`; None: "rollout" for vision transformers, "grad-cam" for everything else.
        layer: dotted path of the module whose map is read by Grad-CAM; None: see `choose_target_layer`.
    Raises:
        UnknownName: no such method or layer. UsageError: a method that does not fit the architecture, or a layer
        without a map.
    """

    def __init__(self, classifier: Classifier, method: str | None = None, layer: str | None = None) -> None:
        self.classifier = classifier
        self._model = _twin(cast(Model, classifier.model))
        self._lock = Lock()
        self.method = _method(self._model, method)
        shapes = map_shapes(self._model, classifier.spec.height, classifier.spec.width, layer)
        self.layer = choose_target_layer(shapes)
        self.points = shapes[self.layer]  # rows and columns of the map before it is enlarged

    @property
    def by_class(self) -> bool:
        """True if a map depends on the class asked about; rollout shows attention, whatever the class."""
        return self.method != "rollout"

    def maps(self, pixels: Tensor, classes: Sequence[int]) -> Heat:
        """Compute, for each image, a heat map of one class.

        Args:
            pixels: (B, 3, H, W) uint8 RGB; resized if H and W are not the network's.
            classes: B class indices, the classes asked about; they need not be the predicted ones.
        Returns:
            (B, height, width) float32 in [0, 1], at the size of the network's input. Grad-CAM: 1 at the strongest
            support for the class, 0 where there is none; 0 everywhere if there is none at all. Rollout: 1 at the most
            attention, 0 at the least.
        Raises:
            UsageError: the number of classes is not the number of images, or an index is out of range.
        """
        known = range(len(self.classifier.classes))
        if len(classes) != len(pixels) or not all(index in known for index in classes):
            raise UsageError(f"expected {len(pixels)} class indices from 0 to {len(known) - 1}, got {list(classes)}")
        height, width = self.classifier.spec.height, self.classifier.spec.width
        inputs = moved(normalise(resize(pixels, height, width), self.classifier.spec), self.classifier.device)
        with self._lock:
            rows = [self._map(inputs[i : i + 1], index) for i, index in enumerate(classes)]
        return np.stack(rows) if rows else np.zeros((0, height, width), np.float32)

    def _map(self, inputs: Tensor, index: int) -> Heat:  # (1, 3, H, W) -> (H, W)
        height, width = inputs.shape[2:]
        if isinstance(self._model, VisionTransformer):
            read = rollout(attentions(self._model, inputs))[:, 1:].reshape(1, *self.points)
            rows, columns = (count * PATCH for count in self.points)
            # The patches cover the image padded to whole patches; the padding is cut off.
            return _stretched(_enlarged(read, rows, columns)[0, :height, :width])
        weigh = grad_cam if self.method == "grad-cam" else grad_cam_plus_plus
        heat = _enlarged(weigh(*layer_gradients(self._model, self.layer, inputs, index)), height, width)[0]
        return _stretched(heat, least=0.0)


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Compute Grad-CAM's map: the sum of channels weighted by their mean gradient; negative values become 0.

    Args:
        activations: (B, K, H, W), a layer's map A.
        gradients: (B, K, H, W), of the class's score before softmax by A.
    Returns:
        (B, H, W), not negative, in no particular unit.
    Source: Selvaraju et al. 2017, eq. 1 (weights) and 2 (map).
    >>> grad_cam(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0.0, 1.0]]]])).tolist()
    [[[0.5, 1.0]]]
    """
    weights = gradients.mean((2, 3), keepdim=True)
    return functional.relu((weights * activations).sum(1))


def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Compute Grad-CAM++'s map: each point's positive gradient is weighted by itself, so several places all show.

    With Y = exp(S), S the score, the higher derivatives are exp(S) g², exp(S) g³, and the coefficient of a point with
    g > 0, g² / (2 g² + g³ ΣA), is 1 / (2 + g ΣA); the factor exp(S) is common to a map and is left out. Points with
    g <= 0 have no weight (the ReLU of eq. 10). The paper's maps are rectified; of those that are not (dense blocks,
    norms, PReLU) the positive part is taken, which keeps the denominator at 2 or more and the map from cancelling out.

    Args, Returns: as `grad_cam`.
    Source: Chattopadhay et al. 2018, eq. 19 (coefficients), 10 (weights) and 11 (map). The authors' code also divides
    the coefficients of each channel by their sum; the paper does not, nor is it done here.
    >>> grad_cam_plus_plus(torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[0.0, 1.0]]]])).squeeze().numpy().round(3)
    array([0.2, 0.4], dtype=float32)
    """
    seen, positive = functional.relu(activations), functional.relu(gradients)
    total = seen.sum((2, 3), keepdim=True)
    weights = (positive / (2 + positive * total)).sum((2, 3), keepdim=True)
    return (weights * seen).sum(1)


def rollout(attentions: Sequence[Tensor]) -> Tensor:
    """Compute the share of each token's input in the class token's output, through all layers.

    The residual connection of each layer counts as much as its attention: half and half.

    Args:
        attentions: for each layer, first to last, (B, heads, N, N); rows, what a token reads, sum to one.
    Returns:
        (B, N), rows sum to one; the first is the class token itself.
    Source: Abnar and Zuidema 2020, eq. 1, and the mean over heads (section 3).
    >>> rollout([torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])]).tolist()
    [[0.5, 0.5]]
    """
    reached: Tensor | None = None
    for attention in attentions:
        mixed = (attention.mean(1) + torch.eye(attention.shape[-1], dtype=attention.dtype, device=attention.device)) / 2
        reached = mixed if reached is None else mixed @ reached
    if reached is None:
        raise UsageError("rollout needs the attention of at least one layer")
    return reached[:, 0]


def _twin(model: Model) -> Model:
    """A copy of the modules that shares the weights: hooks on it do not affect other users of the model."""
    tensors = chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _method(model: Model, method: str | None) -> str:
    transformer = isinstance(model, VisionTransformer)
    if method is None:
        return "rollout" if transformer else "grad-cam"
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    if transformer != (method == "rollout"):
        fit = "rollout" if transformer else "grad-cam or grad-cam++"
        raise UsageError(f"{method} is not for {type(model).__name__}: choose {fit}, or leave the method out")
    return method


def _enlarged(heat: Tensor, height: int, width: int) -> Tensor:
    """(B, h, w) -> (B, height, width), bilinear, as in the papers."""
    return functional.interpolate(heat[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]


def _stretched(heat: Tensor, least: float | None = None) -> Heat:
    """Brought to [0, 1]: `least`, or the smallest value, becomes 0 and the largest 1; all 0 where they are the same."""
    values = heat.cpu().double().numpy()
    low = float(values.min()) if least is None else least
    span = float(values.max()) - low
    return np.zeros(values.shape, np.float32) if span <= 0 else np.asarray((values - low) / span, np.float32)
