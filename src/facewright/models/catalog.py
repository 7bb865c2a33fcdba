"""The zoo by name: which architectures exist, what is published about them, and how to build one.

>>> model = create_model("resnet18", classes=12, input_size=64)
>>> model.feature_width, classifier_of(model).out_features
(512, 12)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn

from facewright.errors import UnknownName, UsageError
from facewright.models import densenet, resnet, xception
from facewright.models.blocks import Stem

Model = resnet.ResNet | xception.Xception | densenet.DenseNet
"""What `create_model` gives: `forward` (B, 3, H, W) -> (B, classes); `forward_features` -> (B, feature_width)."""

STEMS: tuple[Stem, ...] = ("coarse", "imagenet", "medium", "small")
SMALLEST_SIDE = 32  # px: the small stem is made for it; a body that halves three times leaves 4 x 4 points
COARSE_SIDE = 64  # px: the same with the coarse stem

# `stem="auto"`: from which side of the input, in px, each stem is used: the first row that fits and whose stem the
# family has; where none is, the family's first stem, which takes every size from 32 px. Chosen for training from fresh
# weights on a few thousand face images: there, a body that sees a map of about 12 to 24 points a side learnt in fewer
# images, and cost a quarter, than one that saw twice the side (measured with ResNet-50; see the README). Weights from
# elsewhere want the stem they were trained with.
AUTO_STEM: tuple[tuple[int, Stem], ...] = (
    (192, "imagenet"),
    (96, "coarse"),
    (48, "imagenet"),
    (SMALLEST_SIDE, "medium"),
)


@dataclass(frozen=True)
class Facts:
    """What is known of an architecture without building it."""

    name: str
    family: str
    paper: str
    parameters: int  # with 1,000 classes and the imagenet stem
    source: str  # who published that count
    native_size: int  # px: side of the pictures the paper trained on
    flops: int  # one native picture, 1,000 classes, a multiply-add = 2; checked against `anatomy.count_flops` by a test
    stems: tuple[Stem, ...] = STEMS


@dataclass(frozen=True)
class Family:
    """Architectures of one paper."""

    build: Callable[[str, int, Stem], Model]  # name, classes, stem
    paper: str
    source: str
    native_size: int
    parameters: dict[str, int]
    stems: tuple[Stem, ...] = STEMS
    native_sizes: dict[str, int] = field(default_factory=dict)  # of those whose paper trained on another size


class Counted(Protocol):
    @property
    def parameters(self) -> int: ...


def _counts(variants: Mapping[str, Counted], beginning: str = "") -> dict[str, int]:
    """The published counts of a family's table, or of the rows whose names begin so."""
    return {name: variant.parameters for name, variant in variants.items() if name.startswith(beginning)}


FAMILIES = {
    "resnet": Family(
        resnet.build,
        "He et al. 2016, arXiv:1512.03385",
        "torchvision",
        224,
        _counts(resnet.VARIANTS, "resnet"),
    ),
    "resnext": Family(
        resnet.build, "Xie et al. 2017, arXiv:1611.05431", "torchvision", 224, _counts(resnet.VARIANTS, "resnext")
    ),
    "wide_resnet": Family(
        resnet.build,
        "Zagoruyko and Komodakis 2016, arXiv:1605.07146",
        "torchvision",
        224,
        _counts(resnet.VARIANTS, "wide_resnet"),
    ),
    "seresnet": Family(
        resnet.build,
        "Hu et al. 2018, arXiv:1709.01507",
        "imgclsmob (README); the names are timm's",
        224,
        _counts(resnet.VARIANTS, "seres"),
    ),
    "xception": Family(
        xception.build, "Chollet 2017, arXiv:1610.02357", "timm (legacy_xception)", 299, xception.VARIANTS
    ),
    "densenet": Family(
        densenet.build, "Huang et al. 2017, arXiv:1608.06993", "torchvision", 224, _counts(densenet.VARIANTS)
    ),
}

