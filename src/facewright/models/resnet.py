"""ResNet-18/34/50/101/152, Plain-18/34, ResNeXt, Wide ResNet, SE-ResNet and IResNet: residual learning.

Sources: K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv:1512.03385), table 1;
Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017 (arXiv:1611.05431), table 1:
the 3x3 convolution of a bottleneck in groups; Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016
(arXiv:1605.07146), table 8: twice as wide a 3x3 convolution; Hu, Shen, Sun, "Squeeze-and-Excitation Networks",
CVPR 2018 (arXiv:1709.01507), table 1: channels weighed before the sum.
Parameter names are torchvision's, those of SE networks timm's.
Deviations: the stride of a bottleneck sits on its 3x3 convolution (the "v1.5" that published weights use);
`stem` chooses how much of the image the first layers throw away:

    coarse    2x2 mean, then as imagenet:         the stages see an eighth of the side (112 px -> 14)
    imagenet  7x7/2 convolution, 3x3/2 max pool: the paper's; the stages see a quarter of the side (224 px -> 56)
    medium    3x3/2 convolution, no pool:         for images of about 64 to 160 px; the stages see half the side
    small     3x3/1 convolution, no pool:         for about 32 to 64 px (CIFAR's stem); the stages see the whole side

IResNet-18/50/100 is the network of ArcFace: an aligned face of 112 px to a 512-dimensional embedding, whose length is
not 1. Source: Deng, Guo, Xue, Zafeiriou, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019
(arXiv:1801.07698), section 3.1 (after Han, Kim, Kim 2017, arXiv:1610.02915: norm first, no activation after the sum).
Parameter names are insightface's (`arcface_torch/backbones/iresnet.py`), which has no classifier: `classifier` is ours,
a linear layer on the embedding. As there, the scale of the embedding's norm stays at 1 and is not learnt. Deviations:
convolutions start by Kaiming's rule (theirs: std 0.1); a last map of another size than 7 x 7 is averaged to it, so that
every size from 32 px fits. There is one stem, theirs: a 3x3 without stride; each of the four stages halves the side.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from facewright.models.blocks import (
    FixedGrid,
    MakeBlock,
    Model,
    ResidualNetwork,
    SqueezeExcitation,
    Stage,
    Stem,
    add_layers,
    initialize_convolutions,
    layer_stages,
)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions without a shortcut: the paper's plain networks, which are harder to train when deep."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.outputs = width
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, width, H/stride, W/stride)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)))


class BasicBlock(PlainBlock):
    """Two 3x3 convolutions and a shortcut (ResNet-18 and -34)."""

    last_norm = "bn2"

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, stride)
        self.downsample = shortcut(inputs, self.outputs, stride)
        self.join = "identity" if self.downsample is None else "projection"

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, width, H/stride, W/stride)
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(out))
        return self.relu(branch + identity)


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, and a shortcut (ResNet-50 and deeper).

    Args:
        width: of the stage, in the paper's table; the block gives four times as many channels.
        groups: of the 3x3 convolution; the C of ResNeXt.
        group_width: channels of a group where the stage's width is 64; the d of ResNeXt.
        squeeze: whether the channels are weighed by squeeze and excitation, at a reduction of 16.
    """

    last_norm = "bn3"

    def __init__(
        self, inputs: int, width: int, stride: int, groups: int = 1, group_width: int = 64, squeeze: bool = False
    ) -> None:
        super().__init__()
        self.outputs = 4 * width
        inner = width * group_width // 64 * groups
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, self.outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.outputs)
        self.relu = nn.ReLU(inplace=True)
        self.se = SqueezeExcitation(self.outputs, self.outputs // 16, nn.ReLU(inplace=True)) if squeeze else None
        self.downsample = shortcut(inputs, self.outputs, stride)
        self.join = "identity" if self.downsample is None else "projection"

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, 4 * width, H/stride, W/stride)
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        branch = self.bn3(self.conv3(out))
        if self.se is not None:
            branch = self.se(branch)
        return self.relu(branch + identity)


VARIANTS: dict[str, tuple[MakeBlock, tuple[int, ...]]] = {  # block, depths
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet34": (BasicBlock, (3, 4, 6, 3)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
    "resnet101": (Bottleneck, (3, 4, 23, 3)),
    "resnet152": (Bottleneck, (3, 8, 36, 3)),
    "plain18": (PlainBlock, (2, 2, 2, 2)),
    "plain34": (PlainBlock, (3, 4, 6, 3)),
    "resnext50_32x4d": (partial(Bottleneck, groups=32, group_width=4), (3, 4, 6, 3)),
    "resnext101_64x4d": (partial(Bottleneck, groups=64, group_width=4), (3, 4, 23, 3)),
    "resnext101_32x8d": (partial(Bottleneck, groups=32, group_width=8), (3, 4, 23, 3)),
    "wide_resnet50_2": (partial(Bottleneck, group_width=128), (3, 4, 6, 3)),
    "wide_resnet101_2": (partial(Bottleneck, group_width=128), (3, 4, 23, 3)),
    "seresnet50": (partial(Bottleneck, squeeze=True), (3, 4, 6, 3)),
    "seresnet101": (partial(Bottleneck, squeeze=True), (3, 4, 23, 3)),
    "seresnext50_32x4d": (partial(Bottleneck, groups=32, group_width=4, squeeze=True), (3, 4, 6, 3)),
    "seresnext101_32x4d": (partial(Bottleneck, groups=32, group_width=4, squeeze=True), (3, 4, 23, 3)),
    "seresnext101_32x8d": (partial(Bottleneck, groups=32, group_width=8, squeeze=True), (3, 4, 23, 3)),
}


class ResNet(ResidualNetwork):
    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        kernel, stride = {"coarse": (7, 2), "imagenet": (7, 2), "medium": (3, 2), "small": (3, 1)}[stem]
        conv1 = nn.Conv2d(3, 64, kernel, stride, kernel // 2, bias=False)
        super().__init__(conv1, 64, *VARIANTS[name], classes, stem)


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """A 1x1 projection where shape changes (the paper's option B), nothing where it does not."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


IRESNET_DEPTHS = {"iresnet18": (2, 2, 2, 2), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}
IRESNET_GRID = 7  # points along a side of IResNet's last map, for 112 px


class Block(nn.Module):
    """Norm, 3x3, norm, PReLU, 3x3 with the stride, norm; and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.outputs = width
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        self.join = "identity" if self.downsample is None else "projection"

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, width, H/stride, W/stride)
        identity = x if self.downsample is None else self.downsample(x)
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        branch: Tensor = self.bn3(self.conv2(out))
        return branch + identity


class IResNet(Model):
    """Images to class scores; the features are the embedding."""

    classifier_name = "classifier"
    feature_width = 512
    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        inputs = add_layers(self, Block, 64, IRESNET_DEPTHS[name], 2)
        self.bn2 = nn.BatchNorm2d(inputs)
        self.grid = FixedGrid(IRESNET_GRID)
        self.fc = nn.Linear(inputs * IRESNET_GRID**2, self.feature_width)
        self.features = nn.BatchNorm1d(self.feature_width)
        self.features.weight.requires_grad_(False)
        self.classifier = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 512), an embedding of any length
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(torch.flatten(self.grid(self.bn2(x)), 1)))

    def stages(self) -> tuple[Stage, ...]:
        head = self.stage("head", "bn2 grid", "fc features", "classifier")
        return self.stage("stem", "conv1 bn1 prelu"), *layer_stages(self), head
