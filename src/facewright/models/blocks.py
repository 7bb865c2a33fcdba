"""Shared parts of the families: the names of the stems, the outline, residual layers, the initialization."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

Stem = Literal["coarse", "imagenet", "medium", "small"]
"""The downsampling of the first layers: an eighth, a quarter, a half or all of the image's side is left."""

Join = Literal["none", "identity", "projection", "dense"]
"""How a part's input meets its output: not at all, added as it is, added after a 1x1 convolution, concatenated."""

MakeBlock = Callable[[int, int, int], Any]  # inputs, width, stride -> a block, which has `outputs`
RESIDUAL_WIDTHS = (64, 128, 256, 512)


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
    """An architecture, built from its name, the number of classes and a stem: `forward` (B, 3, H, W) -> (B, classes).

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
        return self.get_submodule(self.classifier_name)(self.forward_features(x))

    def stages(self) -> tuple[Stage, ...]:
        """Return the outline that tables and drawings follow."""
        raise NotImplementedError

    def stage(self, name: str, *units: str | Unit) -> Stage:
        """Return a stage of the outline.

        Args:
            units: each a `Unit`, or the paths of its modules, apart by spaces; one that begins with an identity, which
                the stem leaves out, is dropped.
        """
        parts = [Unit(tuple(unit.split())) if isinstance(unit, str) else unit for unit in units]
        absent = {part for part in parts if isinstance(self.get_submodule(part.paths[0]), nn.Identity)}
        absent -= {Unit((self.classifier_name,))}
        return Stage(name, tuple(part for part in parts if part not in absent))

    def units_in(self, path: str) -> tuple[Unit, ...]:
        """Return a unit for each block in a container; a block may say by `join` how its input meets its output."""
        blocks = self.get_submodule(path).named_children()
        return tuple(Unit((f"{path}.{name}",), getattr(block, "join", "none")) for name, block in blocks)


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


class ResidualNetwork(Model):
    """A network with ResNet's names: a first convolution, four layers of blocks, a mean, a linear classifier.

    Args:
        conv1: images to `width` channels; the pool behind it is for the coarse and the imagenet stem.
        make_block: inputs, width, stride -> a block, which has `outputs`.
        depths: blocks of each layer.
    """

    classifier_name = "fc"
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self, conv1: nn.Module, width: int, make_block: MakeBlock, depths: tuple[int, ...], classes: int, stem: Stem
    ) -> None:
        super().__init__()
        self.reduce = reducer(stem)
        self.conv1 = conv1
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem in ("coarse", "imagenet") else nn.Identity()
        self.feature_width = add_layers(self, make_block, width, depths, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize_residual(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.reduce(x)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.avgpool(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        """Return the outline."""
        stem = self.stage("stem", "reduce", "conv1 bn1", "maxpool")
        return stem, *layer_stages(self), self.stage("head", "avgpool", "fc")


def add_layers(model: nn.Module, make_block: MakeBlock, inputs: int, depths: tuple[int, ...], stride: int) -> int:
    """Add `layer1` to `layer4`, of 64 to 512 channels; the first has this stride, the others halve the side.

    Returns:
        The channels that the last gives.
    """
    for number, (width, depth) in enumerate(zip(RESIDUAL_WIDTHS, depths, strict=True), start=1):
        blocks = []
        for index in range(depth):
            blocks.append(make_block(inputs, width, 1 if index > 0 else stride if number == 1 else 2))
            inputs = blocks[-1].outputs
        model.add_module(f"layer{number}", nn.Sequential(*blocks))
    return inputs


def layer_stages(model: Model) -> tuple[Stage, ...]:
    """Return the outline of `layer1` to `layer4`."""
    return tuple(model.stage(f"stage {number}", *model.units_in(f"layer{number}")) for number in range(1, 5))


def initialize_residual(model: nn.Module) -> None:
    """Initialize by Kaiming's rule; the norm that a block names `last_norm` starts at zero: the block as identity.

    Source: K. He et al. 2015 (arXiv:1502.01852) eq. 14; Goyal et al. 2017 (arXiv:1706.02677) section 5.1.
    """
    initialize_convolutions(model)
    for module in model.modules():
        if (norm := getattr(module, "last_norm", None)) is not None:
            nn.init.zeros_(module.get_submodule(norm).get_parameter("weight"))
