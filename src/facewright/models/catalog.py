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
from facewright.models import (
    alexnet,
    densenet,
    efficientnet,
    facenet,
    inception_resnet,
    iresnet,
    mobilefacenet,
    mobilenet,
    nfnet,
    plain_cnn,
    regnet,
    resnest,
    resnet,
    squeezenet,
    tinydarknet,
    vgg,
    vit,
    xception,
)
from facewright.models.blocks import Stem
from facewright.models.native_flops import NATIVE_FLOPS

Model = (
    alexnet.AlexNet
    | vgg.VGG
    | resnet.ResNet
    | xception.Xception
    | densenet.DenseNet
    | squeezenet.SqueezeNet
    | mobilenet.MobileNetV1
    | mobilenet.MobileNetV2
    | efficientnet.EfficientNet
    | regnet.RegNet
    | resnest.ResNeSt
    | nfnet.NFNet
    | vit.VisionTransformer
    | inception_resnet.InceptionResNetV1
    | facenet.SmallFaceNet
    | iresnet.IResNet
    | mobilefacenet.MobileFaceNet
    | tinydarknet.TinyDarknet
    | tinydarknet.PointwiseFaceNet
    | plain_cnn.PlainCNN
)
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
    smallest_side: int = SMALLEST_SIDE  # px


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
    smallest_side: int = SMALLEST_SIDE  # px


class Counted(Protocol):
    @property
    def parameters(self) -> int: ...


def _counts(variants: Mapping[str, Counted], beginning: str = "") -> dict[str, int]:
    """The published counts of a family's table, or of the rows whose names begin so."""
    return {name: variant.parameters for name, variant in variants.items() if name.startswith(beginning)}


