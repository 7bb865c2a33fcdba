"""PatchNet: a small network for patches of 64 px that can be slid over a whole photo in one pass.

Our own, after the first networks that found faces (Vaillant, Monrocq and LeCun 1994, "Original approach for the
localisation of objects in images"; Rowley, Baluja and Kanade 1998, "Neural network-based face detection"): every layer
is a convolution that pads nothing. So what the network says of a patch does not depend on whether the patch was cut out
first, and one pass over a photo gives the scores of all patches that lie 4 px apart; padding would let each patch see
its own black frame. At 64 px the last map has 8 x 8 points; two templates a channel weigh them (a depthwise convolution
over the whole map, as MobileFaceNet ends), and a linear layer weighs the templates.

Maps of images of other sizes are averaged to 8 x 8 points. It has one stem, its own, and takes every
size from 36 px.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from facewright.models.blocks import FixedGrid, Model, Stage, Stem, initialize_convolutions

LAYERS = ((16, 4, 2), (24, 3, 1), (32, 3, 2), (48, 3, 1), (64, 3, 1), (64, 3, 1))  # (outputs, kernel, stride) of each
GRID = 8  # points along a side of the last map, for 64 px
TEMPLATES = 2  # of the whole map, a channel


def unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution without padding, norm, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class PatchNet(Model):
    classifier_name: ClassVar[str] = "fc"

    def __init__(self, name: str, classes: int, stem: Stem = "imagenet") -> None:
        super().__init__()
        layers, inputs = [], 3
        for outputs, kernel, stride in LAYERS:
            layers.append(unit(inputs, outputs, kernel, stride))
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.grid = FixedGrid(GRID)
        self.feature_width = TEMPLATES * inputs
        self.templates = unit(inputs, self.feature_width, GRID, groups=inputs)
        self.fc = nn.Linear(self.feature_width, classes)
        initialize_convolutions(self)

    def forward_features(self, x: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, feature_width)
        return torch.flatten(self.templates(self.grid(self.layers(x))), 1)

    def stages(self) -> tuple[Stage, ...]:
        """The outline that tables and drawings follow: a stage a side of the map."""
        parts = self.units_in("layers")
        head = self.stage("head", "grid templates", "fc")
        return self.stage("half", *parts[:2]), self.stage("quarter", *parts[2:]), head
