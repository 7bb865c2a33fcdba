"""What turns the features of a body into scores of classes: linear, sigmoid, two or one hidden layers, cosine.

Every head says in two steps what it does: `embed` gives what the last, class-specific layer sees (an embedding, not
brought to unit length), `classify` is that layer, and `forward` is one after the other. A verifier throws the second
step away.

Source: the two-layer head is that of the fine-tuning notebooks this package replaces (they train it with an L2 penalty
of 1e-4, which is the optimizer's matter and stands in the recipe); the cosine head is the last layer of CosFace
(arXiv:1801.09414, eq. 3) and ArcFace (arXiv:1801.07698, eq. 2), its sub-centres are those of Deng et al. 2020,
"Sub-center ArcFace", ECCV.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.errors import UnknownName, UsageError

HEADS = ("linear", "sigmoid", "two-layer", "hidden-256", "cosine")
WIDEST = 16_384  # of an embedding; a model file that asks for more is broken or hostile
MOST_SUBCENTRES = 64
LARGEST_SCALE = 1_000.0


@dataclass(frozen=True)
class HeadSpec:
    """What a head is, in plain values that a model file can hold.

    kind: one of `HEADS`.
    embedding: D; 0 = the features themselves, else a linear map to D without bias and a batch norm come first.
    dropout: share of the values set to zero in training, in [0, 1). Linear and cosine heads drop features, before the
        map to D (ArcFace's order, section 3.1: dropout, map, batch norm), so an embedding itself is never thinned out
        unless it is the features; the others drop after each hidden layer, as their sources do.
    scale: cosine heads only: scores are scale * cosine; in (0, 1000]. 0 elsewhere.
    subcentres: cosine heads only: K directions a class, of which the nearest counts; 1 elsewhere.

    Raises:
        UnknownName: no such kind. UsageError: a value of another type, out of range, or of no meaning for the kind.
    >>> HeadSpec("cosine", embedding=128, scale=32.0).to_dict()
    {'kind': 'cosine', 'embedding': 128, 'dropout': 0.0, 'scale': 32.0, 'subcentres': 1}
    """

    kind: str = "linear"
    embedding: int = 0
    dropout: float = 0.0
    scale: float = 0.0
    subcentres: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str):
            raise UsageError(f"expected the kind of a head as text, one of {', '.join(HEADS)}; got {self.kind!r}")
        if self.kind not in HEADS:
            raise UnknownName("head", self.kind[:80], HEADS)
        _whole("embedding", self.embedding, 0, WIDEST)
        _whole("subcentres", self.subcentres, 1, MOST_SUBCENTRES)
        object.__setattr__(self, "dropout", _number("dropout", self.dropout, 1.0, open_above=True))
        object.__setattr__(self, "scale", _number("scale", self.scale, LARGEST_SCALE))
        if self.kind == "cosine" and self.scale == 0:
            raise UsageError("a cosine head needs a scale above 0, for cosines alone make flat probabilities: try 32")
        if self.kind == "sigmoid" and (self.embedding or self.dropout):
            raise UsageError("a sigmoid head reads the features as they are: leave embedding and dropout at 0")
        if self.kind != "cosine" and (self.scale != 0 or self.subcentres != 1):
            raise UsageError(f"scale and subcentres are for cosine heads; leave them out of a {self.kind} head")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; `from_dict` gives it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeadSpec:
        """The inverse of `to_dict`, for values that came in a file: everything is checked, nothing is built.

        Raises:
            UnknownName: a key that is not a field, or a kind that is no head.
            UsageError: no mapping, or a value of another type or out of its range.
        """
        if not isinstance(values, Mapping):
            raise UsageError(f"expected the description of a head as a table of values, got {type(values).__name__}")
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise UnknownName("head key", str(key)[:80], known)
        return cls(**cast(Any, values))  # the constructor checks every value


def build(spec: HeadSpec, features: int, classes: int) -> Head:
    """A fresh head; its weights come from PyTorch's global random generator.

    Args:
        features: F, the width of what the body gives; at least 1.
        classes: C, at least 1.
    Returns:
        A module (B, F) -> (B, C). A plain linear head is an `nn.Linear`, down to the names of its weights.
    Raises:
        UsageError: fewer than one feature or class.
    >>> head = build(HeadSpec("two-layer", dropout=0.5), features=2048, classes=12)
    >>> head.embed(torch.zeros(2, 2048)).shape, head(torch.zeros(2, 2048)).shape
    (torch.Size([2, 512]), torch.Size([2, 12]))
    """
    if features < 1 or classes < 1:
        raise UsageError(f"a head needs at least one feature and one class, got {features} and {classes}")
    if spec.kind == "sigmoid":
        if classes != 2:
            raise UsageError(f"a sigmoid head tells two classes apart, not {classes}: choose the head 'linear'")
        return SigmoidHead(features)
    if spec.kind == "linear" and not spec.embedding and not spec.dropout:
        return LinearHead(features, classes)
    if spec.kind == "cosine":
        layers, width = _projection(features, spec.embedding, spec.dropout)
        return CosineHead(layers, width, classes, spec.scale, spec.subcentres)
    if spec.kind == "linear":
        return LayeredHead(*_projection(features, spec.embedding, spec.dropout), classes)
    projection, width = _projection(features, spec.embedding, dropout=0.0)
    hidden, last = _two_layers(width, spec.dropout) if spec.kind == "two-layer" else _hidden(width, 256, spec.dropout)
    return LayeredHead([*projection, *hidden], last, classes)


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


class LayeredHead(nn.Module):
    """Any layers, then one linear layer with a row for each class.

    Args:
        layers: (B, F) -> (B, width).
        width: D, of the embedding.
    """

    def __init__(self, layers: list[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)

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

    Fresh directions are drawn evenly from the sphere, at about unit length: a step of the optimizer then turns them
    as far whatever D is.

    Args:
        layers: (B, F) -> (B, width).
        width: D, of the embedding.
        scale: s of CosFace and ArcFace.
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

    def cosines(self, embeddings: Tensor) -> Tensor:  # (B, D) -> (B, C), in [-1, 1] up to rounding
        with _exactly(embeddings):
            directions = functional.normalize(self.weight)
            every = functional.linear(_unit(embeddings.to(directions.dtype)), directions)  # (B, C * K)
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


def _two_layers(features: int, dropout: float) -> tuple[list[nn.Module], int]:
    """The notebooks' head up to its last layer, and its width."""
    layers: list[nn.Module] = [nn.BatchNorm1d(features)]
    for inputs, outputs in ((features, 1024), (1024, 512)):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(dropout)]
    return layers, 512


