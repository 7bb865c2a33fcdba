"""Matching of a table of tensors to an architecture's parameters, under any known naming, and loading them.

All or nothing: every name and every shape is compared before a single number is copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from facewright.errors import WeightsError
from facewright.models.catalog import create_model, describe
from facewright.models.renaming import Naming, namings, renamed
from facewright.models.weight_files import COUNTER

LISTED = 8  # names of a kind in a message
Shape = tuple[int, ...]


@dataclass(frozen=True)
class MatchedWeights:
    """Weights under our names."""

    state: Mapping[str, Tensor]  # the classifier's where the file has one
    classes: int  # of that classifier; 0 without one
    naming: Naming  # how the file names them


@dataclass(frozen=True)
class Difference:
    """The differences between given and expected names and shapes."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]  # with both shapes

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def __str__(self) -> str:
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.misshapen))
        return "; ".join(f"{len(names)} {kind}: {_listed(names)}" for kind, names in kinds if names)


def match_weights(architecture: str, raw: Mapping[str, Tensor], path: str, stem: str | None = None) -> MatchedWeights:
    """The tensors as parameters of an architecture.

    Counters of batch norms that old files lack start at 0. A convolution over the whole map and the linear layer that
    replaces it, and a 1x1 convolution and a matrix, hold the same numbers: they are reshaped.

    Args:
        raw: by their names; float32.
        path: of the file, for the message.
        stem: that the weights want; None for the family's published one.
    Raises:
        UnknownName: no such architecture.
        WeightsError: a name is missing, unexpected, or has another shape; the message lists them.
    """
    family = describe(architecture).family
    stem = published_stem(architecture) if stem is None else stem
    tried = [(naming, *_under(naming, architecture, raw, path, stem)) for naming in namings(family)]
    naming, difference, matched = min(tried, key=lambda row: row[1].count)
    if difference.count:
        raise WeightsError(f"{path}: not weights of {architecture}: {difference}")
    return MatchedWeights(matched, _classes(matched, _classifier(architecture)), naming)


def published_stem(architecture: str) -> str:
    """The stem that public weights were trained with: the paper's."""
    stems = describe(architecture).stems
    return "imagenet" if "imagenet" in stems else stems[0]


def compare(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> Difference:
    """The names and shapes that differ, in the order of the network and of the file.

    >>> str(compare({"a": (1,), "b": (2,)}, {"b": (3,), "c": (4,)}))
    '1 missing: a; 1 unexpected: c; 1 of another shape: b is 3, not 2'
    """
    return Difference(
        tuple(name for name in expected if name not in found),
        tuple(name for name in found if name not in expected),
        tuple(
            f"{name} is {_shape(found[name])}, not {_shape(shape)}"
            for name, shape in expected.items()
            if name in found and found[name] != shape
        ),
    )


def without_other_head(architecture: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without a head that is not the architecture's own; its own, a weight and a bias, stays."""
    prefix = f"{_classifier(architecture)}."
    head = {name for name in state if name.startswith(prefix)}
    own = head == {f"{prefix}weight", f"{prefix}bias"}
    return {name: tensor for name, tensor in state.items() if own or name not in head}


def shapes(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _under(
    naming: Naming, architecture: str, raw: Mapping[str, Tensor], path: str, stem: str
) -> tuple[Difference, dict[str, Tensor]]:
    """The tensors under one naming, and what then differs; a classifier may have any number of classes, or lack."""
    names = renamed(raw, naming, path)
    ours = {names[name]: tensor for name, tensor in raw.items()}
    prefix = _classifier(architecture)
    classes = _classes(ours, prefix)
    expected = _expected(architecture, max(classes, 1), stem)
    if not any(name.startswith(f"{prefix}.") for name in ours):
        expected = {name: shape for name, shape in expected.items() if not name.startswith(f"{prefix}.")}
    for name, shape in expected.items():
        if name.endswith(COUNTER) and name not in ours and shape == ():
            ours[name] = torch.zeros((), dtype=torch.int64)
        elif name in ours and _same_numbers(tuple(ours[name].shape), shape):
            ours[name] = ours[name].reshape(shape)
    difference = compare(expected, shapes(ours))
    return difference, {name: ours[name] for name in expected if name in ours}


@lru_cache(maxsize=16)
def _expected(architecture: str, classes: int, stem: str) -> Mapping[str, Shape]:
    with torch.device("meta"):
        return MappingProxyType(shapes(create_model(architecture, classes, stem=stem).state_dict()))


@cache
def _classifier(architecture: str) -> str:
    with torch.device("meta"):
        return create_model(architecture, 1).classifier_name


def _classes(state: Mapping[str, Tensor], prefix: str) -> int:
    weight = state.get(f"{prefix}.weight")
    return weight.shape[0] if weight is not None and weight.dim() > 0 else 0


def _same_numbers(came: Shape, wanted: Shape) -> bool:
    """Return True if two shapes are a matrix and a convolution with the same numbers in the same order.

    >>> _same_numbers((4096, 512, 7, 7), (4096, 25088)), _same_numbers((64, 3), (3, 64, 1, 1))
    (True, False)
    """
    if {len(came), len(wanted)} != {2, 4} or came[0] != wanted[0]:
        return False
    flat, spread = sorted((came, wanted), key=len)
    return flat[1] == spread[1] * spread[2] * spread[3]


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "a number"


def _listed(names: tuple[str, ...]) -> str:
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest:,} more" if rest > 0 else "")
