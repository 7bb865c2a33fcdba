"""The plain CNN of two layers: what any architecture has to beat.

Convolution to 32, pool, convolution to 64, pool, linear: a baseline of courses and tutorials, without a paper. Every
3x3 convolution is padded and followed by ReLU; the pools take the largest of 2x2.
Its linear layer weighs 16 x 16 points, those of an image of 64 px; maps of other sizes are averaged to them. There is
one stem, its own; every size from 32 px fits.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import FixedGrid, Model, Stage, Stem, initialize_convolutions

GRID = 16  # points along a side of the last map, for 64 px


class PlainCNN(Model):
    classifier_name: ClassVar[str] = "fc"
    feature_width = 64 * GRID**2

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 1, 1)
        self.conv2 = nn.Conv2d(32, 64, 3, 1, 1)
        self.relu = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2)
        self.pool2 = nn.MaxPool2d(2)
        self.grid = FixedGrid(GRID)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        x = self.pool1(self.relu(self.conv1(x)))
        x = self.pool2(self.relu(self.conv2(x)))
        return torch.flatten(self.grid(x), 1)

    def stages(self) -> tuple[Stage, ...]:
        layers = self.stage("layer 1", "conv1", "pool1"), self.stage("layer 2", "conv2", "pool2 grid")
        return *layers, self.stage("head", "fc")
