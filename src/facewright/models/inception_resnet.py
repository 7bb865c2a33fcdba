"""Inception-ResNet-v1 as FaceNet's successors use it: photo to a 512-dimensional embedding.

Source: Szegedy, Ioffe, Vanhoucke, Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017 (arXiv:1602.07261), figures 10 to 15; the embedding that replaces its classifier is D. Sandberg's
(facenet), after Schroff et al. 2015 (arXiv:1503.03832). Parameter names are timesler's (facenet-pytorch), whose
weights are Sandberg's; `logits` is the classifier. From there too: the norms' epsilon of 1e-3, the scale of each kind
of block, dropout 0.6 before the embedding.
Its features are not of unit length: verification divides by the length itself.
Sizes: nothing is padded on the way down, so the smallest side is 75 px; 160 px is what the public weights saw. There is
one stem, the paper's.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, Stage, Stem, Unit, initialize_convolutions

EMBEDDING = 512


class BasicConv2d(nn.Module):
    """Convolution, norm, ReLU; a kernel of (rows, columns) is padded to keep the shape, unless `valid`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, *, valid: bool = False
    ) -> None:
        super().__init__()
        padding = (0, 0) if valid else (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H', W')
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


def chain(inputs: int, *steps: tuple[int, tuple[int, int]]) -> nn.Sequential:
    """Convolutions of (outputs, kernel) in a row, all padded."""
    widths = (inputs, *(outputs for outputs, _ in steps))
    return nn.Sequential(*(BasicConv2d(before, *step) for before, step in zip(widths, steps, strict=False)))


class ResidualBlock(nn.Module):
    """Branches side by side, joined by a 1x1 convolution, scaled and added to the input; then a ReLU, but for the last.

    Args:
        scale: of what the branches add (section 3.3 of the paper: without it, wide blocks die).
    """

    join = "identity"

    def __init__(self, width: int, branches: tuple[nn.Module, ...], joined: int, scale: float, relu: bool) -> None:
        super().__init__()
        self.scale = scale
        self.branches = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.conv2d = nn.Conv2d(joined, width, 1)
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.shorthand = f"{len(branches)} branches → 1×1 {width}"

    def forward(self, x: Tensor) -> Tensor:  # (B, width, H, W) -> the same shape
        branches = [self.get_submodule(f"branch{index}")(x) for index in range(self.branches)]
        out: Tensor = self.relu(self.conv2d(torch.cat(branches, 1)) * self.scale + x)
        return out


def block35() -> ResidualBlock:
    """Inception-ResNet-A (figure 10): 1x1; 1x1, 3x3; 1x1, 3x3, 3x3."""
    point, square = (32, (1, 1)), (32, (3, 3))
    branches = (BasicConv2d(256, 32, (1, 1)), chain(256, point, square), chain(256, point, square, square))
    return ResidualBlock(256, branches, joined=96, scale=0.17, relu=True)


def block17() -> ResidualBlock:
    """Inception-ResNet-B (figure 11): 1x1; 1x1, 1x7, 7x1."""
    branches = (BasicConv2d(896, 128, (1, 1)), chain(896, (128, (1, 1)), (128, (1, 7)), (128, (7, 1))))
    return ResidualBlock(896, branches, joined=256, scale=0.10, relu=True)


def block8(scale: float, relu: bool) -> ResidualBlock:
    """Inception-ResNet-C (figure 13): 1x1; 1x1, 1x3, 3x1."""
    branches = (BasicConv2d(1792, 192, (1, 1)), chain(1792, (192, (1, 1)), (192, (1, 3)), (192, (3, 1))))
    return ResidualBlock(1792, branches, joined=384, scale=scale, relu=relu)


class Reduction(nn.Module):
    """Branches that halve the side, side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = len(branches)
        for index, branch in enumerate(branches):
            self.add_module(f"branch{index}", branch)
        self.shorthand = f"{len(branches)} branches /2"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', (H-1)/2, (W-1)/2)
        return torch.cat([self.get_submodule(f"branch{index}")(x) for index in range(self.branches)], 1)


def halving(inputs: int, outputs: int) -> BasicConv2d:
    return BasicConv2d(inputs, outputs, (3, 3), 2, valid=True)


def reduction_a() -> Reduction:
    """Figure 7 of the paper with k, l, m, n = 192, 192, 256, 384: 256 channels to 896."""
    long = nn.Sequential(BasicConv2d(256, 192, (1, 1)), BasicConv2d(192, 192, (3, 3)), halving(192, 256))
    return Reduction(halving(256, 384), long, nn.MaxPool2d(3, 2))


def reduction_b() -> Reduction:
    """Figure 12 of the paper: 896 channels to 1,792."""
    first = nn.Sequential(BasicConv2d(896, 256, (1, 1)), halving(256, 384))
    second = nn.Sequential(BasicConv2d(896, 256, (1, 1)), halving(256, 256))
    long = nn.Sequential(BasicConv2d(896, 256, (1, 1)), BasicConv2d(256, 256, (3, 3)), halving(256, 256))
    return Reduction(first, second, long, nn.MaxPool2d(3, 2))


class InceptionResNetV1(Model):
    """Images to class scores; the features are the embedding."""

    classifier_name: ClassVar[str] = "logits"
    feature_width = EMBEDDING

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv2d_1a = BasicConv2d(3, 32, (3, 3), 2, valid=True)
        self.conv2d_2a = BasicConv2d(32, 32, (3, 3), valid=True)
        self.conv2d_2b = BasicConv2d(32, 64, (3, 3))
        self.maxpool_3a = nn.MaxPool2d(3, 2)
        self.conv2d_3b = BasicConv2d(64, 80, (1, 1))
        self.conv2d_4a = BasicConv2d(80, 192, (3, 3), valid=True)
        self.conv2d_4b = BasicConv2d(192, 256, (3, 3), 2, valid=True)
        self.repeat_1 = nn.Sequential(*(block35() for _ in range(5)))
        self.mixed_6a = reduction_a()
        self.repeat_2 = nn.Sequential(*(block17() for _ in range(10)))
        self.mixed_7a = reduction_b()
        self.repeat_3 = nn.Sequential(*(block8(0.20, relu=True) for _ in range(5)))
        self.block8 = block8(1.0, relu=False)
        self.avgpool_1a = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.6)
        self.last_linear = nn.Linear(1792, EMBEDDING, bias=False)
        self.last_bn = nn.BatchNorm1d(EMBEDDING, eps=1e-3)
        self.logits = nn.Linear(EMBEDDING, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 512), an embedding of any length
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(x))))
        x = self.repeat_2(self.mixed_6a(self.repeat_1(x)))
        x = self.block8(self.repeat_3(self.mixed_7a(x)))
        pooled = self.dropout(torch.flatten(self.avgpool_1a(x), 1))
        embedding: Tensor = self.last_bn(self.last_linear(pooled))
        return embedding

    def stages(self) -> tuple[Stage, ...]:
        stem = "conv2d_1a", "conv2d_2a", "conv2d_2b", "maxpool_3a", "conv2d_3b", "conv2d_4a", "conv2d_4b"
        a, b, c = (self.units_in(f"repeat_{number}") for number in (1, 2, 3))
        return (
            self.stage("stem", *stem),
            self.stage("stage A", *a),
            self.stage("stage B", "mixed_6a", *b),
            self.stage("stage C", "mixed_7a", *c, Unit(("block8",), "identity")),
            self.stage("head", "avgpool_1a", "last_linear last_bn", "logits"),
        )
