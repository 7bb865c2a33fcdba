"""VGG-11/13/16/19 with and without batch normalisation, and AlexNet: convolutions, pools and three linear layers.

Source: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015
(arXiv:1409.1556), table 1, configurations A, B, D and E. Parameter names are torchvision's. Dropout of one half after
both hidden linear layers is the paper's. Deviations: the variants with a norm after each convolution came after the
paper (torchvision's `_bn`). The map before the linear layers is averaged to 7 x 7 points, so images of every size from
32 px fit; where it is smaller than that its points are repeated. Only the imagenet stem: there is no stride to drop,
and the linear layers are sized for it.

AlexNet has five convolutions. Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks"
(arXiv:1404.5997): the one-tower form of Krizhevsky, Sutskever, Hinton, NIPS 2012, with 64, 192, 384, 256, 256 channels,
as published by torchvision, whose parameter names these are. Dropout of one half before both hidden linear layers is
the paper's. Deviations: no local response normalisation (torchvision has none); the map before the linear layers is
averaged to 6 x 6 points, so images of every size fit. Under 63 px a side the third pool would have nothing left:
smaller images are enlarged first, until their shorter side is 63 px. Only the imagenet stem: the linear layers are
sized for its map.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, Stage, Stem, Unit, initialize_convolutions

WIDTHS = (64, 128, 256, 512, 512)  # channels of the convolutions before each pool
HIDDEN = 4096


DEPTHS = {  # convolutions before each pool
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
ALEXNET_SIDE = 63  # px: leaves 14, 6 and 2 points before, and 1 point after the third pool


class VGG(Model):
    classifier_name: ClassVar[str] = "classifier.6"
    feature_width = HIDDEN

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width, depth in zip(WIDTHS, DEPTHS[name.removesuffix("_bn")], strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(inputs, width, 3, 1, 1))
                layers += [nn.BatchNorm2d(width)] if name.endswith("_bn") else []
                layers.append(nn.ReLU(inplace=True))
                inputs = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)  # the name is torchvision's
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(WIDTHS[-1] * 7 * 7, HIDDEN),
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
        features: Tensor = self.classifier[:-1](x)
        return features

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
    classifier_name: ClassVar[str] = "classifier.6"
    feature_width = HIDDEN

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.enlarge = Enlarge(ALEXNET_SIDE)
        self.features = nn.Sequential(  # the name is torchvision's
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, 1, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
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
        features: Tensor = self.classifier[:-1](x)
        return features

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: what lies between two pools, and the three linear layers."""
        body = "features.2 features.3", "features.5 features.6", "features.8", "features.10 features.12"
        head = "avgpool", "classifier.1", "classifier.4", "classifier.6"
        return self.stage("stem", "features.0"), self.stage("body", *body), self.stage("head", *head)
