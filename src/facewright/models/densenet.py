"""DenseNet-121/161/169/201: every layer reads all that came before it in its block.

Source: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR 2017
(arXiv:1608.06993), table 1 (DenseNet-BC: bottleneck layers, compression 0.5); DenseNet-161 (growth 48) is from the
authors' code. Parameter names are torchvision's.
Deviation: `stem` chooses how much of the image the first layers throw away, as for ResNet:

    coarse    2x2 mean, then as imagenet:         the first block sees an eighth of the side (112 px -> 14)
    imagenet  7x7/2 convolution, 3x3/2 max pool: the paper's; the first block sees a quarter of the side (224 px -> 56)
    medium    3x3/2 convolution, no pool:         the first block sees half the side
    small     3x3/1 convolution, no pool:         the first block sees the whole side (the paper's stem for CIFAR)
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, Stage, Stem, Unit, initialize_convolutions, reducer

BOTTLENECK = 4  # a layer's 1x1 convolution has 4 * growth outputs


VARIANTS = {  # growth k: channels that each layer adds; layers of each block
    "densenet121": (32, (6, 12, 24, 16)),
    "densenet161": (48, (6, 12, 36, 24)),
    "densenet169": (32, (6, 12, 32, 32)),
    "densenet201": (32, (6, 12, 48, 32)),
}


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1 to 4k channels; norm, ReLU, 3x3 to k: the k new channels."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(BOTTLENECK * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, growth, H, W)
        x = self.conv1(self.relu1(self.norm1(x)))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(nn.Module):
    """`depth` layers; each one's k channels are appended to everything so far."""

    def __init__(self, inputs: int, growth: int, depth: int) -> None:
        super().__init__()
        for index in range(depth):
            self.add_module(f"denselayer{index + 1}", DenseLayer(inputs + index * growth, growth))

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, inputs + depth * growth, H, W)
        for layer in self.children():
            x = torch.cat([x, layer(x)], 1)
        return x


class Transition(nn.Sequential):
    """Between two blocks: half the channels, half the side."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(inputs, inputs // 2, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2)


class DenseNet(Model):
    classifier_name = "classifier"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        growth, depths = VARIANTS[name]
        first = 2 * growth
        kernel, stride = {"coarse": (7, 2), "imagenet": (7, 2), "medium": (3, 2), "small": (3, 1)}[stem]
        self.reduce = reducer(stem)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv0"] = nn.Conv2d(3, first, kernel, stride, kernel // 2, bias=False)
        layers["norm0"] = nn.BatchNorm2d(first)
        layers["relu0"] = nn.ReLU(inplace=True)
        layers["pool0"] = nn.MaxPool2d(3, 2, 1) if kernel == 7 else nn.Identity()
        channels = first
        for number, depth in enumerate(depths, start=1):
            layers[f"denseblock{number}"] = DenseBlock(channels, growth, depth)
            channels += depth * growth
            if number < len(depths):
                layers[f"transition{number}"] = Transition(channels)
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        self.feature_width = channels
        self.features = nn.Sequential(layers)  # the name is torchvision's
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        return torch.flatten(self.avgpool(self.relu(self.features(self.reduce(x)))), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: each dense block with the transition that ends it."""
        blocks = [Unit((f"features.denseblock{number}",), "dense") for number in range(1, 5)]
        body = (self.stage(f"stage {n}", blocks[n - 1], f"features.transition{n}") for n in range(1, 4))
        stem = self.stage("stem", "reduce", "features.conv0 features.norm0", "features.pool0")
        return stem, *body, self.stage("stage 4", blocks[3]), self.stage("head", "features.norm5 avgpool", "classifier")