def _hidden(features: int, width: int, dropout: float) -> tuple[list[nn.Module], int]:
    """One hidden layer, and its width."""
    return [nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout)], width


def _unit(x: Tensor) -> Tensor:  # (B, D) -> (B, D)
    """Each row at length 1. One below 1e-12 has no direction: it becomes zero and gets no gradient, not a huge one."""
    squares = (x * x).sum(1, keepdim=True)
    real = squares > 1e-24
    return torch.where(real, x * torch.where(real, squares, 1.0).rsqrt(), 0.0)


def _exactly(x: Tensor) -> AbstractContextManager[object]:
    """In here, autocast leaves matrix products of x alone: bfloat16's three digits are too few for a small angle."""
    kind = x.device.type
    # Only where it is on: an exported graph would hold the switch, and some devices have none.
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


def _whole(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UsageError(f"expected {name} of a head as a whole number from {least} to {most}, got {_shown(value)}")


def _number(name: str, value: object, most: float, *, open_above: bool = False) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most
    if not good or (open_above and value == most):
        bound = f"below {most:g}" if open_above else f"up to {most:g}"
        raise UsageError(f"expected {name} of a head as a number from 0, {bound}, got {_shown(value)}")
    return float(cast(float, value))


def _shown(value: object) -> str:
    """A value from a file in a message: short, whatever it is."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "an integer of more than 64 bits"  # printing one of many digits is an error of its own
    return repr(value)[:80]
