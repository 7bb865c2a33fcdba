"""ResNeSt-50/101: a ResNet whose 3x3 convolution runs in two splits that compete for every channel.

Source: Zhang et al., "ResNeSt: Split-Attention Networks", CVPR Workshops 2022 (arXiv:2004.08955), figure 2 and
section 3 (cardinality 1, radix 2). Parameter names are timm's (`resnest50d`, `resnest101e`), whose weights are the
authors'. From the "bag of tricks" that the paper builds on (arXiv:1812.01187): the first 7x7 is three 3x3, and a
shortcut that changes shape averages before its 1x1.
Deviation: `stem` chooses how much of the image the first layers throw away, as for ResNet; no stem changes a shape:

    coarse    2x2 mean, then as imagenet:              the stages see an eighth of the side (112 px -> 14)
    imagenet  three 3x3 (the first /2), 3x3/2 max pool: the paper's; the stages see a quarter of the side
    medium    no pool:                                 the stages see half the side
    small     no pool, no stride:                      the stages see the whole side
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, Stage, Stem, initialize_convolutions, reducer, residual_outline

RADIX = 2  # splits that compete for each channel
EXPANSION = 4
WIDTHS = (64, 128, 256, 512)


class SplitAttention(nn.Module):
    """A grouped 3x3 convolution gives `RADIX` maps; a softmax over them, per channel and image, weighs their sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = max(width * RADIX // 4, 32)
        self.conv = nn.Conv2d(width, width * RADIX, 3, 1, 1, groups=RADIX, bias=False)
        self.bn0 = nn.BatchNorm2d(width * RADIX)
        self.relu = nn.ReLU(inplace=True)
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.bn1 = nn.BatchNorm2d(squeezed)
        self.fc2 = nn.Conv2d(squeezed, width * RADIX, 1)
        self.shorthand = f"split 3×3 {width}"

    def forward(self, x: Tensor) -> Tensor:  # (B, width, H, W) -> the same shape
        splits = self.relu(self.bn0(self.conv(x))).unflatten(1, (RADIX, -1))  # (B, RADIX, width, H, W)
        pooled = splits.sum(1).mean((2, 3), keepdim=True)  # (B, width, 1, 1)
        scores = self.fc2(self.relu(self.bn1(self.fc1(pooled)))).unflatten(1, (RADIX, -1))
        weighed: Tensor = (splits * scores.softmax(1)).sum(1)
        return weighed


class Bottleneck(nn.Module):
    """1x1 down, split attention, a mean where it halves the side, 1x1 up by four, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = SplitAttention(width)
        self.avd_last = nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, width * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * EXPANSION)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, width * EXPANSION, stride)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, 4 * width, H/stride, W/stride)
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        branch = self.bn3(self.conv3(self.avd_last(self.conv2(out))))
        joined: Tensor = self.relu(branch + identity)
        return joined


@dataclass(frozen=True)
class Variant:
    depths: tuple[int, int, int, int]
    first: int  # channels of the first two 3x3 convolutions; the third has twice as many


VARIANTS = {
    "resnest50": Variant((3, 4, 6, 3), 32),
    "resnest101": Variant((3, 4, 23, 3), 64),
}


class ResNeSt(Model):
    """Images to class scores."""

    classifier_name: ClassVar[str] = "fc"
    feature_width = WIDTHS[-1] * EXPANSION
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, depths: tuple[int, int, int, int], first: int, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.reduce = reducer(stem)
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, first, 3, 1 if stem == "small" else 2, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, first, 3, 1, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, 2 * first, 3, 1, 1, bias=False),
        )
        self.bn1 = nn.BatchNorm2d(2 * first)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem in ("coarse", "imagenet") else nn.Identity()
        inputs = 2 * first
        for number, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=1):
            blocks = []
            for index in range(depth):
                blocks.append(Bottleneck(inputs, width, stride=2 if index == 0 and number > 1 else 1))
                inputs = width * EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.maxpool(self.relu(self.bn1(self.conv1(self.reduce(x)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return torch.flatten(self.avgpool(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        """Return the outline."""
        return residual_outline(self, len(WIDTHS))


def build(name: str, classes: int, stem: Stem = "imagenet") -> ResNeSt:
    """Build one of the architectures with random weights."""
    variant = VARIANTS[name]
    return ResNeSt(variant.depths, variant.first, classes, stem)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """A mean over what the stride skips, then a 1x1 projection; nothing where the shape stays."""
    if stride == 1 and inputs == outputs:
        return None
    mean = nn.Identity() if stride == 1 else nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(mean, nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def initialize(model: nn.Module) -> None:
    """Initialize by Kaiming's rule; the last norm of a residual branch starts at zero: each block starts as identity.

    Source: K. He et al. 2015 (arXiv:1502.01852) eq. 14; Goyal et al. 2017 (arXiv:1706.02677) section 5.1.
    """
    initialize_convolutions(model)
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)
