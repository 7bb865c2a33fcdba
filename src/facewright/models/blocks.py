"""Shared parts of the convolutional families: the names of the stems, the outline, the initialization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

Stem = Literal["coarse", "imagenet", "medium", "small"]
"""The downsampling of the first layers: an eighth, a quarter, a half or all of the image's side is left."""

Join = Literal["none", "identity", "projection", "dense"]
"""How a part's input meets its output: not at all, added as it is, added after a 1x1 convolution, concatenated."""


@dataclass(frozen=True)
class Unit:
    """A unit of the outline: a block, or a convolution with its norm."""

    paths: tuple[str, ...]  # dotted paths of its modules, in order; last may be "": parameters of the model itself
    join: Join = "none"


@dataclass(frozen=True)
class Stage:
    """Parts that the paper names together; together, the parts of all stages hold every parameter of a model."""

    name: str
    parts: tuple[Unit, ...]


class Model(nn.Module):
    """An architecture, as `create_model` builds it: `forward` (B, 3, H, W) -> (B, classes).

    Attributes:
        feature_width: length of a row of `forward_features`.
        classifier_name: dotted path of the last layer with weights.
    """

    feature_width: int
    classifier_name: ClassVar[str]

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features (B, feature_width) that the classifier reads, of images (B, 3, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.get_submodule(self.classifier_name)(self.forward_features(x))
        return scores

    def stages(self) -> tuple[Stage, ...]:
        """Return the outline that tables and drawings follow."""
        raise NotImplementedError


def reducer(stem: Stem) -> nn.Module:
    """Return the layer before the first convolution: a mean of 2x2 pixels for the coarse stem, else the identity.

    Without parameters, so weights of the imagenet stem fit the coarse one.
    """
    return nn.AvgPool2d(2) if stem == "coarse" else nn.Identity()


def first_strides(stem: Stem) -> tuple[int, int]:
    """The strides of the first two places where a network of strided convolutions halves the side.

    The medium stem leaves out the first halving, the small stem both.
    """
    return {"coarse": (2, 2), "imagenet": (2, 2), "medium": (1, 2), "small": (1, 1)}[stem]


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activation: nn.Module | None = None
) -> nn.Sequential:
    """A convolution without bias, padded to keep the side at stride 1, its batch norm, and an activation if any."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = [convolution, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation)


def round_channels(width: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `width`, or the next one where that would lose more than a tenth.

    Source: the code of MobileNet, EfficientNet and torchvision.
    >>> round_channels(38.4, 8), round_channels(24, 16)
    (40, 32)
    """
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * width else nearest + divisor


class SqueezeExcitation(nn.Module):
    """Weighs each channel by a number in (0, 1) that two 1x1 convolutions read off the means of all channels.

    The names of the convolutions are torchvision's and timm's.
    Source: Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018 (arXiv:1709.01507), eq. 2 to 4.
    """

    def __init__(self, channels: int, squeezed: int, activation: nn.Module) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.activation = activation
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, channels, H, W)
        weights = torch.sigmoid(self.fc2(self.activation(self.fc1(self.pool(x)))))  # (B, channels, 1, 1)
        return x * weights


class FixedGrid(nn.Module):
    """Average a feature map to the grid that the layer behind it was made for; a map of that side stays as it is.

    Networks that flatten their last map, or weigh its points one by one, then take images of every size.

    >>> import torch
    >>> FixedGrid(2)(torch.arange(16.0).reshape(1, 1, 4, 4)).flatten().tolist()
    [2.5, 4.5, 10.5, 12.5]
    >>> FixedGrid(2)(torch.ones(1, 1, 1, 1)).shape
    torch.Size([1, 1, 2, 2])
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, side, side)
        if x.shape[-2:] == (self.side, self.side):
            return x
        return nn.functional.adaptive_avg_pool2d(x, self.side)

    def extra_repr(self) -> str:
        return str(self.side)


@torch.no_grad()
def initialize_convolutions(model: nn.Module) -> None:
    """Initialize every convolution by Kaiming's rule, in place; norms and linear layers keep PyTorch's default.

    A convolution's standard deviation is sqrt(2 / fan), where fan is the number of outputs that one input value
    reaches (`fan_out`), counted inside its group: k * k * outputs / groups. Counting across groups, as
    `torch.nn.init.kaiming_normal_` does, would start a depthwise convolution of C channels sqrt(C) times too small.

    Source: K. He et al. 2015, "Delving Deep into Rectifiers" (arXiv:1502.01852), eq. 14.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            rows, columns = module.kernel_size
            fan = rows * columns * module.out_channels // module.groups
            module.weight.normal_(0.0, (2.0 / fan) ** 0.5)
            if module.bias is not None:
                module.bias.zero_()


def residual_body(model: nn.Module, stages: int) -> list[Stage]:
    """Return the outline of `layer1` … `layerN`, from the `downsample` of each block."""
    layers = {f"stage {number}": f"layer{number}" for number in range(1, stages + 1)}
    return [
        Stage(
            stage,
            tuple(
                Unit((f"{layer}.{index}",), _join(block))
                for index, block in enumerate(model.get_submodule(layer).children())
            ),
        )
        for stage, layer in layers.items()
    ]


def _join(block: nn.Module) -> Join:
    """Return how a block's input meets its output; a block without `downsample` has no shortcut."""
    if not hasattr(block, "downsample"):
        return "none"
    return "identity" if block.downsample is None else "projection"


def residual_outline(model: nn.Module, stages: int) -> tuple[Stage, ...]:
    """The whole outline of a network with ResNet's names: a reducer and a pool that may be absent, layers, a head."""
    absent = [isinstance(model.get_submodule(name), nn.Identity) for name in ("reduce", "maxpool")]
    reduced, pooled = (
        [] if gone else [Unit((name,))] for gone, name in zip(absent, ("reduce", "maxpool"), strict=True)
    )
    stem = Stage("stem", (*reduced, Unit(("conv1", "bn1")), *pooled))
    return stem, *residual_body(model, stages), Stage("head", (Unit(("avgpool",)), Unit(("fc",))))
