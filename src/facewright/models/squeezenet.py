"""SqueezeNet 1.0 and 1.1: 1x1 convolutions that squeeze before those that expand; no linear layer at all.

Source: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters" (arXiv:1602.07360), table 1;
1.1 (2.4 times less arithmetic) is from the authors' code. Parameter names are torchvision's.
Dropout of one half before the last convolution is the paper's. The classifier is that last 1x1 convolution: it scores
every point of the map, and the positive scores are averaged; scores are therefore never negative. `forward_features`
gives the mean of the map that it reads; a head of another kind put in its place reads that mean.
Deviation: `stem` chooses how many of the four halvings (the first convolution and three pools) there are:

    coarse    2x2 mean, then as imagenet:         the last map is 1/32 of the side (112 px -> 3)
    imagenet  the paper's, nothing is padded:     1/16 (224 px -> 13)
    medium    the first convolution keeps the side, padded: 1/8
    small     that, and the first pool is absent: 1/4 (32 px -> 8)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import Model, Stage, Stem, first_strides, initialize_convolutions, reducer

FireShape = tuple[int, int]  # channels squeezed to, channels that each of the two expanding convolutions gives


@dataclass(frozen=True)
class Variant:
    first: int  # channels of the first convolution
    kernel: int  # of the first convolution
    stages: tuple[tuple[FireShape, ...], ...]  # a pool stands before each


VARIANTS = {
    "squeezenet1_0": Variant(
        96, 7, (((16, 64), (16, 64), (32, 128)), ((32, 128), (48, 192), (48, 192), (64, 256)), ((64, 256),))
    ),
    "squeezenet1_1": Variant(64, 3, (((16, 64),) * 2, ((32, 128),) * 2, ((48, 192), (48, 192), (64, 256), (64, 256)))),
}


class Fire(nn.Module):
    """1x1 down; then 1x1 and 3x3 up, side by side."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, 1, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, 2 * expanded, H, W)
        x = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(x)), self.relu(self.expand3x3(x))], 1)


class SqueezeNet(Model):
    classifier_name: ClassVar[str] = "classifier.1"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        variant = VARIANTS[name]
        stride, pool_stride = first_strides(stem)
        self.reduce = reducer(stem)
        padding = 0 if stride == 2 else variant.kernel // 2
        layers: list[nn.Module] = [nn.Conv2d(3, variant.first, variant.kernel, stride, padding), nn.ReLU(inplace=True)]
        inputs = variant.first
        for number, fires in enumerate(variant.stages):
            absent = number == 0 and pool_stride == 1
            layers.append(nn.Identity() if absent else nn.MaxPool2d(3, 2, ceil_mode=True))
            for squeezed, expanded in fires:
                layers.append(Fire(inputs, squeezed, expanded))
                inputs = 2 * expanded
        self.feature_width = inputs
        self.features = nn.Sequential(*layers)  # the name is torchvision's
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(inputs, classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
        )
        initialize_convolutions(self)
        nn.init.normal_(self.get_submodule(self.classifier_name).get_parameter("weight"), 0.0, 0.01)  # the authors'

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 512)
        features: Tensor = self.features(self.reduce(x)).mean((2, 3))
        return features

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        dropout, last, _, _ = self.classifier
        if isinstance(last, nn.Conv2d):
            return torch.flatten(self.classifier(self.features(self.reduce(x))), 1)
        scores: Tensor = last(dropout(self.forward_features(x)))
        return scores

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: each pool with the fire modules behind it."""
        groups = [["reduce", "features.0"]]
        for index, layer in enumerate(self.features):
            if isinstance(layer, nn.MaxPool2d) or index == 2:  # the first pool, or what stands in its place
                groups.append([])
            if isinstance(layer, nn.MaxPool2d | Fire):
                groups[-1].append(f"features.{index}")
        stem, *body = groups
        stages = (self.stage(f"stage {number}", *parts) for number, parts in enumerate(body, start=1))
        return self.stage("stem", *stem), *stages, self.stage("head", "classifier.1", "classifier.3")
