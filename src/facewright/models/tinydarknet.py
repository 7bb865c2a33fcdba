"""Tiny Darknet, and a face net of 1x1 convolutions: networks that fit a small device.

Source: J. Redmon, "Tiny Darknet" (pjreddie.com/darknet/tiny-darknet; `cfg/tiny.cfg` of darknet): 3x3 and 1x1
convolutions with norm and leaky ReLU, four max pools, a mean over the map.
Deviation: the last 1x1 convolution (to the classes) and the mean over the map that follows it change places, which
changes no score but makes it the linear layer that every network of this zoo ends in.

The face net looks at each pixel alone, as a detector of skin would: 1x1 convolution to 16, 2x2 max pool, 1x1
convolution to 32, flatten, linear. Its linear layer weighs 16 x 16 points, those of an image of 32 px; maps of other
sizes are averaged to them. Where its designers end in one sigmoid, two classes' scores differ by the same logit.

Both have one stem, their own, and take every size from 32 px.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import FixedGrid, Model, Stage, Stem, Unit, initialize_convolutions

POOL = 0  # stands for a max pool in the table below
LAYERS = (  # (outputs, kernel) of each convolution, as in the configuration file
    *((16, 3), POOL, (32, 3), POOL),
    *((16, 1), (128, 3), (16, 1), (128, 3), POOL),
    *((32, 1), (256, 3), (32, 1), (256, 3), POOL),
    *((64, 1), (512, 3), (64, 1), (512, 3), (128, 1)),
)
FACE_GRID = 16  # points along a side of the face net's last map, for 32 px


class ConvUnit(nn.Module):
    """Convolution, norm, leaky ReLU with a slope of 0.1."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, 1, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.relu = nn.LeakyReLU(0.1, inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, inputs, H, W) -> (B, outputs, H, W)
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


class TinyDarknet(Model):
    classifier_name: ClassVar[str] = "fc"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for layer in LAYERS:
            if isinstance(layer, int):
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
            else:
                layers.append(ConvUnit(inputs, *layer))
                inputs = layer[0]
        self.feature_width = inputs
        self.layers = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        return torch.flatten(self.avgpool(self.layers(x)), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: a stage a side of the map."""
        stages: list[list[Unit]] = [[]]
        for layer, unit in zip(LAYERS, self.units_in("layers"), strict=True):
            if layer == POOL:
                stages.append([])
            stages[-1].append(unit)
        body = (self.stage(f"stage {number}", *parts) for number, parts in enumerate(stages, start=1))
        return *body, self.stage("head", "avgpool", "fc")


class PointwiseFaceNet(Model):
    """Images to class scores, each point by itself until the last layer."""

    classifier_name: ClassVar[str] = "fc"
    feature_width = 32 * FACE_GRID**2

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 1)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 1)
        self.relu = nn.ReLU(inplace=True)
        self.grid = FixedGrid(FACE_GRID)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.relu(self.conv2(self.pool(self.relu(self.conv1(x)))))
        return torch.flatten(self.grid(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        return self.stage("body", "conv1", "pool", "conv2 grid"), self.stage("head", "fc")
