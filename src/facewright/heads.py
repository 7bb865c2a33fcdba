"""Heads: from the features of a backbone to class scores; linear, sigmoid, two or one hidden layers, cosine.

Every head has two steps: `embed` gives what the last, class-specific layer sees (an embedding, not scaled to unit
length), `classify` is that layer, and `forward` is one after the other. A verifier uses the first step alone.

Source: the cosine head is the last layer of CosFace (arXiv:1801.09414, eq. 3) and ArcFace (arXiv:1801.07698, eq. 2),
its sub-centres are those of Deng et al. 2020, "Sub-center ArcFace", ECCV; the two-layer head is that of the fine-tuning
notebooks this package replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.errors import UsageError
from facewright.specs import HeadSpec
from facewright.vectors import exactly, unit


class Backbone(Protocol):
    """A network of the catalogue, as a head sees it."""

    @property
    def classifier_name(self) -> str: ...  # of the module that reads the features

    @property
    def feature_width(self) -> int: ...

    def get_submodule(self, target: str) -> nn.Module: ...

    def set_submodule(self, target: str, module: nn.Module) -> None: ...


def put_head(network: Backbone, head: HeadSpec | None, classes: int, tied: Sequence[slice] = ()) -> None:
    """Replace the architecture's own classifier by a new head; None or the kind `native` leaves it.

    `tied`: runs of scores that differ by their biases alone, of a linear or layered head.
    """
    if head is not None and head.kind != "native":
        network.set_submodule(network.classifier_name, build(head, network.feature_width, classes, tied))


def own_head(network: Backbone) -> Head | None:
    """Return the head that replaced the architecture's own classifier; None where none did."""
    head = network.get_submodule(network.classifier_name)
    return head if isinstance(head, LinearHead | LayeredHead | CosineHead) else None


def last_layer(head: nn.Module) -> nn.Linear:
    """Return the layer of a linear or layered head that gives the scores."""
    layer = head.classifier if isinstance(head, LayeredHead) else head
    assert isinstance(layer, nn.Linear)
    return layer


def build(spec: HeadSpec, features: int, classes: int, tied: Sequence[slice] = ()) -> Head:
    """Build a new head, (B, F) -> (B, C); its weights come from PyTorch's global random generator.

    Args:
        features: F, the width of what the backbone gives. classes: C. tied: see `put_head`.
    Returns:
        A plain linear head is an `nn.Linear`, down to the names of its weights.
    >>> head = build(HeadSpec(kind="two-layer", dropout=0.5), features=2048, classes=12)
    >>> head.embed(torch.zeros(2, 2048)).shape, head(torch.zeros(2, 2048)).shape
    (torch.Size([2, 512]), torch.Size([2, 12]))
    """
    if features < 1 or classes < 1:
        raise UsageError(f"a head needs at least one feature and one class, got {features} and {classes}")
    if spec.kind == "sigmoid":
        if classes != 2:
            raise UsageError(f"a sigmoid head tells two classes apart, not {classes}: choose the head 'linear'")
        return SigmoidHead(features)
    if spec.kind == "linear" and not spec.embedding and not spec.dropout and not tied:
        return LinearHead(features, classes)
    if spec.kind == "cosine":
        layers, width = _projection(features, spec.embedding, spec.dropout)
        return CosineHead(layers, width, classes, spec.scale, spec.subcentres)
    if spec.kind == "linear":
        return LayeredHead(*_projection(features, spec.embedding, spec.dropout), classes, tied)
    projection, width = _projection(features, spec.embedding, dropout=0.0)
    if spec.kind == "two-layer":
        return LayeredHead([*projection, *_two_layers(width, spec.dropout)], 512, classes, tied)
    hidden = [nn.Linear(width, 256), nn.ReLU(), nn.Dropout(spec.dropout)]
    return LayeredHead([*projection, *hidden], 256, classes, tied)


class LinearHead(nn.Linear):
    """`nn.Linear` with the two steps of a head; the embedding is the features."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.width = features

    def embed(self, features: Tensor) -> Tensor:  # (B, F) -> (B, F)
        return features

    def classify(self, embeddings: Tensor) -> Tensor:  # (B, F) -> (B, C)
        return super().forward(embeddings)


class SigmoidHead(LinearHead):
    """One output z for two classes: the scores are (0, z).

    Their softmax gives the second class sigmoid(z), and cross-entropy of them is binary cross-entropy of z, so whatever
    reads class scores, or a linear layer, reads these. The first row is zero and stays so: it starts there, gets no
    gradient, and decays to what it is.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features, 2)
        with torch.no_grad():
            self.weight[0] = 0.0
            self.bias[0] = 0.0

    def classify(self, embeddings: Tensor) -> Tensor:  # (B, F) -> (B, 2)
        weight, bias = functional.pad(self.weight[1:], (0, 0, 1, 0)), functional.pad(self.bias[1:], (1, 0))
        return functional.linear(embeddings, weight, bias)

    def forward(self, features: Tensor) -> Tensor:  # (B, F) -> (B, 2)
        return self.classify(features)


