"""LeNet-5, AlexNet, VGG-11/13/16/19 and the plain CNN: convolutions, pools and linear layers, no shortcuts.

LeNet-5. Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings
of the IEEE 86(11), 1998, section II.B: layers C1 to F6, the connections of table I, the scaled tanh of eq. 6 and
appendix A, and its uniform initialization within 2.4 / fan-in. With grey images, C1 to F6 have the paper's 60,000
parameters. Deviations: C1 reads red, green and blue (300 weights more); a linear layer gives the class scores, where
the paper compares with drawn codes of characters; maps larger than those of 32 px are averaged to 5 x 5 points.

AlexNet. Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (arXiv:1404.5997): the
one-tower form of Krizhevsky, Sutskever, Hinton, NIPS 2012, as published by torchvision, whose parameter names these
are. Dropout of one half before both hidden linear layers is the paper's. Deviations: no local response normalisation
(torchvision has none); the map before the linear layers is averaged to 6 x 6 points. Under 63 px a side the third pool
would have nothing left: smaller images are enlarged first, until their shorter side is 63 px.

VGG. Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015
(arXiv:1409.1556), table 1, configurations A, B, D and E. Parameter names are torchvision's. Dropout of one half after
both hidden linear layers is the paper's. Deviations: the variants with a norm after each convolution came after the
paper (torchvision's `_bn`). The map before the linear layers is averaged to 7 x 7 points; where it is smaller than that
its points are repeated.

The plain CNN: convolution to 32, pool, convolution to 64, pool, linear: a baseline of courses and tutorials, without a
paper; what any architecture has to beat. Every 3x3 convolution is padded and followed by ReLU; the pools take the
largest of 2x2. Its linear layer weighs 16 x 16 points, those of an image of 64 px; other maps are averaged to them.

Each has one stem, its own, and takes every size from 32 px.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from facewright.models.blocks import FixedGrid, Model, Stage, Stem, Unit, initialize_convolutions

LENET_GRID = 5  # points along a side of the map that C5 reads, for 32 px

# Table I: the maps of S2 that each map of C3 reads.
READ_BY_SIX = ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5))
READ_BY_NINE = (
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2/3 a), which is 1 at 1 and -1 at -1 (appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """The mean of 2x2 points, times a coefficient, plus a bias: two parameters a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, channels, H, W) -> (B, channels, H / 2, W / 2)
        return functional.avg_pool2d(x, 2) * self.weight[:, None, None] + self.bias[:, None, None]


class PartialConvolution(nn.Module):
    """The 5x5 convolution of C3: each of its 16 maps reads some of the 6 maps of S2."""

    def __init__(self) -> None:
        super().__init__()
        self.six = nn.Conv2d(18, 6, 5, groups=6)
        self.nine = nn.Conv2d(36, 9, 5, groups=9)
        self.last = nn.Conv2d(6, 1, 5)

    def forward(self, x: Tensor) -> Tensor:  # (B, 6, H, W) -> (B, 16, H - 4, W - 4)
        read = (x[:, [row for rows in table for row in rows]] for table in (READ_BY_SIX, READ_BY_NINE))
        return torch.cat([self.six(next(read)), self.nine(next(read)), self.last(x)], 1)


