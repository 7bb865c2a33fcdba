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
from itertools import chain
from threading import Lock
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facewright.data.augment import normalise, resize
from facewright.devices import moved
from facewright.errors import UnknownName, UsageError
from facewright.explanation.layers import attentions, choose_target_layer, layer_gradients, map_shapes
from facewright.inference import Classifier
from facewright.models.blocks import Model
from facewright.models.vit import PATCH, VisionTransformer

METHODS = ("grad-cam", "grad-cam++", "rollout")

Heat = NDArray[np.float32]


class Explainer:
    """A classifier that shows which regions of an image support a class.

    Args:
        classifier: the model; it can be used elsewhere at the same time, and several threads may share an explainer.
        method: one of `METHODS`; None: "rollout" for vision transformers, "grad-cam" for everything else.
        layer: dotted path of the module whose map is read by Grad-CAM; None: see `layers.choose_target_layer`.
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