class TiedLinear(nn.Linear):
    """A linear layer in which runs of outputs share one row of weights and differ by their biases.

    The row is the run's first; its others are zero, get no gradient and have no effect.
    Source: Cao et al. 2020, arXiv:1901.07884, section 3.3: outputs that share their weights fall with their biases.
    """

    rows: Tensor  # (outputs,), the row that each output reads

    def __init__(self, features: int, outputs: int, tied: Sequence[slice]) -> None:
        super().__init__(features, outputs)
        rows = torch.arange(outputs, device="cpu")
        for run in tied:
            rows[run] = run.start
            with torch.no_grad():
                self.weight[run.start + 1 : run.stop] = 0.0
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, F) -> (B, outputs)
        return functional.linear(x, self.weight[self.rows], self.bias)


class LayeredHead(nn.Module):
    """Any layers, (B, F) -> (B, width), then one linear layer with a row for each class; `tied`: see `put_head`."""

    def __init__(self, layers: list[nn.Module], width: int, classes: int, tied: Sequence[slice] = ()) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(*layers)
        self.classifier = TiedLinear(width, classes, tied) if tied else nn.Linear(width, classes)

    def embed(self, features: Tensor) -> Tensor:  # (B, F) -> (B, D)
        embeddings: Tensor = self.layers(features)
        return embeddings

    def classify(self, embeddings: Tensor) -> Tensor:  # (B, D) -> (B, C)
        scores: Tensor = self.classifier(embeddings)
        return scores

    def forward(self, features: Tensor) -> Tensor:  # (B, F) -> (B, C)
        return self.classify(self.embed(features))


class CosineHead(nn.Module):
    """Scores are scale times the cosine between the embedding and the class's direction, the nearest of K.

    New directions are drawn evenly from the sphere, at about unit length: a step of the optimizer then turns them
    as far whatever D is.

    Args:
        layers: (B, F) -> (B, width). scale: s of CosFace and ArcFace.
        subcentres: K; row c * K + k of the weight is direction k of class c.
    """

    def __init__(self, layers: list[nn.Module], width: int, classes: int, scale: float, subcentres: int = 1) -> None:
        super().__init__()
        self.width = width
        self.scale = scale
        self.subcentres = subcentres
        self.layers = nn.Sequential(*layers)
        self.weight = nn.Parameter(torch.empty(classes * subcentres, width).normal_(0.0, width**-0.5))

    def embed(self, features: Tensor) -> Tensor:  # (B, F) -> (B, D)
        embeddings: Tensor = self.layers(features)
        return embeddings

    def cosines(self, embeddings: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, D) -> (B, C), in [-1, 1] up to rounding; with class numbers (S,) of these alone, (B, S)."""
        with exactly(embeddings):
            weight: Tensor = self.weight
            if classes is not None:
                weight = weight.view(-1, self.subcentres, self.width)[classes].flatten(0, 1)
            directions = functional.normalize(weight)
            every = functional.linear(unit(embeddings.to(directions.dtype)), directions)  # (B, C * K)
        return every.reshape(every.shape[0], -1, self.subcentres).amax(2)

    def classify(self, embeddings: Tensor) -> Tensor:  # (B, D) -> (B, C)
        return self.scale * self.cosines(embeddings)

    def forward(self, features: Tensor) -> Tensor:  # (B, F) -> (B, C)
        return self.classify(self.embed(features))


Head = LinearHead | SigmoidHead | LayeredHead | CosineHead


def _projection(features: int, embedding: int, dropout: float) -> tuple[list[nn.Module], int]:
    """Dropout and the map to the embedding, those of them that are wanted, and the width after them."""
    layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
    if embedding:
        layers += [nn.Linear(features, embedding, bias=False), nn.BatchNorm1d(embedding)]
    return layers, embedding or features


def _two_layers(features: int, dropout: float) -> list[nn.Module]:
    """The notebooks' head up to its last layer, (B, features) -> (B, 512)."""
    layers: list[nn.Module] = [nn.BatchNorm1d(features)]
    for inputs, outputs in ((features, 1024), (1024, 512)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)]
    return layers
