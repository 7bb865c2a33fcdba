"""The zoo by name: which architectures exist, what is published about them, and how to build one.

>>> model = create_model("resnet18", classes=12, input_size=64)
>>> model.feature_width, classifier_of(model).out_features
(512, 12)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from facewright.errors import UnknownName, UsageError, require_extra
from facewright.models.families import BRIDGED, FAMILIES, SMALLEST_SIDE, STEMS

if TYPE_CHECKING:
    from torch import nn

    from facewright.models.blocks import Model, Stem

COARSE_SIDE = 64  # px: the smallest side that the coarse stem takes

# `stem="auto"`: from which side of the input, in px, each stem is used: the first row that fits and whose stem the
# family has; where none is, the family's first stem, which takes every size from 32 px. Chosen for training from random
# initialization on a few thousand face images: there, stages that see a map of 12 to 24 points a side needed fewer
# images, and a quarter of the cost, than with twice the side (measured with ResNet-50). Weights from elsewhere need the
# stem they were trained with.
AUTO_STEM: tuple[tuple[int, Stem], ...] = (
    (192, "imagenet"),
    (96, "coarse"),
    (48, "imagenet"),
    (SMALLEST_SIDE, "medium"),
)


@dataclass(frozen=True)
class Facts:
    """Facts about an architecture that need no built network."""

    name: str
    family: str
    paper: str
    parameters: int  # with 1,000 classes and the imagenet stem
    source: str  # who published that count
    native_size: int  # px: side of the images the paper trained on
    flops: int  # one native image, 1,000 classes, a multiply-add = 2; checked against `summary.summarize` by a test
    stems: tuple[Stem, ...] = STEMS
    smallest_side: int = SMALLEST_SIDE  # px


def _facts() -> dict[str, Facts]:
    return {
        name: Facts(
            name, family, row.paper, count, row.source, row.native_sizes.get(name, row.native_size), flops, row.stems,
            row.smallest_side,
        )
        for family, row in FAMILIES.items() for name, (count, flops) in row.counts.items()
    }  # fmt: skip


_KNOWN = _facts()


def names() -> list[str]:
    """Every architecture, family by family and from small to large."""
    return list(_KNOWN)


def is_bridged(name: str) -> bool:
    """Tell whether an architecture is one of timm or torchvision (`bridge`): its name has a colon."""
    return name.partition(":")[0] in BRIDGED and ":" in name


def describe(name: str) -> Facts:
    """Return the published facts about an architecture; of one of `bridge` the counts are not known: 0.

    Raises:
        UnknownName: no such architecture; the nearest known name is in the message. UsageError: its library is not
            installed.
    >>> describe("xception").parameters
    22855952
    """
    if is_bridged(name):
        library = name.partition(":")[0]
        require_extra(library, name)
        return Facts(name, library, BRIDGED[library], 0, library, 224, 0, ("imagenet",))
    if name not in _KNOWN:
        raise UnknownName("model", name, _KNOWN)
    return _KNOWN[name]


def resolve_stem(name: str, input_size: int, stem: str = "auto") -> Stem:
    """The stem to build: the one asked for, or for "auto" the row of `AUTO_STEM` that fits the input.

    Args:
        input_size: side of the images, px; at least the architecture's smallest, 32 for all but a few.
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
        raise UsageError(f"{name} needs images of at least {least} px a side, not {input_size}: enlarge them")
    if stem == "auto":
        fits = (known for least, known in AUTO_STEM if input_size >= least and known in facts.stems)
        return next(fits, facts.stems[0])
    chosen = next((known for known in facts.stems if stem == known), None)
    if chosen is None:
        raise UnknownName("stem", stem, ("auto", *facts.stems))
    if chosen == "coarse" and input_size < COARSE_SIDE:
        raise UsageError(f"the coarse stem needs images of at least {COARSE_SIDE} px a side, not {input_size}")
    return chosen


def create_model(name: str, classes: int, *, input_size: int | None = None, stem: str = "auto") -> Model:
    """A fresh model of the zoo; its weights come from PyTorch's global random generator.

    Args:
        classes: outputs of the last layer; at least 1.
        input_size: side of the images it will see, px; None = the paper's. Decides the stem, nothing else:
            every model takes any size from its smallest side (32 px for all but a few), square or not.
        stem: "auto" (see `resolve_stem`), or one by name.
    Raises:
        UnknownName: no such architecture or stem.
        UsageError: fewer than 1 class, or images too small for the architecture.
    """
    facts = describe(name)
    if classes < 1:
        raise UsageError(f"a classifier needs at least 1 class, not {classes}")
    side = facts.native_size if input_size is None else input_size
    resolved = resolve_stem(name, side, stem)
    if is_bridged(name):
        from facewright.models import bridge

        return bridge.build(name, classes, side)
    return FAMILIES[facts.family].build(name, classes, resolved)


def classifier_of(model: Model) -> nn.Linear | nn.Conv2d:
    """The last layer with weights: (B, feature_width) -> (B, classes); SqueezeNet's is a 1x1 convolution."""
    from torch import nn

    layer = model.get_submodule(model.classifier_name)
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise UsageError(f"the classifier of {type(model).__name__} was replaced by {type(layer).__name__}")
    return layer
