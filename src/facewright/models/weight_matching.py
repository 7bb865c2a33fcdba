"""Matching of a table of tensors to an architecture's parameters, under any known naming, and loading them.

All or nothing: every name and every shape is compared before a single number is copied.

Our files name parameters as the best-known public weights do (each model file says whose), so most families need no
rule at all. A rule is a row of (pattern, replacement) pairs, applied to each name in order; a table a family. Which
rule a file needs is found by trying them: the one whose names fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

from facewright.errors import WeightsError
from facewright.models import mobilenet, nfnet
from facewright.models.catalog import create_model, describe

COUNTER = "num_batches_tracked"  # of batch norms: the only numbers of a network that are no floating point
LISTED = 8  # names of a kind in a message
Shape = tuple[int, ...]
Steps = tuple[tuple[str, str], ...]

OURS = "facewright"
WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "arcface.")
"""What programs put before every name: DataParallel, torch.compile, trainers, and the MobileFaceNet files."""


@dataclass(frozen=True)
class Naming:
    """One way to name the parameters of a family."""

    name: str
    steps: Steps = ()
    imagenet: bool = False  # whether weights so named expect ImageNet's mean and std whatever the family's habit

    def rename(self, name: str) -> str:
        """A name of theirs in ours."""
        for pattern, replacement in self.steps:
            name = re.sub(pattern, replacement, name)
        return name


def namings(family: str) -> tuple[Naming, ...]:
    """Every known way to name a family's parameters, ours first."""
    return (Naming(OURS), *NAMINGS.get(family, ()))


def unwrapped(names: Iterable[str]) -> dict[str, str]:
    """Names without what stands before every one of them, by the names as they are.

    >>> unwrapped(["module.fc.weight", "module.fc.bias"])
    {'module.fc.weight': 'fc.weight', 'module.fc.bias': 'fc.bias'}
    """
    short = {name: name for name in names}
    found = True
    while found and short:
        found = False
        for wrapper in WRAPPERS:
            if all(name.startswith(wrapper) for name in short.values()):
                short = {name: rest.removeprefix(wrapper) for name, rest in short.items()}
                found = True
    return short


def renamed(names: Iterable[str], naming: Naming, path: str) -> dict[str, str]:
    """Their names in ours, by theirs.

    Raises:
        WeightsError: two of them become one.
    """
    ours = {name: naming.rename(rest) for name, rest in unwrapped(names).items()}
    theirs: dict[str, str] = {}
    for name, own in ours.items():
        if own in theirs:
            raise WeightsError(f"{path}: {theirs[own]} and {name} are both {own} in the naming of {naming.name}")
        theirs[own] = name
    return ours


def _squeeze(theirs: str, ours: str) -> Steps:
    """timm's squeeze and excitation inside a block."""
    return ((rf"{theirs}se\.conv_reduce\.", rf"{ours}.fc1."), (rf"{theirs}se\.conv_expand\.", rf"{ours}.fc2."))


def _efficientnet() -> Steps:
    first, block = r"^blocks\.0\.(\d+)\.", r"^blocks\.([1-6])\.(\d+)\."
    in_first, in_block = r"features.1.\1.block", r"features.\1~.\2.block"
    return (
        *_ends(8),
        *_layers(first, in_first, {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "2.0", "bn2": "2.1"}),
        *_squeeze(first, f"{in_first}.1"),
        *_layers(block, in_block, {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1"}),
        *_layers(block, in_block, {"conv_pwl": "3.0", "bn3": "3.1"}),
        *_squeeze(block, f"{in_block}.2"),
        *((rf"^features\.{stage}~\.", f"features.{stage + 1}.") for stage in range(1, 7)),  # theirs count from 0
    )


def _mobilenet_v2() -> Steps:
    """timm nests blocks in stages; torchvision's, and ours, stand in a row."""
    steps = [*_ends(18)]
    number = 1
    for stage, (expansion, _, depth, _) in enumerate(mobilenet.V2_STAGES):
        parts = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
        places = ["0.0", "0.1", "1.0", "1.1", "2", "3"]
        if expansion == 1:  # nothing to expand: the depthwise convolution comes first
            parts, places = ["conv_dw", "bn1", "conv_pw", "bn2"], ["0.0", "0.1", "1", "2"]
        for index in range(depth):
            table = dict(zip(parts, places, strict=True))
            steps += _layers(rf"^blocks\.{stage}\.{index}\.", f"features.{number}.conv", table)
            number += 1
    return tuple(steps)


def _ends(last: int) -> Steps:
    """timm's first and last convolution, and its classifier."""
    places = {"conv_stem": "0.0", "bn1": "0.1", "conv_head": f"{last}.0", "bn2": f"{last}.1"}
    return *_layers("^", "features", places), *_layers("^", "classifier", {"classifier": "1"})


def _layers(theirs: str, ours: str, places: Mapping[str, str]) -> Steps:
    return tuple((rf"{theirs}{re.escape(part)}\.", rf"{ours}.{place}.") for part, place in places.items())


def _regnet() -> Steps:
    inside = {"conv1.conv": "f.a.0", "conv1.bn": "f.a.1", "conv2.conv": "f.b.0", "conv2.bn": "f.b.1", "se": "f.se"}
    inside |= {"conv3.conv": "f.c.0", "conv3.bn": "f.c.1", "downsample.conv": "proj.0", "downsample.bn": "proj.1"}
    block = r"^s(\d)\.b(\d+)\."
    deepest = 30  # blocks of a stage; the longest here has 17
    return (
        (r"^stem\.conv\.", "stem.0."),
        (r"^stem\.bn\.", "stem.1."),
        (r"^head\.fc\.", "fc."),
        *(
            (rf"{block}{re.escape(part)}\.", rf"trunk_output.block\1.block\1-\2~.{place}.")
            for part, place in inside.items()
        ),
        *((rf"-{index}~\.", f"-{index - 1}.") for index in range(1, deepest + 1)),  # theirs count from 1
    )


VIT_TORCHVISION: Steps = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    (r"^encoder\.ln\.", "norm."),
    (r"^heads\.head\.", "head."),
)

# Families that are not listed are named alike everywhere. timm's VGG has its linear layers as convolutions: the same
# numbers in another shape, which `weights` allows.
NAMINGS: dict[str, tuple[Naming, ...]] = {
    "vgg": (
        Naming("timm", _layers("^", "classifier", {"pre_logits.fc1": "0", "pre_logits.fc2": "3", "head.fc": "6"})),
    ),
    "densenet": (Naming("torchvision before 2018", ((r"\.(norm|conv)\.([12])\.", r".\1\2."),)),),
    "mobilenet_v2": (Naming("timm", _mobilenet_v2()),),
    "efficientnet": (Naming("timm", _efficientnet()),),
    "regnet": (Naming("timm", _regnet()),),
    "nfnet": (Naming("timm", tuple((f"^{re.escape(public)}", ours) for public, ours in nfnet.PUBLIC_NAMES)),),
    "vit": (Naming("torchvision", VIT_TORCHVISION, imagenet=True),),
    "xception": (Naming("cadene", ((r"^last_linear\.", "fc."),)),),
}


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
