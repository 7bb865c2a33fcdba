"""MobileNet v1 and v2, EfficientNet-B0 to B4: depthwise convolutions do the looking, 1x1 convolutions do the mixing.

Sources: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications"
(arXiv:1704.04861), table 1 and the width multipliers of table 6; Sandler et al., "MobileNetV2: Inverted Residuals and
Linear Bottlenecks", CVPR 2018 (arXiv:1801.04381), table 2; Tan, Le, "EfficientNet: Rethinking Model Scaling for
Convolutional Neural Networks", ICML 2019 (arXiv:1905.11946), table 1 (the factors of B1 to B4 are from the authors'
code), with section 5.2's dropout and stochastic depth (at most 0.2, growing linearly with depth).
Parameter names are timm's for MobileNet v1, else torchvision's. MobileNets use ReLU6, as their authors' code does (the
paper of v1 says ReLU). Dropout of 0.2 before the classifier of v2 is torchvision's; the authors' code has it too.
Deviations: EfficientNet's authors pad unevenly on the right and below, here evenly (as torchvision does); norms keep
PyTorch's momentum and epsilon. `stem` chooses how many of the five halvings there are:

    coarse    2x2 mean, then as imagenet:             the last map is 1/64 of the side (112 px -> 2)
    imagenet  the papers':                            1/32 (224 px -> 7)
    medium    the first convolution keeps the side:   1/16 (112 px -> 7)
    small     that, and the first strided block too:  1/8  (32 px -> 4)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from math import ceil

import torch
from torch import Tensor, nn

from facewright.models.blocks import (
    Model,
    SqueezeExcitation,
    Stage,
    Stem,
    conv_norm,
    first_strides,
    initialize_convolutions,
    reducer,
    round_channels,
)

V1_MULTIPLIERS = {  # of every width; the paper's alpha
    "mobilenet_v1_x0_25": 0.25,
    "mobilenet_v1_x0_5": 0.5,
    "mobilenet_v1_x0_75": 0.75,
    "mobilenet_v1": 1.0,
}
V1_STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))  # width, blocks; all but the first begin by halving


class DepthwiseSeparable(nn.Module):
    """A 3x3 convolution inside each channel, then a 1x1 across channels, each with norm and ReLU6."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)
        x = self.relu(self.bn1(self.conv_dw(x)))
        return self.relu(self.bn2(self.conv_pw(x)))