NATIVE_FLOPS = {
    "resnet18": 3_628_146_688,
    "resnet34": 7_327_522_816,
    "resnet50": 8_178_368_512,
    "resnet101": 15_602_810_880,
    "resnet152": 23_027_253_248,
    "resnext50_32x4d": 8_460_959_744,
    "resnext101_64x4d": 30_920_540_160,
    "resnext101_32x8d": 32_828_030_976,
    "wide_resnet50_2": 22_796_042_240,
    "wide_resnet101_2": 45_506_101_248,
    "seresnet50": 8_183_398_400,
    "seresnet101": 15_612_297_216,
    "seresnext50_32x4d": 8_465_989_632,
    "seresnext101_32x4d": 15_949_479_936,
    "seresnext101_32x8d": 32_837_517_312,
    "xception": 16_714_806_992,
    "densenet121": 5_668_323_328,
    "densenet161": 15_455_814_144,
    "densenet169": 6_719_686_656,
    "densenet201": 8_582_731_776,
}
VARIANTS: dict[str, Facts] = {
    name: Facts(
        name,
        family,
        row.paper,
        count,
        row.source,
        row.native_sizes.get(name, row.native_size),
        NATIVE_FLOPS[name],
        row.stems,
    )
    for family, row in FAMILIES.items()
    for name, count in row.parameters.items()
}


def names() -> list[str]:
    """Every architecture, family by family and from small to large."""
    return list(VARIANTS)


def describe(name: str) -> Facts:
    """What is published about an architecture.

    Raises:
        UnknownName: no such architecture; the nearest known name is in the message.
    >>> describe("xception").parameters
    22855952
    """
    if name not in VARIANTS:
        raise UnknownName("model", name, VARIANTS)
    return VARIANTS[name]


def resolve_stem(name: str, input_size: int, stem: str = "auto") -> Stem:
    """The stem to build: the one asked for, or for "auto" the row of `AUTO_STEM` that fits the input.

    Args:
        input_size: side of the pictures, px; at least 32.
        stem: "auto", or one of the family's: "coarse", "imagenet", "medium", "small".
    Raises:
        UnknownName: no such architecture or stem.
        UsageError: the input is smaller than 32 px, or than 64 px with the coarse stem.
    >>> resolve_stem("resnet50", 112)
    'coarse'
    """
    facts = describe(name)
    if input_size < SMALLEST_SIDE:
        raise UsageError(f"{name} needs pictures of at least {SMALLEST_SIDE} px a side, not {input_size}: enlarge them")
    if stem == "auto":
        fits = (known for least, known in AUTO_STEM if input_size >= least and known in facts.stems)
        return next(fits, facts.stems[0])
    chosen = next((known for known in facts.stems if stem == known), None)
    if chosen is None:
        raise UnknownName("stem", stem, ("auto", *facts.stems))
    if chosen == "coarse" and input_size < COARSE_SIDE:
        raise UsageError(f"the coarse stem needs pictures of at least {COARSE_SIDE} px a side, not {input_size}")
    return chosen


def create_model(name: str, classes: int, *, input_size: int | None = None, stem: str = "auto") -> Model:
    """A fresh model of the zoo; its weights come from PyTorch's global random generator.

    Args:
        classes: outputs of the last layer; at least 1.
        input_size: side of the pictures it will see, px; None = the paper's. Decides the stem, nothing else:
            every model takes any size from 32 px, square or not.
        stem: "auto" (see `resolve_stem`), or one by name.
    Raises:
        UnknownName: no such architecture or stem.
        UsageError: fewer than 1 class, or pictures smaller than 32 px.
    """
    facts = describe(name)
    if classes < 1:
        raise UsageError(f"a classifier needs at least 1 class, not {classes}")
    resolved = resolve_stem(name, facts.native_size if input_size is None else input_size, stem)
    return FAMILIES[facts.family].build(name, classes, resolved)


def classifier_of(model: Model) -> nn.Linear:
    """The last linear layer: (B, feature_width) -> (B, classes)."""
    layer = model.get_submodule(model.classifier_name)
    if not isinstance(layer, nn.Linear):
        raise UsageError(f"the classifier of {type(model).__name__} was replaced by {type(layer).__name__}")
    return layer


def replace_classifier(model: Model, classes: int) -> nn.Linear:
    """Put a fresh last layer for `classes` outputs on a trained body, on the same device and dtype; returns it."""
    old = classifier_of(model)
    fresh = nn.Linear(old.in_features, classes, device=old.weight.device, dtype=old.weight.dtype)
    model.set_submodule(model.classifier_name, fresh)
    return fresh