class LeNet5(Model):
    classifier_name = "fc"
    feature_width = 84

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 6, 5)
        self.s2 = Subsampling(6)
        self.c3 = PartialConvolution()
        self.s4 = Subsampling(16)
        self.grid = FixedGrid(LENET_GRID)
        self.c5 = nn.Conv2d(16, 120, LENET_GRID)
        self.f6 = nn.Linear(120, self.feature_width)
        self.squash = ScaledTanh()
        self.fc = nn.Linear(self.feature_width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = 2.4 / module.weight[0].numel()
                nn.init.uniform_(module.weight, -bound, bound)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        for layer in (self.c1, self.s2, self.c3, self.s4):
            x = self.squash(layer(x))
        x = torch.flatten(self.squash(self.c5(self.grid(x))), 1)
        return self.squash(self.f6(x))

    def stages(self) -> tuple[Stage, ...]:
        layers = self.stage("layer 1", "c1", "s2"), self.stage("layer 2", "c3", "s4 grid")
        return *layers, self.stage("head", "c5", "f6", "fc")


HIDDEN = 4096  # of both hidden linear layers of VGG and AlexNet
VGG_WIDTHS = (64, 128, 256, 512, 512)  # channels of the convolutions before each pool

VGG_DEPTHS = {  # convolutions before each pool
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
ALEXNET_LAYERS = (  # inputs, outputs, kernel, stride, whether a pool follows
    *((3, 64, 11, 4, True), (64, 192, 5, 1, True)),
    *((192, 384, 3, 1, False), (384, 256, 3, 1, False), (256, 256, 3, 1, True)),
)
ALEXNET_SIDE = 63  # px: leaves 14, 6 and 2 points before, and 1 point after the third pool


class VGG(Model):
    classifier_name = "classifier.6"
    feature_width = HIDDEN

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width, depth in zip(VGG_WIDTHS, VGG_DEPTHS[name.removesuffix("_bn")], strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(inputs, width, 3, 1, 1))
                layers += [nn.BatchNorm2d(width)] if name.endswith("_bn") else []
                layers.append(nn.ReLU(inplace=True))
                inputs = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)  # the name is torchvision's
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(VGG_WIDTHS[-1] * 7 * 7, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, classes),
        )
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 4096): what the last linear layer reads
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier[:-1](x)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: the convolutions before each pool, each with its norm."""
        stages: list[Stage] = []
        parts: list[Unit] = []
        for index, layer in enumerate(self.features):
            path = f"features.{index}"
            if isinstance(layer, nn.Conv2d):
                parts.append(Unit((path,)))
            elif isinstance(layer, nn.BatchNorm2d):
                parts[-1] = Unit((*parts[-1].paths, path))
            elif isinstance(layer, nn.MaxPool2d):
                stages.append(Stage(f"stage {len(stages) + 1}", (*parts, Unit((path,)))))
                parts = []
        return *stages, self.stage("head", "avgpool", "classifier.0", "classifier.3", "classifier.6")


class Enlarge(nn.Module):
    """Enlarges images whose shorter side is under `side` px, bilinearly and in proportion; leaves others alone."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H', W'), min(H', W') >= side
        height, width = x.shape[-2:]
        shorter = min(height, width)
        if shorter >= self.side:
            return x
        size = [-(-height * self.side // shorter), -(-width * self.side // shorter)]  # rounded up
        return nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)


class AlexNet(Model):
    classifier_name = "classifier.6"
    feature_width = HIDDEN

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.enlarge = Enlarge(ALEXNET_SIDE)
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride, pooled in ALEXNET_LAYERS:
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, min(kernel // 2, 2)), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(3, 2)] if pooled else []
        self.features = nn.Sequential(*layers)  # the name is torchvision's
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(inplace=True),
            nn.Linear(HIDDEN, classes),
        )
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 4096): what the last linear layer reads
        x = torch.flatten(self.avgpool(self.features(self.enlarge(x))), 1)
        return self.classifier[:-1](x)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: what lies between two pools, and the three linear layers."""
        body = "features.2 features.3", "features.5 features.6", "features.8", "features.10 features.12"
        head = "avgpool", "classifier.1", "classifier.4", "classifier.6"
        return self.stage("stem", "features.0"), self.stage("body", *body), self.stage("head", *head)


PLAIN_GRID = 16  # points along a side of the plain CNN's last map, for 64 px


class PlainCNN(Model):
    classifier_name = "fc"
    feature_width = 64 * PLAIN_GRID**2

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 1, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1, 1)
        self.relu = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2)
        self.pool2 = nn.MaxPool2d(2)
        self.grid = FixedGrid(PLAIN_GRID)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.pool1(self.relu(self.conv1(x)))
        x = self.pool2(self.relu(self.conv2(x)))
        return torch.flatten(self.grid(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        layers = self.stage("layer 1", "conv1", "pool1"), self.stage("layer 2", "conv2", "pool2 grid")
        return *layers, self.stage("head", "fc")