class MobileNetV1(Model):
    classifier_name = "classifier"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        first, second = first_strides(stem)
        multiplier = V1_MULTIPLIERS[name]
        inputs = int(32 * multiplier)
        self.reduce = reducer(stem)
        self.conv_stem = nn.Conv2d(3, inputs, 3, first, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU6(inplace=True)
        stages = []
        for (width, depth), stride in zip(V1_STAGES, (1, second, 2, 2, 2), strict=True):
            blocks = []
            for index in range(depth):
                blocks.append(DepthwiseSeparable(inputs, int(width * multiplier), stride if index == 0 else 1))
                inputs = int(width * multiplier)
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.feature_width = inputs
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.blocks(self.relu(self.bn1(self.conv_stem(self.reduce(x)))))
        return torch.flatten(self.avgpool(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: blocks of one width."""
        stem = self.stage("stem", "reduce", "conv_stem bn1")
        body = (self.stage(f"stage {n + 1}", *self.units_in(f"blocks.{n}")) for n in range(len(V1_STAGES)))
        return stem, *body, self.stage("head", "avgpool", "classifier")


# expansion t, width c, blocks n, stride s of the first; the second row is the second place that halves the side
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 up by `expansion`, 3x3 inside each channel, 1x1 down without activation; a shortcut where shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        up = [] if expansion == 1 else [conv_norm(inputs, inner, activation=nn.ReLU6(inplace=True))]
        self.conv = nn.Sequential(
            *up,
            conv_norm(inner, inner, 3, stride, inner, nn.ReLU6(inplace=True)),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.added = stride == 1 and inputs == outputs
        self.join = "identity" if self.added else "none"

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)
        out: Tensor = self.conv(x)
        return x + out if self.added else out


class MobileNetV2(Model):
    classifier_name = "classifier.1"
    feature_width = 1280

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        first, second = first_strides(stem)
        self.reduce = reducer(stem)
        layers: list[nn.Module] = [conv_norm(3, 32, 3, first, activation=nn.ReLU6(inplace=True))]
        inputs = 32
        for number, (expansion, width, depth, stride) in enumerate(V2_STAGES):
            for index in range(depth):
                here = 1 if index > 0 else second if number == 1 else stride
                layers.append(InvertedResidual(inputs, width, here, expansion))
                inputs = width
        layers.append(conv_norm(inputs, self.feature_width, activation=nn.ReLU6(inplace=True)))
        self.features = nn.Sequential(*layers)  # the name is torchvision's
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(self.feature_width, classes))
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 1280)
        return torch.flatten(self.avgpool(self.features(self.reduce(x))), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: the rows of the paper's table."""
        first, *blocks, last = self.units_in("features")
        rest = iter(blocks)
        stages = (Stage(f"stage {n}", tuple(islice(rest, row[2]))) for n, row in enumerate(V2_STAGES, start=1))
        stem, end = (f"{unit.paths[0]}.0 {unit.paths[0]}.1" for unit in (first, last))
        return self.stage("stem", "reduce", stem), *stages, self.stage("head", end, "avgpool", "classifier.1")


@dataclass(frozen=True)
class Variant:
    width: float  # factor of every width
    depth: float  # factor of the blocks of each stage
    dropout: float


EFFICIENTNETS = {
    "efficientnet_b0": Variant(1.0, 1.0, 0.2),
    "efficientnet_b1": Variant(1.0, 1.1, 0.2),
    "efficientnet_b2": Variant(1.1, 1.2, 0.3),
    "efficientnet_b3": Variant(1.2, 1.4, 0.3),
    "efficientnet_b4": Variant(1.4, 1.8, 0.4),
}
# expansion, kernel, stride of the first block, width, blocks; the second row is the second place that halves the side
EFFICIENTNET_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
EFFICIENTNET_WIDTH = 32
STOCHASTIC_DEPTH = 0.2  # the last block would be left out so often
LAST_EXPANSION = 4  # channels of the last convolution over those before it


class StochasticDepth(nn.Module):
    """In training, leaves out the branch of each image with a probability, and scales up those that stay.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016 (arXiv:1603.09382), eq. 2 to 5, with the
    scaling at training instead of at test.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability  # in [0, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> the same
        if not self.training or self.probability == 0.0:
            return x
        kept = 1.0 - self.probability
        stays = torch.empty(x.shape[0], 1, 1, 1, dtype=x.dtype, device=x.device).bernoulli_(kept)
        return x * (stays / kept)


class MBConv(nn.Module):
    """1x1 up, k x k inside each channel, channels weighed, 1x1 down; a shortcut where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, left_out: float) -> None:
        super().__init__()
        inner = inputs * expansion
        up = [] if expansion == 1 else [conv_norm(inputs, inner, activation=nn.SiLU(inplace=True))]
        self.block = nn.Sequential(
            *up,
            conv_norm(inner, inner, kernel, stride, inner, nn.SiLU(inplace=True)),
            SqueezeExcitation(inner, inputs // 4, nn.SiLU(inplace=True)),
            conv_norm(inner, outputs),
        )
        self.added = stride == 1 and inputs == outputs
        self.join = "identity" if self.added else "none"
        self.stochastic_depth = StochasticDepth(left_out)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H/stride, W/stride)
        out: Tensor = self.block(x)
        return x + self.stochastic_depth(out) if self.added else out


class EfficientNet(Model):
    classifier_name = "classifier.1"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        variant = EFFICIENTNETS[name]
        first, second = first_strides(stem)
        inputs = round_channels(EFFICIENTNET_WIDTH * variant.width, 8)
        depths = [ceil(blocks * variant.depth) for *_, blocks in EFFICIENTNET_STAGES]
        self.reduce = reducer(stem)
        layers = [conv_norm(3, inputs, 3, first, activation=nn.SiLU(inplace=True))]
        for number, (expansion, kernel, stride, base, _) in enumerate(EFFICIENTNET_STAGES):
            outputs = round_channels(base * variant.width, 8)
            blocks = []
            for index in range(depths[number]):
                here = 1 if index > 0 else second if number == 1 else stride
                left_out = STOCHASTIC_DEPTH * (sum(depths[:number]) + index) / sum(depths)
                blocks.append(MBConv(inputs, outputs, kernel, here, expansion, left_out))
                inputs = outputs
            layers.append(nn.Sequential(*blocks))
        self.feature_width = LAST_EXPANSION * inputs
        layers.append(conv_norm(inputs, self.feature_width, activation=nn.SiLU(inplace=True)))
        self.features = nn.Sequential(*layers)  # the name is torchvision's
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(variant.dropout), nn.Linear(self.feature_width, classes))
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        return torch.flatten(self.avgpool(self.features(self.reduce(x))), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: the rows of the paper's table."""
        body = (
            self.stage(f"stage {number}", *self.units_in(f"features.{number}"))
            for number in range(1, len(EFFICIENTNET_STAGES) + 1)
        )
        stem = self.stage("stem", "reduce", "features.0.0 features.0.1")
        last = f"features.{len(EFFICIENTNET_STAGES) + 1}"
        return stem, *body, self.stage("head", f"{last}.0 {last}.1", "avgpool", "classifier.1")