FAMILIES = {
    "alexnet": Family(
        alexnet.build,
        "Krizhevsky 2014, arXiv:1404.5997",
        "torchvision",
        224,
        alexnet.VARIANTS,
        stems=("imagenet",),
    ),
    "vgg": Family(
        vgg.build,
        "Simonyan and Zisserman 2015, arXiv:1409.1556",
        "torchvision",
        224,
        _counts(vgg.VARIANTS),
        stems=("imagenet",),
    ),
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
    "squeezenet": Family(
        squeezenet.build, "Iandola et al. 2016, arXiv:1602.07360", "torchvision", 224, _counts(squeezenet.VARIANTS)
    ),
    "mobilenet_v1": Family(
        mobilenet.build_v1,
        "Howard et al. 2017, arXiv:1704.04861",
        "imgclsmob (README); the names are timm's",
        224,
        _counts(mobilenet.V1_VARIANTS),
    ),
    "mobilenet_v2": Family(
        mobilenet.build_v2, "Sandler et al. 2018, arXiv:1801.04381", "torchvision", 224, mobilenet.V2_VARIANTS
    ),
    "efficientnet": Family(
        efficientnet.build,
        "Tan and Le 2019, arXiv:1905.11946",
        "torchvision",
        224,
        _counts(efficientnet.VARIANTS),
        native_sizes={name: variant.size for name, variant in efficientnet.VARIANTS.items()},
    ),
    "regnet": Family(
        regnet.build,
        "Radosavovic et al. 2020, arXiv:2003.13678",
        "torchvision; 200MF and 600MF: imgclsmob (README)",
        224,
        _counts(regnet.VARIANTS),
    ),
    "resnest": Family(
        resnest.build,
        "Zhang et al. 2022, arXiv:2004.08955",
        "timm (resnest50d, resnest101e)",
        224,
        _counts(resnest.VARIANTS),
        native_sizes={"resnest101": 256},
    ),
    "nfnet": Family(
        nfnet.build,
        "Brock et al. 2021, arXiv:2102.06171",
        "timm (dm_nfnet_f0, dm_nfnet_f1)",
        224,
        _counts(nfnet.VARIANTS),
        native_sizes={name: variant.native_size for name, variant in nfnet.VARIANTS.items()},
    ),
    "vit": Family(
        vit.build, "Dosovitskiy et al. 2021, arXiv:2010.11929", "timm", 224, _counts(vit.VARIANTS), stems=("imagenet",)
    ),
    "inception_resnet": Family(
        inception_resnet.build,
        "Szegedy et al. 2017, arXiv:1602.07261; Schroff et al. 2015, arXiv:1503.03832",
        "timesler (facenet-pytorch): 23,482,624 before the classifier",
        160,
        inception_resnet.VARIANTS,
        stems=("imagenet",),
        smallest_side=inception_resnet.SMALLEST_SIDE,
    ),
    "iresnet": Family(
        iresnet.build,
        "Deng et al. 2019, arXiv:1801.07698",
        "counted from insightface's source, which states none",
        112,
        _counts(iresnet.VARIANTS),
        stems=("imagenet",),
    ),
    "mobilefacenet": Family(
        mobilefacenet.build,
        "Chen et al. 2018, arXiv:1804.07573",
        "a public file: 1,003,136 before the classifier (the paper: 0.99 M)",
        112,
        mobilefacenet.VARIANTS,
        stems=("imagenet",),
    ),
    "facenet": Family(
        facenet.build,
        "after Schroff et al. 2015, arXiv:1503.03832",
        "counted here; no published figure",
        96,
        facenet.VARIANTS,
        stems=("imagenet",),
    ),
    "tinydarknet": Family(
        tinydarknet.build,
        "Redmon, pjreddie.com/darknet/tiny-darknet",
        "counted from darknet's cfg/tiny.cfg; its weights take 4.0 MB",
        224,
        {"tinydarknet": tinydarknet.VARIANTS["tinydarknet"]},
        stems=("imagenet",),
    ),
    "pointwise_facenet": Family(
        tinydarknet.build,
        "none: a net for small devices",
        "counted here; no published figure",
        32,
        {"pointwise_facenet": tinydarknet.VARIANTS["pointwise_facenet"]},
        stems=("imagenet",),
    ),
    "plain_cnn": Family(
        plain_cnn.build,
        "none: a baseline of courses",
        "counted here; no published figure",
        64,
        plain_cnn.VARIANTS,
        stems=("imagenet",),
    ),
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
        row.smallest_side,
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
        input_size: side of the pictures, px; at least the architecture's smallest, 32 for all but a few.
        stem: "auto", or one of the family's: "coarse", "imagenet", "medium", "small".
    Raises:
        UnknownName: no such architecture or stem.
        UsageError: the input is smaller than the architecture can take, or than 64 px with the coarse stem.
    >>> resolve_stem("resnet50", 112)
    'coarse'
    """
    facts = describe(name)
    if input_size < facts.smallest_side:
        least = facts.smallest_side
        raise UsageError(f"{name} needs pictures of at least {least} px a side, not {input_size}: enlarge them")
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
            every model takes any size from its smallest side (32 px for all but a few), square or not.
        stem: "auto" (see `resolve_stem`), or one by name.
    Raises:
        UnknownName: no such architecture or stem.
        UsageError: fewer than 1 class, or pictures too small for the architecture.
    """
    facts = describe(name)
    if classes < 1:
        raise UsageError(f"a classifier needs at least 1 class, not {classes}")
    resolved = resolve_stem(name, facts.native_size if input_size is None else input_size, stem)
    return FAMILIES[facts.family].build(name, classes, resolved)


def classifier_of(model: Model) -> nn.Linear | nn.Conv2d:
    """The last layer with weights: (B, feature_width) -> (B, classes); SqueezeNet's is a 1x1 convolution."""
    layer = model.get_submodule(model.classifier_name)
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise UsageError(f"the classifier of {type(model).__name__} was replaced by {type(layer).__name__}")
    return layer


def replace_classifier(model: Model, classes: int) -> nn.Linear | nn.Conv2d:
    """Put a fresh last layer of the same kind, for `classes` outputs, on a trained body; returns it."""
    old = classifier_of(model)
    device, dtype = old.weight.device, old.weight.dtype
    fresh: nn.Linear | nn.Conv2d
    if isinstance(old, nn.Conv2d):
        fresh = nn.Conv2d(old.in_channels, classes, 1, device=device, dtype=dtype)
    else:
        fresh = nn.Linear(old.in_features, classes, device=device, dtype=dtype)
    model.set_submodule(model.classifier_name, fresh)
    return fresh
